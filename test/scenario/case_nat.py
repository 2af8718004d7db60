# SPDX-License-Identifier: Apache-2.0
"""Phones behind real NATs, in network namespaces:

    alice 192.168.0.10 ── NAT ── 10.0.1.2 ┐
                                          ├── NAT ── 192.0.2.254 ──── 192.0.2.1 edge, callers inside
      bob 192.168.0.10 ── NAT ── 10.0.2.2 ┘

Both phones have the same private address, use the same port and write the same Contact; the edge
sees one public address.
"""
import time

from kit import ends, netns, sip, tls, ws
from kit.case import case
from kit.ends import check, equal, until

DOMAIN = "example.com"
EDGE, PUBLIC, PRIVATE = "192.0.2.1", "192.0.2.254", "192.168.0.10"
INSIDE, REGISTRAR, CALLER = "127.0.0.2", "127.0.0.5", "127.0.0.9"
PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061, "wss": 8443}
FIXED = f'oifname "wan" meta l4proto {{ tcp, udp }} snat to {PUBLIC}:7000'


class Net:
    """The namespaces of the drawing."""

    def __init__(self, t):
        self.edge, self.nat = t.keep(netns.Space()), t.keep(netns.Space())
        self.edge.wire("wan", f"{EDGE}/24", self.nat, "wan", f"{PUBLIC}/24")
        self.nat.nat()
        self.homes, self.phones = [], []
        for n in (1, 2):
            home, phone = t.keep(netns.Space()), t.keep(netns.Space())
            self.nat.wire(f"home{n}", f"10.0.{n}.1/30", home, "wan", f"10.0.{n}.2/30")
            home.wire("lan", "192.168.0.1/24", phone, "lan", f"{PRIVATE}/24")
            home.nat()
            home.ip(f"route add default via 10.0.{n}.1")
            phone.ip("route add default via 192.168.0.1")
            self.homes.append(home)
            self.phones.append(phone)


class Phone:
    """Registers by one connection and answers what comes over it. `public` is where the edge sees
    it, by rport (RFC 3581)."""

    def __init__(self, t, space, name, transport):
        self.space, self.name, self.transport = space, name, transport
        with space:
            self.end = t.keep(ends.Server(PRIVATE, PORTS["udp"], udp=transport == "udp",
                                          transport=transport))
        self.call_id, self.cseq, self.to = sip.fresh(name), 0, (EDGE, PORTS["udp"])
        self.public = None

    def connect(self, port=5060):
        if self.transport != "udp":
            with self.space:
                self.to = ws.any_connect(self.end, (EDGE, PORTS[self.transport]), self.transport,
                                         local_port=port)
        return self

    def register(self):
        self.cseq += 1
        branch, aor = sip.fresh("z9hG4bK"), f"<sip:{self.name}@{DOMAIN}>"
        contact = f"<{self.end.uri('phone', self.transport)}>"
        self.end.send(sip.build(f"REGISTER sip:{DOMAIN} SIP/2.0", [
            ("Via", f"SIP/2.0/{self.transport.upper()} {PRIVATE}:5060;branch={branch};rport"),
            ("Max-Forwards", "70"), ("From", f"{aor};tag={self.call_id}"), ("To", aor),
            ("Call-ID", self.call_id), ("CSeq", f"{self.cseq} REGISTER"), ("Contact", contact),
            ("Expires", "600")]), self.to)
        answer = self.end.wait(lambda m: m.branch == branch, 10, f"{self.name} an answer")
        equal(answer.status, 200, f"{self.name} registers")
        self.public = answer.param("via", "received"), answer.param("via", "rport")
        return self

    def rang(self, call):
        return call.call_id in [m.call_id for m in self.end.invites()]


class World:
    """The namespaces, an edge with its registrar (in one process, or in two), two phones."""

    def __init__(self, t, transport, split=False, **more):
        self.t, self.net, self.split = t, Net(t), split
        cert, key = tls.Authority(t.folder).sign("edge.example.com", [EDGE])
        state = f"{t.folder}/state"
        role = {"registrar": {"domains": [DOMAIN], "auth": "none", "state": state}}
        config = {
            "node": {"name": "edge-1", "workers": 2},
            "listeners": [{"bind": f"{tp}://{EDGE}:{port}", "side": "outside",
                           **({"cert": cert, "key": key} if tp in ("tls", "wss") else {})}
                          for tp, port in PORTS.items()]
            + [{"bind": f"udp://{INSIDE}:5060", "side": "inside"}],
            "routes": [{"to": "registrar"}], "roles": role, "trusted": ["127.0.0.0/8"], **more}
        with self.net.edge:
            if split:
                self.registrar = t.weir({
                    "node": {"name": "registrar-1", "workers": 1}, "trusted": ["127.0.0.0/8"],
                    "listeners": [{"bind": f"udp://{REGISTRAR}:5060", "side": "inside"}],
                    "routes": [{"to": "registrar"}], "roles": role})
                del config["roles"]
                config["pools"] = {"registrars": {"targets": [f"udp://{REGISTRAR}:5060"],
                                                  "health": "off"}}
                config["routes"] = [{"from": "outside", "to": "registrars"}]
            self.weir = t.weir(config)
            if not split:
                self.registrar = self.weir
            self.caller = t.keep(ends.End(CALLER, 5060))
        self.alice, self.bob = (Phone(t, space, name, transport)
                                for space, name in zip(self.net.phones, ("alice", "bob")))

    def bound(self, phone):
        return [b for b in self.registrar.show("bindings") if b["aor"] == f"{phone.name}@{DOMAIN}"]

    def call(self, phone):
        return ends.Call(self.caller, (REGISTRAR if self.split else INSIDE, 5060),
                         uri=f"sip:{phone.name}@{DOMAIN}").invite()

    def rings(self, phone):
        """A call from inside rings this phone and no other, and ends from either side."""
        other = self.bob if phone is self.alice else self.alice
        call = self.call(phone)
        equal(call.final(20).status, 200, f"{phone.name} answers")
        check(phone.rang(call), f"{phone.name} rang")
        check(not other.rang(call), f"{other.name} did not")
        equal(call.bye(20).status, 200, "the BYE finds it again")

    def is_gone(self, phone):
        """A call to this phone comes to nothing, and rings nobody."""
        call = self.call(phone)
        status = call.final(20).status
        check(status in (430, 480), f"{phone.name} is gone: {status}")
        for one in (self.alice, self.bob):
            check(not one.rang(call), f"{one.name} did not ring")


for split in (False, True):
    for transport in PORTS:
        @case(f"nat: two phones of one private address over {transport}, "
              f"{'a registrar behind the edge' if split else 'one process'}",
              shows=netns.here, timeout=60)
        def _(t, transport=transport, split=split):
            w = World(t, transport, split)
            for phone in (w.alice, w.bob):
                phone.connect().register()
                equal(phone.public[0], PUBLIC, "behind the NAT")
            check(w.alice.public[1] != w.bob.public[1], f"two ports, not {w.alice.public}")
            for phone in (w.alice, w.bob, w.alice):
                w.rings(phone)
            # From one phone to the other: down and up through the same NATs.
            call = ends.Call(w.alice.end, w.alice.to, uri=f"sip:bob@{DOMAIN}").invite()
            equal(call.final(20).status, 200, "alice calls bob")
            check(w.bob.rang(call), "bob rang")
            equal(call.bye(20).status, 200, "and hangs up")


for transport in ("tcp", "tls"):
    @case(f"nat: it forgets a connection over {transport}: noticed, gone, and back",
          shows=netns.here, timeout=60)
    def _(t, transport=transport):
        w = World(t, transport, keepalive={"every": "1s", "max": "1s"})
        for phone in (w.alice, w.bob):
            phone.connect().register()
        w.net.nat.forget()
        until(lambda: not w.bound(w.alice) and not w.bound(w.bob), "both are noticed", 20)
        w.is_gone(w.alice)
        w.alice.connect(0).register()
        w.rings(w.alice)
        w.is_gone(w.bob)


@case("nat: it forgets an address over udp: no answer, and back", shows=netns.here, timeout=60)
def _(t):
    w = World(t, "udp", timers={"t1": "50ms"})
    for phone in (w.alice, w.bob):
        phone.connect().register()
    w.net.nat.forget()
    w.is_gone(w.alice)
    w.alice.register()
    w.rings(w.alice)


for split in (False, True):
    @case("nat: bob gets the public port that was alice's over tcp, "
          f"{'a registrar behind the edge' if split else 'one process'}",
          shows=netns.here, timeout=60)
    def _(t, split=split):
        w = World(t, "tcp", split)
        w.net.nat.nat(FIXED)
        w.alice.connect().register()
        w.rings(w.alice)
        w.net.phones[0].ip("link set lan down")
        w.net.nat.forget()
        w.bob.connect().register()
        equal(w.bob.public, w.alice.public, "bob has alice's address")
        w.is_gone(w.alice)
        w.rings(w.bob)
        w.net.nat.nat()
        w.net.phones[0].ip("link set lan up")
        w.net.phones[0].ip("route add default via 192.168.0.1")
        w.alice.connect(0).register()
        w.rings(w.alice)
        w.rings(w.bob)


@case("nat: bob gets the public port that was alice's over udp, after as long as NATs wait",
      shows=netns.here, timeout=90)
def _(t):
    w = World(t, "udp", split=True)
    w.net.nat.nat(FIXED)
    w.alice.register()
    w.net.phones[0].ip("link set lan down")
    time.sleep(26)  # a mapping lives for 30 s; who comes from its address sooner may be its owner
    w.net.nat.forget()
    w.bob.register()
    equal(w.bob.public, w.alice.public, "bob has alice's address")
    w.is_gone(w.alice)
    w.rings(w.bob)
