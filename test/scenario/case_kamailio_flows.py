# SPDX-License-Identifier: Apache-2.0
"""Kamailio and phones' flows: its registrar behind Weir's edge, and its outbound edge in front of
Weir's registrar.

covers: edge/path.c
"""
import os
import shutil

from kit import ends, procs, sip, tls
from kit.case import case
from kit.ends import check, equal, until
from kit.phone import Phone

DOMAIN = "example.com"
PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061, "wss": 8443}
MODULES = [f"/usr/lib/{cpu}-linux-gnu/kamailio/modules" for cpu in ("x86_64", "aarch64")]
INSTANCE = "<urn:uuid:00000000-0000-4000-8000-00000000000a>"


def has(*modules):
    return lambda: shutil.which("kamailio") is not None and all(
        any(os.path.exists(f"{folder}/{m}.so") for folder in MODULES) for m in modules)


class Kamailio(procs.Kamailio):
    """kamailio_flows.cfg as one of its two kinds."""

    def __init__(self, t, ip, words, next_hop=None, add_path="add_path"):
        with open(os.path.join(procs.ROOT, "test/scenario/kamailio_flows.cfg"),
                  encoding="utf-8") as f:
            text = f.read()
        for name, value in (("@LISTEN@", f"{ip}:5060"), ("@ADD_PATH@", add_path),
                            ("@NEXT@", "sip:%s:%s" % (next_hop or ("127.0.0.1", 9)))):
            text = text.replace(name, value)
        path = os.path.join(t.folder, "kamailio.cfg")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        defines = [part for word in words for part in ("-A", word)]
        procs.Proc.__init__(self, t.folder, "kamailio", [
            "kamailio", "-f", path, "-DD", "-E", "-m", "32", "-M", "8", "-Y", t.folder, "-n", "1",
            "-N", "1", *defines])
        until(lambda: not self.alive() or procs.listening(ip, 5060), "kamailio", 20)
        check(self.alive(), f"kamailio ended at start:\n{self.output()[-2000:]}")


# ---- its registrar behind our edge -------------------------------------------------------------

class Behind:
    """Phones at an edge whose registrar is Kamailio; callers inside speak to Kamailio."""

    def __init__(self, t, path):
        self.t = t
        t.keep(Kamailio(t, t.ip(20), ["REGISTRAR"] + (["WITH_PATH"] if path == "header" else [])))
        cert, key = tls.Authority(t.folder).sign("edge.example.com", [t.ip(1)])
        config = t.config([f"udp://{t.ip(20)}:5060"], outbound={"path": path},
                          keepalive={"every": "1s"})
        config["listeners"] += [
            {"bind": f"{tp}://{t.ip(1)}:{PORTS[tp]}", "side": "outside", "cert": cert, "key": key}
            for tp in ("tls", "wss")]
        self.weir = t.weir(config)
        self.caller = t.end(90)

    def phone(self, n, name, transport):
        # The Contact is the phone's own, of a home where nobody else finds it.
        one = self.t.keep(Phone(self.t.ip(n), name, DOMAIN, transport, home=("192.168.0.10", 5060)))
        return one.join((self.t.ip(1), PORTS[transport]))

    def call(self, who):
        return ends.Call(self.caller, (self.t.ip(20), 5060), uri=who.aor).invite()

    def rings(self, who, others=()):
        call = self.call(who)
        equal(call.final(20).status, 200, f"a call to {who.name}")
        invite = who.rang(call)
        check(invite, f"{who.name} rang")
        equal(invite.uri, who.contact(), "by the Contact that it wrote")
        check(invite.conn is (who.hop if who.transport != "udp" else None), "down the very flow")
        check(not any(other.rang(call) for other in others), "and nobody else")
        equal(call.bye(20).status, 200, "BYE")


for path in ("header", "contact"):
    @case(f"kamailio's registrar behind, path: {path}: phones over every transport ring",
          shows=has("registrar", "usrloc"), timeout=60)
    def _(t, path=path):
        w = Behind(t, path)
        phones = [w.phone(100 + n, f"phone-{tp}", tp) for n, tp in enumerate(PORTS)]
        for one in phones:
            one.register()
            equal(sip.uri_of(one.granted.get("contact")), one.contact(), "its own Contact is back")
        for one in phones:
            w.rings(one, [other for other in phones if other is not one])
        # From phone to phone: up through the edge, and down again.
        for a, b in zip(phones, phones[1:]):
            call = ends.Call(a, a.hop, uri=b.aor).invite()
            equal(call.final(20).status, 200, f"{a.name} calls {b.name}")
            check(b.rang(call), f"{b.name} rang")
            equal(call.bye(20).status, 200, "BYE")

    @case(f"kamailio's registrar behind, path: {path}: a connection that ended rings nobody",
          shows=has("registrar", "usrloc"), timeout=60)
    def _(t, path=path):
        w = Behind(t, path)
        alice, bob = (w.phone(n, name, "tcp") for n, name in ((100, "alice"), (101, "bob")))
        for one in (alice, bob):
            one.register()
        alice.hop.reset()
        check(alice.hop.closed.wait(10), "alice's connection is reset")
        call = w.call(alice)
        status = call.final(20).status
        check(status in (430, 480), f"the flow is gone: {status}")
        check(not alice.rang(call), "alice is not reached")
        check(not bob.rang(call), "nor is bob")
        alice.join((t.ip(1), PORTS["tcp"])).register()
        w.rings(bob, [alice])


# ---- its edge in front of our registrar --------------------------------------------------------

def registrar(t):
    state = os.path.join(t.folder, "state")
    return t.weir({
        "node": {"name": "registrar-1", "workers": 1},
        "listeners": [{"bind": f"udp://{t.ip(2)}:5060", "side": "inside"}],
        "trusted": [f"{t.ip(0)}/26"],  # Kamailio and the callers, not the phones
        "routes": [{"to": "registrar"}],
        "roles": {"registrar": {"domains": [DOMAIN], "auth": "none", "state": state}}})


for outbound in (True, False):
    @case(f"kamailio's edge in front, {'flow tokens' if outbound else 'addresses'} in its Path",
          shows=has("path", "outbound") if outbound else has("path"), timeout=60)
    def _(t, outbound=outbound):
        weir = registrar(t)
        edge = (t.ip(20), 5060)
        t.keep(Kamailio(t, t.ip(20), ["EDGE"] + (["WITH_OUTBOUND"] if outbound else []),
                        (t.ip(2), 5060), "add_path" if outbound else "add_path_received"))
        caller = t.end(50)
        params = f';reg-id=1;+sip.instance="{INSTANCE}"' if outbound else ""
        home = ("192.168.0.10", 5060) if outbound else None  # a token finds it, an address may not
        phones = [t.keep(Phone(t.ip(100 + n), f"phone-{tp}", DOMAIN, tp, home=home))
                  for n, tp in enumerate(("udp", "tcp"))]
        for one in phones:
            one.join(edge).register(params, [("Supported", "path, outbound")])
            equal("outbound" in (one.granted.get("require") or ""), outbound, "outbound is used")
        for row in weir.show("bindings"):
            check(f"@{t.ip(20)}" in row["path"] if outbound else t.ip(20) in row["path"],
                  f"its Path is kept: {row}")
        for one in phones + phones[:1]:
            call = ends.Call(caller, (t.ip(2), 5060), uri=one.aor).invite()
            equal(call.final(20).status, 200, f"a call to {one.name}")
            invite = one.rang(call)
            check(invite, f"{one.name} rang")
            equal(invite.uri, one.contact(), "by its Contact")
            check(invite.conn is (one.hop if one.transport == "tcp" else None), "down its flow")
            equal(call.bye(20).status, 200, "BYE")
