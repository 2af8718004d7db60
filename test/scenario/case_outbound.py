# SPDX-License-Identifier: Apache-2.0
"""Phones behind NATs, an edge, and a registrar behind it that is somebody else's: what leads to a
phone goes down the very connection that it registered over.

covers: edge/path.c, edge/record.c, edge/keepalive.c, flow/phone.c
"""
import os
import re
import time

from kit import ends, procs, sip
from kit.case import case
from kit.ends import check, equal, until

from case_kamailio import have_kamailio

PRIVATE = "192.168.9.9:5060"  # of every phone here, as behind NATs: it leads nowhere


class Registrar(procs.Kamailio):
    """Kamailio with its registrar."""

    def __init__(self, folder, ip, path):
        with open(os.path.join(procs.ROOT, "test/scenario/registrar.cfg"), encoding="utf-8") as f:
            text = f.read()
        name = os.path.join(folder, "registrar.cfg")
        with open(name, "w", encoding="utf-8") as f:
            f.write(text.replace("@LISTEN@", f"{ip}:5060").replace("@PATH@", str(int(path))))
        procs.Proc.__init__(self, folder, "registrar", [
            "kamailio", "-f", name, "-DD", "-E", "-m", "32", "-M", "8", "-Y", folder, "-n", "1",
            "-N", "1"])
        until(lambda: not self.alive() or procs.listening(ip, 5060), "kamailio", 15)
        check(self.alive(), f"kamailio ended at start:\n{self.output()[-2000:]}")


class Phone(ends.Server):
    """A user agent. `tp`: "udp" or "tcp"."""

    def __init__(self, t, n, name, tp, edge=None, port=5060):
        super().__init__(t.ip(n), port)
        self.name, self.tp, self.edge = name, tp, edge or t.outside
        self.way = self.edge if tp == "udp" else self.connect(self.edge, port)
        self.cseq, self.call_id = 0, sip.fresh("reg")

    def uri(self, user="ua", transport=None):
        tail = ";transport=tcp" if self.tp == "tcp" else ""
        return f"sip:{self.name}@{PRIVATE}{tail}"

    def register(self, contact=None, extra=()):
        self.cseq += 1
        branch = sip.fresh("z9hG4bK")
        contact = contact or f"<{self.uri()}>;expires=600"
        self.send(sip.build("REGISTER sip:example.com SIP/2.0", [
            ("Via", f"SIP/2.0/{self.tp.upper()} {PRIVATE};rport;branch={branch}"),
            ("Max-Forwards", "70"), ("From", f"<sip:{self.name}@example.com>;tag=r"),
            ("To", f"<sip:{self.name}@example.com>"), ("Call-ID", self.call_id),
            ("CSeq", f"{self.cseq} REGISTER"), ("Supported", "path"), ("Contact", contact),
            *extra]), self.way)
        got = self.wait(lambda m: m.status is not None and m.status >= 200 and m.branch == branch,
                        8, "an answer to REGISTER")
        equal(got.status, 200, f"REGISTER of {self.name}")
        return got


def outbound(t, path, **more):
    t.keep(Registrar(t.folder, t.ip(20), path == "header"))
    return t.edge([f"udp://{t.ip(20)}:5060"], outbound={"path": path}, **more)


def ring(t, caller, phone, others):
    """A whole call to a phone that nobody else sees; then it hangs up by itself."""
    before = [len(o.invites()) for o in others]
    call = ends.Call(caller, t.outside, uri=f"sip:{phone.name}@example.com")
    equal(call.invite().final().status, 200, f"a call to {phone.name}")
    request = phone.invites()[-1]
    equal(request.uri, phone.uri(), "the Request-URI is what the phone wrote")
    equal(request.all("route"), [], "no route is left")
    ack = phone.wait(lambda m: m.method == "ACK" and m.call_id == call.call_id, 5, "the ACK")
    equal(bool(ack.conn), phone.tp == "tcp", "the ACK comes down the flow")
    equal(call.bye().status, 200, "BYE by the caller")
    equal([len(o.invites()) for o in others], before, "calls that others saw")
    again = ends.Call(caller, t.outside, uri=f"sip:{phone.name}@example.com")
    equal(again.invite().final().status, 200, "a second call")
    hang_up(phone, caller)


def hang_up(phone, caller):
    invite = phone.invites()[-1]
    data = sip.build(f"BYE {invite.contact_uri()} SIP/2.0", [
        ("Via", f"SIP/2.0/{phone.tp.upper()} {PRIVATE};rport;branch={sip.fresh('z9hG4bK')}"),
        ("Max-Forwards", "70"), *(("Route", r) for r in invite.all("record-route")),
        ("From", f"{invite.get('to')};tag={phone.tag}"), ("To", invite.get("from")),
        ("Call-ID", invite.call_id), ("CSeq", "1 BYE")])
    phone.send(data, phone.way)
    bye = caller.wait(lambda m: m.status is None and m.method == "BYE", 5, "the phone's BYE")
    caller.answer(bye, sip.reply(bye, 200))
    phone.wait(lambda m: m.status == 200 and m.method == "BYE", 5, "200 to the phone's BYE")


for mode in ("header", "contact"):
    for kinds in (("tcp", "tcp"), ("udp", "udp"), ("udp", "tcp")):
        @case(f"two phones with equal private addresses behind Kamailio's registrar, {mode}, "
              f"{' and '.join(kinds)}", shows=have_kamailio, timeout=60)
        def _(t, mode=mode, kinds=kinds):
            weir = outbound(t, mode)
            # One NAT, two mappings.
            phones = [t.keep(Phone(t, 50, f"phone{i}", tp, port=40001 + i))
                      for i, tp in enumerate(kinds)]
            caller = t.end(100)
            for phone in phones:
                got = phone.register()
                equal([sip.uri_of(c) for c in got.all("contact")], [phone.uri()],
                      "the Contact comes back as it was written")
            ring(t, caller, phones[0], phones[1:])
            ring(t, caller, phones[1], phones[:1])
            counters = weir.counters()
            equal((counters["tokens_bad"], counters["flows_failed"]), (0, 0), "all found their way")
            # A call from phone to phone: both ends of the dialog are flows.
            call = ends.Call(phones[0], phones[0].way, uri="sip:phone1@example.com")
            equal(call.invite().final().status, 200, "a call between them")
            equal(call.bye().status, 200, "BYE between them")


    @case(f"a phone whose connection broke is not called, nor who has its port now, {mode}",
          shows=have_kamailio, timeout=60)
    def _(t, mode=mode):
        weir = outbound(t, mode)
        phone = t.keep(Phone(t, 50, "alice", "tcp", port=40001))
        phone.register()
        caller = t.end(100)
        ring(t, caller, phone, [])
        phone.way.reset()
        until(lambda: not [r for r in weir.show("flows") if r["side"] == "outside"],
              "the connection to be gone")
        # The NAT gives the port to somebody else.
        other = t.keep(Phone(t, 51, "bob", "tcp", port=40001))
        got = ends.Call(caller, t.outside, uri="sip:alice@example.com").invite().final()
        check(got.status in (430, 480, 500), f"nobody can be reached: {got.status}")
        equal((len(other.invites()), weir.counters()["flows_failed"]), (0, 1), "bob's calls")
        # Back from the same port: reachable again once it has registered.
        phone.way = until(lambda: reconnected(phone), "the port")
        phone.register()
        ring(t, caller, phone, [other])


def reconnected(phone):
    try:
        return phone.connect(phone.edge, 40001)
    except OSError:
        return None


@case("a NAT that gives a UDP port to another phone: the calls of the first do not ring there",
      timeout=60)
def _(t):
    registrar = t.server(10)
    weir = t.edge([registrar])
    proxy = t.end(90)
    first = t.keep(Phone(t, 50, "alice", "udp", port=40001))
    first.register()
    path = registrar.seen("REGISTER")[-1].get("path")
    first.close()
    time.sleep(27)  # longer than we take an address for the same phone's
    second = t.keep(Phone(t, 50, "bob", "udp", port=40001))
    second.register()
    new_path = registrar.seen("REGISTER")[-1].get("path")

    def ask(route, user):
        return ends.Call(proxy, (t.ip(2), 5060), uri=f"sip:{user}@{PRIVATE}").ask(
            "MESSAGE", extra=[("Route", route)])
    equal(ask(path, "alice").status, 430, "for alice")
    equal(ask(new_path, "bob").status, 200, "for bob")
    equal(len(second.seen("MESSAGE")), 1, "what bob got")
    equal(weir.counters()["flows_failed"], 1, "flows_failed")


def two_edges(t, registrar):
    """The phone's edge (node 2) and another one (node 1), which know each other."""
    secret = os.path.join(t.folder, "tokens")
    with open(secret, "w", encoding="ascii") as f:
        f.write("a secret that two edges share\n")
    os.chmod(secret, 0o600)
    edges = []
    for node, first in ((2, 3), (1, 1)):
        config = t.config([registrar], secrets={"tokens": secret})
        config["node"].update({"name": f"edge-{node}", "id": node})
        for i, side in enumerate(("outside", "outside", "inside", "inside")):
            tp = ("udp", "tcp")[i % 2]
            config["listeners"][i]["bind"] = f"{tp}://{t.ip(first + (side == 'inside'))}:5060"
        config["trusted"] = [f"{t.ip(n)}/32" for n in (2, 4, 90)]
        config["fleet"] = [{"id": 3 - node, "inside": f"udp://{t.ip({3: 2, 1: 4}[first])}:5060"}]
        edges.append(t.weir(config))
    return edges


for tp in ("tcp", "udp"):
    @case(f"a token of another edge goes to that edge, {tp}", timeout=60)
    def _(t, tp=tp):
        registrar = t.server(10)
        holder, other = two_edges(t, registrar)
        proxy = t.end(90)
        phone = t.keep(Phone(t, 50, "alice", tp, edge=(t.ip(3), 5060), port=40001))
        phone.register()
        path = registrar.seen("REGISTER")[-1].get("path")
        check(f"@{t.ip(4)}:5060" in path, f"it names the edge of the phone: {path}")
        elsewhere = path.replace(f"@{t.ip(4)}:", f"@{t.ip(2)}:")
        call = ends.Call(proxy, (t.ip(2), 5060), uri=phone.uri(),
                         extra=[("Route", elsewhere)])
        equal(call.invite().final().status, 200, "a call by the other edge")
        equal(call.bye().status, 200, "its BYE")
        equal(len(phone.invites()), 1, "it rang once")
        equal(other.counters()["to_fleet"], 1, "to_fleet")
        hang = phone.invites()[-1]
        check(len(hang.all("record-route")) >= 2, "both edges stay in the way")
        # Without that edge: nothing is guessed.
        holder.stop()
        if tp == "udp":
            return
        got = ends.Call(proxy, (t.ip(2), 5060), uri=phone.uri()).ask(
            "MESSAGE", extra=[("Route", elsewhere)], timeout=40)
        check(got.status >= 400, f"nobody can be reached: {got.status}")
        equal(len(phone.seen("MESSAGE")), 0, "what the phone got")


@case("forged, foreign and lifted tokens from inside are answered 430 and go nowhere")
def _(t):
    registrar = t.server(10)
    weir = t.edge([registrar])
    proxy = t.end(90)
    phone = t.keep(Phone(t, 50, "alice", "tcp", port=40001))
    phone.register()
    path = registrar.seen("REGISTER")[-1].get("path")
    token = re.search(r"sip:([^@]+)@", path).group(1)
    for at in range(0, len(token), 5):
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1:]
        got = ends.Call(proxy, (t.ip(2), 5060), uri=phone.uri()).ask(
            "MESSAGE", extra=[("Route", path.replace(token, changed))])
        equal(got.status, 430, f"character {at} changed")
    # From outside not even the right one is of use to others.
    mallory = t.end(66)
    got = ends.Call(mallory, t.outside, uri=phone.uri()).ask("MESSAGE", extra=[("Route", path)])
    equal(got.status, 403, "somebody else names alice's flow")
    equal(len(phone.seen("MESSAGE")), 0, "what the phone got")
    check(weir.counters()["tokens_bad"] > 0, "tokens_bad")


@case("silent connections are pinged, and nobody is cut off for not answering", timeout=40)
def _(t):
    registrar = t.server(10)
    weir = t.edge([registrar], keepalive={"every": "1s", "max": "2s", "jitter": "0%"})
    phone = t.keep(Phone(t, 50, "alice", "tcp", port=40001))
    phone.register()
    until(lambda: phone.way.pongs >= 6, "three pings", 15)  # each is two CRLF
    row = [r for r in weir.show("flows") if r["side"] == "outside"][0]
    check(row["pings"] >= 3, f"its row: {row}")
    check(not phone.way.closed.is_set(), "it is still connected")
    equal(phone.register().status, 200, "and still works")
