# SPDX-License-Identifier: Apache-2.0
"""Phones behind real NATs, in network namespaces:

    alice 192.168.0.10 ── NAT ── 10.0.1.2 ┐
                                          ├── NAT ── 192.0.2.254 ──── 192.0.2.1 edge, callers inside
      bob 192.168.0.10 ── NAT ── 10.0.2.2 ┘

Both phones have the same private address, use the same port and write the same Contact; the edge
sees one public address.
"""
import time

from kit import ends, netns, phone, tls
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

    def impatient(self, seconds):
        """The outer NAT waits for so long over UDP, whoever has spoken."""
        for name in ("udp_timeout", "udp_timeout_stream"):
            self.nat.sysctl(f"netfilter/nf_conntrack_{name}", seconds)


class Phone(phone.Phone):
    """In a namespace of its own. All write the same Contact."""

    def __init__(self, space, name, transport):
        self.space = space
        with space:
            super().__init__(PRIVATE, name, DOMAIN, transport, 5060)

    def contact(self):
        return self.uri("phone", self.transport)

    def attach(self, local_port=5060):
        with self.space:
            return self.join((EDGE, PORTS[self.transport]), local_port)


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
            self.config = config
            self.weir = t.weir(config)
            if not split:
                self.registrar = self.weir
            self.caller = t.keep(ends.End(CALLER, 5060))
        self.alice, self.bob = (t.keep(Phone(space, name, transport))
                                for space, name in zip(self.net.phones, ("alice", "bob")))

    def bound(self, who):
        return [b for b in self.registrar.show("bindings") if b["aor"] == f"{who.name}@{DOMAIN}"]

    def call(self, who):
        return ends.Call(self.caller, (REGISTRAR if self.split else INSIDE, 5060),
                         uri=who.aor).invite()

    def rings(self, who):
        """A call from inside rings this phone and no other."""
        other = self.bob if who is self.alice else self.alice
        call = self.call(who)
        equal(call.final(20).status, 200, f"{who.name} answers")
        check(who.rang(call), f"{who.name} rang")
        check(not other.rang(call), f"{other.name} did not")
        equal(call.bye(20).status, 200, "the BYE finds it again")

    def is_gone(self, who):
        """A call to this phone comes to nothing, and rings nobody."""
        call = self.call(who)
        status = call.final(20).status
        check(status in (430, 480), f"{who.name} is gone: {status}")
        for one in (self.alice, self.bob):
            check(not one.rang(call), f"{one.name} did not ring")


for split in (False, True):
    for transport in PORTS:
        @case(f"nat: two phones of one private address over {transport}, "
              f"{'a registrar behind the edge' if split else 'one process'}",
              shows=netns.here, timeout=60)
        def _(t, transport=transport, split=split):
            w = World(t, transport, split)
            for one in (w.alice, w.bob):
                one.attach().register()
                equal(one.public[0], PUBLIC, "behind the NAT")
            check(w.alice.public[1] != w.bob.public[1], f"two ports, not {w.alice.public}")
            for one in (w.alice, w.bob, w.alice):
                w.rings(one)
            # From one phone to the other: down and up through the same NATs.
            call = ends.Call(w.alice, w.alice.hop, uri=w.bob.aor).invite()
            equal(call.final(20).status, 200, "alice calls bob")
            check(w.bob.rang(call), "bob rang")
            equal(call.bye(20).status, 200, "and hangs up")


for transport in ("tcp", "tls"):
    @case(f"nat: it forgets a connection over {transport}: noticed, gone, and back",
          shows=netns.here, timeout=60)
    def _(t, transport=transport):
        w = World(t, transport, keepalive={"every": "1s", "max": "1s"})
        for one in (w.alice, w.bob):
            one.attach().register()
        w.net.nat.forget()
        until(lambda: not w.bound(w.alice) and not w.bound(w.bob), "both are noticed", 20)
        w.is_gone(w.alice)
        w.alice.attach(0).register()
        w.rings(w.alice)
        w.is_gone(w.bob)


@case("nat: it forgets an address over udp: no answer, and back", shows=netns.here, timeout=60)
def _(t):
    w = World(t, "udp", timers={"t1": "50ms"})
    for one in (w.alice, w.bob):
        one.attach().register()
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
        w.alice.attach().register()
        w.rings(w.alice)
        w.net.phones[0].ip("link set lan down")
        w.net.nat.forget()
        w.bob.attach().register()
        equal(w.bob.public, w.alice.public, "bob has alice's address")
        w.is_gone(w.alice)
        w.rings(w.bob)
        w.net.nat.nat()
        w.net.phones[0].ip("link set lan up")
        w.net.phones[0].ip("route add default via 192.168.0.1")
        w.alice.attach(0).register()
        w.rings(w.alice)
        w.rings(w.bob)


for split in (False, True):
    @case("nat: it starts anew, and bob gets the public port that was alice's over udp, at once, "
          f"{'a registrar behind the edge' if split else 'one process'}",
          shows=netns.here, timeout=60)
    def _(t, split=split):
        w = World(t, "udp", split)
        w.net.nat.nat(FIXED)
        for n, one in enumerate((w.alice, w.bob)):  # by their instances they are two
            one.attach().register(f';+sip.instance="<urn:uuid:00000000-0000-4000-8000-{n:012d}>"')
            w.rings(one)
            w.net.phones[0].ip("link set lan down")
            w.net.nat.forget()
        equal(w.bob.public, w.alice.public, "bob has alice's address")
        w.is_gone(w.alice)


@case("nat: bob gets the public port that was alice's over udp, after as long as NATs wait",
      shows=netns.here, timeout=90)
def _(t):
    w = World(t, "udp", split=True)
    w.net.nat.nat(FIXED)
    w.alice.attach().register()
    w.net.phones[0].ip("link set lan down")
    time.sleep(26)  # a mapping lives for 30 s; who comes from its address sooner may be its owner
    w.net.nat.forget()
    w.bob.attach().register()
    equal(w.bob.public, w.alice.public, "bob has alice's address")
    w.is_gone(w.alice)
    w.rings(w.bob)


# Where the registrar is, and what the phone says to an OPTIONS.
for split, status in ((False, 200), (True, 404)):
    @case("nat: it forgets what is silent over udp for 4 s, and a phone that says nothing by "
          "itself is called all the same, "
          f"{'a registrar behind the edge' if split else 'one process'}",
          shows=netns.here, timeout=60)
    def _(t, split=split, status=status):
        w = World(t, "udp", split, keepalive={"udp": "2s", "jitter": "0%"}, timers={"t1": "50ms"})
        w.net.impatient(4)
        for one in (w.alice, w.bob):
            one.options = status
            one.attach().register()
        begin = time.monotonic()
        until(lambda: all(len(one.seen("OPTIONS")) >= 5 for one in (w.alice, w.bob)),
              "each is pinged five times", 30)
        time.sleep(max(0, begin + 10 - time.monotonic()))  # more than twice what the NAT waits
        for one in (w.alice, w.bob):
            w.rings(one)
        until(lambda: w.weir.counters()["udp_pongs"] >= 10, "they are counted")
        check(w.weir.counters()["udp_pings"] >= w.weir.counters()["udp_pongs"], "and the pings")


@case("nat: it forgets what is silent over udp for 4 s, and without pings a silent phone is gone",
      shows=netns.here, timeout=60)
def _(t):
    w = World(t, "udp", keepalive={"udp": "off"}, timers={"t1": "50ms"})
    w.net.impatient(4)
    w.alice.attach().register()
    time.sleep(10)  # of silence
    w.is_gone(w.alice)
    equal(w.weir.counters()["udp_pings"], 0, "pings")
    w.alice.register()
    w.rings(w.alice)


@case("nat: it forgets what is silent over udp for 4 s, and the edge with its registrar is killed "
      "and started again", shows=netns.here, timeout=60)
def _(t):
    w = World(t, "udp", keepalive={"udp": "2s", "jitter": "0%"}, timers={"t1": "50ms"})
    w.net.impatient(4)
    for one in (w.alice, w.bob):
        one.attach().register()
    w.weir.kill()
    w.weir.may_die = True
    with w.net.edge:
        w.registrar = w.weir = t.weir(w.config, name="again")
    begin = time.monotonic()
    until(lambda: w.weir.counters()["udp_pongs"] >= 10, "both are pinged again, and answer", 30)
    time.sleep(max(0, begin + 10 - time.monotonic()))  # more than twice what the NAT waits
    for one in (w.alice, w.bob):
        w.rings(one)
