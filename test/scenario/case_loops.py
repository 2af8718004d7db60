# SPDX-License-Identifier: Apache-2.0
"""Loops, hops and merged requests."""
import time

from kit.case import case
from kit.ends import check, equal


@case("two edges facing each other: it ends by itself within 70 forwards")
def _(t):
    edges = []
    for me, other in ((1, 2), (2, 1)):
        edges.append(t.weir({
            "node": {"name": f"edge-{me}", "id": me},
            "listeners": [{"bind": f"udp://{t.ip(me)}:5060", "side": "outside"}],
            "pools": {"other": {"targets": [f"udp://{t.ip(other)}:5060"], "health": "off"}},
            "routes": [{"from": "any", "to": "other"}]}))
    call = t.call().invite()
    got = call.final(timeout=15)
    check(got.status in (482, 483), f"INVITE: {got.start}")
    time.sleep(0.5)
    counters = [e.counters() for e in edges]
    begun = sum(c["transactions"] for c in counters)
    check(begun <= 70, f"forwards of one INVITE: {begun}")
    equal(sum(c["requests_in"] for c in counters) - begun < 80, True, "and no storm of repetitions")


@case("two edges that trust each other (inside both ways): it ends by itself")
def _(t):
    edges = []
    for me, other in ((1, 2), (2, 1)):
        edges.append(t.weir({
            "node": {"name": f"edge-{me}", "id": me},
            "trusted": ["127.0.0.0/8"],
            "listeners": [{"bind": f"udp://{t.ip(me)}:5060", "side": "inside"}],
            "pools": {"other": {"targets": [f"udp://{t.ip(other)}:5060"], "health": "off"}},
            "routes": [{"from": "any", "to": "other"}]}))
    call = t.call().invite()
    got = call.final(timeout=15)
    check(got.status in (482, 483), f"INVITE: {got.start}")
    begun = sum(e.counters()["transactions"] for e in edges)
    check(begun <= 70, f"forwards of one INVITE: {begun}")


@case("Max-Forwards: missing becomes 70, above the cap is lowered, never raised, 0 is 483")
def _(t):
    server = t.server()
    t.edge([server], policy={"hops_max": 50})
    end = t.end()
    for given, wanted in ((None, ("49", "50", "69", "70")), (70, ("49", "50")), (255, ("49", "50")),
                          (50, ("49",)), (5, ("4",)), (1, ("0",))):
        call = t.call(end, max_forwards=given)
        call.whole()
        got = server.invites()[-1].get("max-forwards")
        check(got in wanted, f"Max-Forwards {given} leaves as {got}, wanted one of {wanted}")
    before = len(server.log)
    call = t.call(end, max_forwards=0).invite()
    equal(call.final().status, 483, "INVITE with 0")
    equal(call.ask("OPTIONS").status, 483, "OPTIONS to a user with 0")
    equal(len(server.log), before, "nothing goes further")


@case("Max-Forwards missing: 70 by default")
def _(t):
    server = t.server()
    t.edge([server])
    call = t.call(max_forwards=None)
    call.whole()
    check(server.invites()[0].get("max-forwards") in ("69", "70"), "Max-Forwards")


@case("a request that comes back unchanged is a loop: 482")
def _(t):
    seen = []
    server = t.server()

    def send_back(msg):
        if msg.method == "INVITE" and msg.status is None and not seen:
            seen.append(msg)
            # A proxy that only adds its Via and sends it back.
            via = f"Via: SIP/2.0/UDP {server.hostport};rport;branch=z9hG4bKback\r\n".encode()
            start, _, rest = msg.raw.partition(b"\r\n")
            server.send(start + b"\r\n" + via + rest, t.outside)
            return True
        return False
    server.hook = send_back
    weir = t.edge([server])
    t.call().invite()
    got = server.wait(lambda m: m.status is not None and m.status >= 200, 5, "an answer")
    equal(got.status, 482, "the request that came back")
    equal(weir.counters()["loops"] + weir.counters()["merged"], 1, "counted")


@case("a spiral (the Request-URI changed) is no loop")
def _(t):
    seen = []
    server = t.server()

    def change_and_send_back(msg):
        if msg.method == "INVITE" and msg.status is None and not seen:
            seen.append(msg)
            via = f"Via: SIP/2.0/UDP {server.hostport};rport;branch=z9hG4bKspiral\r\n".encode()
            _, _, rest = msg.raw.partition(b"\r\n")
            server.send(b"INVITE sip:carol@example.com SIP/2.0\r\n" + via + rest, (t.ip(2), 5060))
            return True
        return False
    server.hook = change_and_send_back
    config = t.config([server], routes=[{"from": "any", "to": "border"}])
    t.weir(config)
    t.call().invite()
    got = server.wait(lambda m: m.method == "INVITE" and m.status is None
                      and "carol" in (m.uri or ""), 5, "the second round")
    equal(len(got.all("via")), 4, "Vias of two rounds")


@case("the same request over two paths is merged: 482 (RFC 3261 8.2.2.2)")
def _(t):
    server = t.server(invite=((0, 180),))
    weir = t.edge([server])
    call = t.call().invite()
    call.provisional(180)
    data, _ = call.request("INVITE", cseq=call.cseq, body=call.body)
    call.send(data)
    got = call.end.wait(lambda m: m.status is not None and m.status >= 200, what="an answer")
    equal(got.status, 482, "the second copy")
    equal(weir.counters()["merged"], 1, "counted")
    equal(len(server.invites()), 1, "INVITEs at the server")


@case("Max-Breadth 0: 440 (RFC 5393)")
def _(t):
    server = t.server()
    t.edge([server])
    call = t.call(extra=[("Max-Breadth", "0")]).invite()
    equal(call.final().status, 440, "INVITE")
    equal(server.log, [], "nothing goes further")


@case("one edge whose pool is itself: refused at start")
def _(t):
    weir = t.weir(t.config([f"udp://{t.ip(1)}:5060"]), wait=False)
    weir.may_die = True
    equal(weir.wait(10), 78, "exit status")
    check("circle" in weir.output(), f"it says why: {weir.output()}")
