# SPDX-License-Identifier: Apache-2.0
"""An edge that is its own registrar: phones register, and are called over the very flow that they
opened, and nobody else's.

covers: edge/role.c, edge/fork.c, registrar/register.c, store/store.c
"""
import hashlib
import os
import re
import subprocess
import time

from kit import ends, sip
from kit.case import case
from kit.ends import check, equal, until

DOMAIN = "example.com"


def config(t, workers=1, auth="none", node=None, **registrar):
    state = os.path.join(t.folder, "state")
    os.makedirs(state, exist_ok=True)
    return {
        "node": {"name": "edge-1", "workers": workers, **(node or {})},
        "listeners": [{"bind": f"udp://{t.ip(1)}:5060", "side": "outside"},
                      {"bind": f"tcp://{t.ip(1)}:5060", "side": "outside"},
                      {"bind": f"udp://{t.ip(2)}:5060", "side": "inside"}],
        "routes": [{"from": "outside", "to": "registrar"}, {"from": "inside", "to": "registrar"}],
        "roles": {"registrar": {"domains": [DOMAIN], "auth": auth, "state": state,
                                "expires": {"jitter": "0%"}, **registrar}},
    }


class Phone:
    """A user agent with one or more flows: connections, or a UDP socket."""

    def __init__(self, t, n, name, flows=("tcp",), instance=None, invite=((0, 180), (0, 200))):
        self.t, self.n, self.name, self.instance = t, n, name, instance
        self.end = t.server(n, invite=invite)
        self.ways = [t.outside if tp == "udp" else self.end.connect(t.outside) for tp in flows]
        self.call_ids = [sip.fresh("reg") for _ in self.ways]
        self.cseq = 0

    def contact(self, way, params=""):
        if self.instance:
            urn = f"<urn:uuid:00000000-0000-4000-8000-{self.instance:012d}>"
            params += f';reg-id={way + 1};+sip.instance="{urn}"'
        tail = ";transport=tcp" if isinstance(self.ways[way], ends.Conn) else ""
        tail += ";ob" if self.instance else ""
        # As behind a NAT: an address that leads nowhere.
        return f"<sip:{self.name}@192.168.{self.n}.{way + 2}:5060{tail}>{params}"

    def ask(self, way=0, contacts=None, extra=(), to=None, uri=f"sip:{DOMAIN}"):
        """Sends a REGISTER, returns its final answer."""
        self.cseq += 1
        hop, branch = self.ways[way], sip.fresh("z9hG4bK")
        transport = "TCP" if isinstance(hop, ends.Conn) else "UDP"
        contacts = [self.contact(way)] if contacts is None else contacts
        headers = [("Via", f"SIP/2.0/{transport} 192.168.1.2:5060;rport;branch={branch}"),
                   ("Max-Forwards", "70"), ("From", f"<sip:{self.name}@{DOMAIN}>;tag=r"),
                   ("To", f"<sip:{to or self.name}@{DOMAIN}>"), ("Call-ID", self.call_ids[way]),
                   ("CSeq", f"{self.cseq} REGISTER"), ("Supported", "path, outbound")]
        headers += [("Contact", c) for c in contacts] + list(extra)
        self.end.send(sip.build(f"REGISTER {uri} SIP/2.0", headers), hop)
        return self.end.wait(lambda m: m.status is not None and m.status >= 200
                             and m.branch == branch, 5, "an answer to REGISTER")

    def register(self, way=0, params=""):
        got = self.ask(way, [self.contact(way, params)])
        equal(got.status, 200, f"REGISTER of {self.name}")
        return got

    def unregister(self, way=0):
        equal(self.ask(way, [self.contact(way, ";expires=0")]).status, 200, "REGISTER, expires=0")

    def rang(self):
        return [m for m in self.end.seen("INVITE") if m.conn or self.ways[0] == self.t.outside]


def call(t, n, to, **kw):
    return t.call(t.end(n), uri=f"sip:{to}@{DOMAIN}", **kw)


def bindings(weir, name=None):
    return [b for b in weir.show("bindings") if name is None or b["aor"] == f"{name}@{DOMAIN}"]


for workers in (1, 3):
    @case(f"registrar: register and be called, over TCP and UDP ({workers} workers)", timeout=60)
    def _(t, workers=workers):
        weir = t.weir(config(t, workers))
        for n, flows in ((10, ("tcp",)), (11, ("udp",)), (12, ("tcp",)), (13, ("udp",))):
            phone = Phone(t, n, f"bob{n}", flows)
            got = phone.register()
            check("expires=600" in got.get("contact"), f"granted: {got.get('contact')}")
            equal(phone.end.udp is not None, True, "the phone's socket")
            one = call(t, 100 + n, phone.name)
            one.whole()
            invite = phone.end.invites()[-1]
            equal(invite.uri, sip.uri_of(phone.contact(0)), "the Request-URI is the contact")
            if flows == ("tcp",):
                check(invite.conn is phone.ways[0], "over the connection of the REGISTER")
            acked = phone.end.seen("ACK")
            equal(len(acked), 1, "ACK")
        equal(len(bindings(weir)), 4, "bindings")
        weir.logged(lambda r: r["method"] == "REGISTER" and r["status"] == 200, 4)


@case("registrar: a call to nobody, and to a stranger")
def _(t):
    t.weir(config(t))
    equal(call(t, 100, "nobody").invite().final().status, 404, "never seen")
    phone = Phone(t, 10, "bob")
    phone.register()
    phone.unregister()
    equal(call(t, 101, "bob").invite().final().status, 480, "seen, and gone")
    other = t.call(t.end(102), uri="sip:bob@elsewhere.test")
    equal(other.invite().final().status, 404, "another domain")


@case("registrar: all phones ring, one answers, the others stop")
def _(t):
    t.weir(config(t))
    slow = Phone(t, 10, "bob", invite=((0, 180),))
    udp = Phone(t, 11, "bob", ("udp",), invite=((0, 180),))
    quick = Phone(t, 12, "bob", invite=((0, 180), (0.3, 200)))
    for phone in (slow, udp, quick):
        phone.register()
    one = call(t, 100, "bob").invite()
    equal(one.final().status, 200, "INVITE")
    for phone in (slow, udp):
        phone.end.wait(lambda m: m.method == "CANCEL" and m.status is None, 5, "a CANCEL")
        ack = phone.end.wait(lambda m: m.method == "ACK", 5, "the ACK of the 487")
        equal(ack.uri, phone.end.invites()[0].uri, "each ACK as its INVITE")
    equal(quick.end.seen("CANCEL"), [], "who answered is not cancelled")
    equal(one.bye().status, 200, "BYE")
    equal(len(quick.end.seen("BYE")), 1, "BYE")


@case("registrar: by q, and the best final goes up")
def _(t):
    t.weir(config(t))
    first = Phone(t, 10, "bob", invite=((0, 180), (0.1, 486)))
    second = Phone(t, 11, "bob", ("udp",), invite=((0, 404),))
    third = Phone(t, 12, "bob", invite=((0, 500),))
    first.register(params=";q=1.0")
    second.register(params=";q=0.5")
    third.register(params=";q=0.5")
    equal(call(t, 100, "bob").invite().final().status, 486, "486, 404, 500")
    check(first.end.invites()[0].at + 0.05 < second.end.invites()[0].at, "one after the other")
    second.end.invite = ((0, 603),)
    equal(call(t, 101, "bob").invite().final().status, 603, "603")


@case("registrar: a CANCEL stops every phone")
def _(t):
    t.weir(config(t))
    phones = [Phone(t, 10, "bob", invite=((0, 180),)),
              Phone(t, 11, "bob", ("udp",), invite=((0, 180),))]
    for phone in phones:
        phone.register()
    one = call(t, 100, "bob").invite()
    one.provisional(180)
    one.provisional(180)
    one.cancel()
    equal(one.final().status, 487, "INVITE")
    for phone in phones:
        phone.end.wait(lambda m: m.method == "CANCEL" and m.status is None, 5, "a CANCEL")


for workers in (1, 3):
    @case(f"registrar: two flows of one phone, and one is cut under a call ({workers} workers)",
          timeout=60)
    def _(t, workers=workers):
        weir = t.weir(config(t, workers))
        phone = Phone(t, 10, "bob", ("tcp", "tcp"), instance=7)
        phone.register(0)
        phone.register(1)
        equal(len(bindings(weir, "bob")), 2, "bindings")
        one = call(t, 100, "bob")
        one.whole()
        equal(len(phone.end.invites()), 1, "one ringing per phone")
        check(phone.end.invites()[0].conn is phone.ways[1], "over the newest flow")
        # Nobody answers on that flow any more; then it is cut, and the other rings at once.
        phone.end.hook = lambda m: m.method == "INVITE" and m.conn is phone.ways[1]
        two = call(t, 101, "bob").invite()
        until(lambda: len(phone.end.invites()) == 2, "the INVITE on the flow that will be cut")
        cut = time.monotonic()
        phone.ways[1].reset()
        equal(two.final().status, 200, "INVITE")
        rings = phone.end.invites()[2]
        check(rings.conn is phone.ways[0], "over the other flow")
        check(rings.at - cut < 1.0, f"at once: {rings.at - cut:.3f} s")
        until(lambda: len(bindings(weir, "bob")) == 1, "the dead flow's binding is gone")
        equal(two.bye().status, 200, "BYE")
        # The last one is cut before a call.
        phone.ways[0].reset()
        until(lambda: not bindings(weir, "bob"), "no binding is left")
        equal(call(t, 102, "bob").invite().final().status, 480, "nobody is there")


@case("registrar: a phone that came by another edge says 430, and is rung by its other way")
def _(t):
    weir = t.weir({**config(t), "trusted": [f"{t.ip(10)}/32"]})
    phone = Phone(t, 10, "bob", ("udp", "udp"), instance=7)
    phone.ways = [(t.ip(2), 5060), (t.ip(2), 5060)]
    for way in (0, 1):
        path = f"<sip:token{way}@{phone.end.hostport};lr;ob>"
        equal(phone.ask(way, extra=[("Path", path)]).status, 200, "REGISTER")
    phone.end.hook = lambda m: m.method == "INVITE" and "token1" in m.get("route") and \
        (phone.end.say(m, 430) or True)
    one = call(t, 100, "bob").invite()
    equal(one.final().status, 200, "INVITE")
    routes = [m.get("route") for m in phone.end.invites()]
    equal([re.search("token[01]", r).group() for r in routes], ["token1", "token0"], "the ways")
    equal([b["reg_id"] for b in bindings(weir, "bob")], [1], "the other binding is gone")


@case("registrar: query, refresh, unregister one and all")
def _(t):
    weir = t.weir(config(t))
    phone = Phone(t, 10, "bob", ("tcp", "udp"))
    phone.register(0)
    phone.register(1)
    got = phone.ask(contacts=[])
    equal(len(got.all("contact")), 2, "the query's answer")
    phone.register(0, ";expires=120")
    got = phone.ask(contacts=[])
    check(any("expires=120" in c for c in got.all("contact")), f"refreshed: {got.all('contact')}")
    phone.unregister(1)
    equal(len(bindings(weir, "bob")), 1, "one is left")
    equal(phone.ask(contacts=["*"], extra=[("Expires", "0")]).status, 200, "REGISTER, *")
    equal(bindings(weir, "bob"), [], "none is left")


@case("registrar: bad REGISTERs")
def _(t):
    t.weir(config(t, contacts=2))
    phone = Phone(t, 10, "bob")
    equal(phone.ask(contacts=[phone.contact(0, ";expires=5")]).status, 423, "too brief")
    many = [f"<sip:bob@192.168.9.{n}>" for n in range(3)]
    equal(phone.ask(contacts=many).status, 403, "too many")
    equal(phone.ask(contacts=["<sip:bob@["]).status, 400, "broken")
    equal(phone.ask(contacts=["*"]).status, 400, "* without Expires: 0")
    equal(phone.ask(extra=[("Require", "teleport")]).status, 420, "unknown Require")
    equal(phone.ask(uri="sip:elsewhere.test").status, 403, "another domain")
    phone.register()


@case("registrar: bindings expire", timeout=40)
def _(t):
    weir = t.weir(config(t, expires={"min": "1s", "default": "2s", "max": "10s", "jitter": "0%"}))
    phone = Phone(t, 10, "bob")
    phone.register()
    equal(len(bindings(weir, "bob")), 1, "bindings")
    until(lambda: not bindings(weir, "bob"), "it expires", 10)
    equal(call(t, 100, "bob").invite().final().status, 480, "INVITE")


@case("registrar: what was acknowledged is there after kill -9; a dead flow is not believed")
def _(t):
    plan = config(t)
    weir = t.weir(plan)
    phone, udp = Phone(t, 10, "bob"), Phone(t, 11, "carol", ("udp",))
    phone.register()
    udp.register()
    weir.kill()
    weir.may_die = True
    again = t.weir(plan, name="again")
    equal(len(bindings(again)), 2, "bindings after the restart")
    equal(call(t, 100, "carol").invite().final().status, 200, "over UDP")
    equal(call(t, 101, "bob").invite().final().status, 480, "its connection is gone")
    phone.ways[0] = phone.end.connect(t.outside)
    phone.register()
    equal(call(t, 102, "bob").invite().final().status, 200, "it came back")


@case("registrar: weir show bindings and weir unbind")
def _(t):
    weir = t.weir(config(t, workers=2))
    for n in range(4):
        Phone(t, 10 + n, f"bob{n}").register()
    equal(sorted(b["aor"] for b in bindings(weir)), [f"bob{n}@{DOMAIN}" for n in range(4)], "all")
    status, out, err = weir.command("show", "bindings", f"bob1@{DOMAIN}")
    check(status == 0 and "bob1@" in out and "bob2@" not in out, f"one: {status} {out} {err}")
    status, out, err = weir.command("unbind", f"bob1@{DOMAIN}")
    equal(status, 0, f"unbind: {out} {err}")
    equal(bindings(weir, "bob1"), [], "bob1")
    equal(len(bindings(weir)), 3, "the others")


# ---- digest ------------------------------------------------------------------------------------

REALM, PASSWORD = DOMAIN, "secret"


def ha1(name, algorithm):
    return hashlib.new(algorithm, f"{name}:{REALM}:{PASSWORD}".encode()).hexdigest()


def credentials(t, algorithms=("md5", "sha256")):
    path = os.path.join(t.folder, "users")
    with open(path, "w", encoding="utf-8") as f:
        for name in ("bob", "old"):
            f.write(":".join([name, REALM, *(ha1(name, a) for a in algorithms)]) + "\n")
    os.chmod(path, 0o600)
    return {"digest": path}


def challenges(msg):
    """{algorithm: nonce} of a 401."""
    out = {}
    for name, value in msg.headers:
        if name == "www-authenticate":
            words = dict(re.findall(r'(\w+)="?([^",]*)"?', value))
            out[words.get("algorithm", "MD5").upper()] = words["nonce"]
    return out


def response(name, algorithm, nonce, nc=1, password=None, uri=f"sip:{DOMAIN}", first=None):
    digest = {"MD5": "md5", "SHA-256": "sha256"}[algorithm]

    def h(text):
        return hashlib.new(digest, text.encode()).hexdigest()
    first = first or h(f"{name}:{REALM}:{password or PASSWORD}")
    cnonce, count = "c0ffee", f"{nc:08x}"
    proof = h(f"{first}:{nonce}:{count}:{cnonce}:auth:{h(f'REGISTER:{uri}')}")
    return ("Authorization", f'Digest username="{name}", realm="{REALM}", nonce="{nonce}", '
            f'uri="{uri}", qop=auth, nc={count}, cnonce="{cnonce}", response="{proof}", '
            f"algorithm={algorithm}")


@case("registrar: digest by MD5 and by SHA-256, replays, wrong passwords, unknown users")
def _(t):
    t.weir(config(t, auth=credentials(t)))
    bob = Phone(t, 10, "bob")
    got = bob.ask()
    equal(got.status, 401, "without credentials")
    nonces = challenges(got)
    equal(sorted(nonces), ["MD5", "SHA-256"], "both are offered")
    for algorithm in ("SHA-256", "MD5"):
        proof = response("bob", algorithm, nonces[algorithm])
        equal(bob.ask(extra=[proof]).status, 200, f"{algorithm}")
        equal(bob.ask(extra=[proof]).status, 401, f"{algorithm}: replayed")
        again = response("bob", algorithm, nonces[algorithm], nc=2)
        equal(bob.ask(extra=[again]).status, 200, f"{algorithm}: next count")
    fresh = challenges(bob.ask())
    wrong = response("bob", "MD5", fresh["MD5"], password="guess")
    equal(bob.ask(extra=[wrong]).status, 401, "a wrong password")
    forged = response("bob", "MD5", "x" + fresh["MD5"][1:])
    equal(bob.ask(extra=[forged]).status, 401, "a forged nonce")
    stranger = Phone(t, 11, "mallory")
    equal(stranger.ask().status, 401, "an unknown user is asked as well")
    lie = response("mallory", "MD5", challenges(stranger.ask())["MD5"])
    equal(stranger.ask(extra=[lie]).status, 401, "and not told that he is unknown")
    theirs = response("bob", "MD5", challenges(bob.ask())["MD5"])
    equal(bob.ask(to="old", extra=[theirs]).status, 403, "somebody else's address")
    equal(call(t, 100, "bob").invite().final().status, 200, "INVITE")


@case("registrar: sipsak registers with digest")
def _(t):
    auth = {**credentials(t, ["md5"]), "realm": REALM}  # it knows no other, and takes the first
    weir = t.weir(config(t, auth=auth, domains=[t.ip(1)]))  # sipsak insists on a name that resolves
    done = subprocess.run(["sipsak", "-U", "-x", "120", "-a", PASSWORD, "-u", "bob", "-s",
                           f"sip:bob@{t.ip(1)}", "-C", f"sip:bob@{t.ip(20)}:5060", "-v"],
                          capture_output=True, text=True, timeout=15, check=False)
    equal(done.returncode, 0, f"sipsak: {done.stdout[-500:]} {done.stderr[-300:]}")
    equal([b["aor"] for b in bindings(weir)], [f"bob@{t.ip(1)}"], "bindings")


@case("registrar: SIPp calls a registered phone, 200 times", timeout=60, heavy=True)
def _(t):
    weir = t.weir(config(t, workers=2))
    phone = Phone(t, 10, "service", ("udp",))
    phone.register()
    load = t.sipp("uac", t.ip(100), 5060, dest=t.outside, calls=200, rate=100,
                  options=["-s", "service", "-rsa", f"{t.ip(1)}:5060"])
    load.done(200, 50)
    equal(len(phone.end.invites()), 200, "INVITEs")
    check(weir.alive(), "weir lives")
