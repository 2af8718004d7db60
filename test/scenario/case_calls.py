# SPDX-License-Identifier: Apache-2.0
"""Calls that go well, over every mix of transports."""
from kit import ends, sip
from kit.case import case
from kit.ends import check, equal


def through(t, host, tcp_in, tcp_out, caller="uac", server="uas", calls=60, rate=100):
    """SIPp, Weir, SIPp on one host, each on its own port."""
    if host == "::1":
        places = [("::1", t.free_port("::1")) for _ in range(4)]
    else:
        places = [(t.ip(n), 5060) for n in (1, 2, 10, 100)]
    outside, inside, target, ua = places

    def bind(transport, at):
        return f"{transport}://{sip.uri_host(at[0])}:{at[1]}"
    config = t.config([bind("tcp" if tcp_out else "udp", target)])
    config["listeners"] = [
        {"bind": bind("tcp" if tcp_in else "udp", outside), "side": "outside"},
        {"bind": bind("tcp" if tcp_out else "udp", inside), "side": "inside"}]
    t.sipp(server, *target, tcp=tcp_out)
    weir = t.weir(config)
    n = t.sipp(caller, *ua, dest=outside, calls=calls, rate=rate, tcp=tcp_in).done(calls)
    equal(n["again"], 0, "retransmissions")
    return weir


for name, host, tcp_in, tcp_out in (
        ("udp to udp, v4", "v4", False, False), ("tcp to tcp, v4", "v4", True, True),
        ("udp to tcp, v4", "v4", False, True), ("tcp to udp, v4", "v4", True, False),
        ("udp to udp, v6", "::1", False, False), ("tcp to tcp, v6", "::1", True, True),
        ("tcp to udp, v6", "::1", True, False)):
    @case(f"calls {name}")
    def _(t, host=host, tcp_in=tcp_in, tcp_out=tcp_out):
        weir = through(t, host, tcp_in, tcp_out)
        rows = weir.logged(lambda r: r["method"] == "INVITE", 60)
        check(all(r["status"] == 200 for r in rows), f"all INVITEs end with 200: {rows[0]}")

    @case(f"calls {name}, the server hangs up")
    def _(t, host=host, tcp_in=tcp_in, tcp_out=tcp_out):
        through(t, host, tcp_in, tcp_out, "uac_bye", "uas_bye", 40)

for name, tcp in (("udp", False), ("tcp", True)):
    @case(f"calls given up while they ring, {name}")
    def _(t, tcp=tcp):
        weir = through(t, "v4", tcp, tcp, "uac_cancel", "uas_cancel", 40)
        rows = weir.logged(lambda r: r["method"] == "INVITE", 40)
        equal({(r["status"], r["end"][0]) for r in rows}, {(487, "C")}, "the client ended them")


@case("calls from v4 to v6")
def _(t):
    target = ("::1", t.free_port("::1"))
    inside = t.free_port("::1")
    t.sipp("uas", *target)
    config = t.config([f"udp://[::1]:{target[1]}"])
    config["listeners"][2:] = [{"bind": f"udp://[::1]:{inside}", "side": "inside"}]
    t.weir(config)
    t.sipp("uac", t.ip(100), 5060, dest=t.outside, calls=30, rate=100).done(30)


@case("calls with the smallest file")
def _(t):
    server = t.server(10, tcp=True)
    t.weir({"node": {"name": "edge-1"},
            "listeners": [{"bind": f"udp://{t.ip(1)}:5060", "side": "outside"},
                          {"bind": f"tcp://{t.ip(1)}:5060", "side": "outside"}],
            "pools": {"border": {"targets": [server.target()]}},
            "routes": [{"from": "outside", "to": "border"}]})
    for tcp in (False, True):
        call = t.call(t.end(100 + tcp), tcp=tcp)
        call.whole()


@case("what is forwarded: our Via, received and rport, Record-Route, one hop less, body untouched")
def _(t):
    server = t.server()
    t.edge([server])
    end = t.end()
    body = b"v=0\r\n\0\xff\x80binary\r\n"
    call = t.call(end, body=body, extra=[("X-Own", "a  b;c=\"d\""), ("x-own", "second")])
    call.invite().final()
    got = server.invites()[0]
    vias = got.all("via")
    equal(len(vias), 2, "Vias")
    check(vias[0].startswith(f"SIP/2.0/UDP {t.ip(2)}:5060;") or f"{t.ip(2)}" in vias[0],
          f"our Via names our inside: {vias[0]}")
    check("branch=z9hG4bK" in vias[0], f"a magic branch: {vias[0]}")
    check(f"received={end.ip}" in vias[1] and f"rport={end.port}" in vias[1],
          f"received and rport: {vias[1]}")
    check(len(got.all("record-route")) >= 1 and all(";lr" in r for r in got.all("record-route")),
          f"Record-Route: {got.all('record-route')}")
    equal(got.get("max-forwards"), "69", "Max-Forwards")
    equal(got.all("x-own"), ["a  b;c=\"d\"", "second"], "unknown headers")
    equal(got.body, body, "body")
    equal(got.uri, "sip:bob@example.com", "Request-URI")


@case("a 100 at once, even when the target is slow")
def _(t):
    server = t.server(invite=((0.6, 180), (0.7, 200)))
    t.edge([server])
    call = t.call().invite()
    call.provisional(100, 0.4)
    call.final()


@case("provisionals and answers of several branches pass (forked 2xx)")
def _(t):
    server = t.server(invite=())
    t.edge([server])
    call = t.call().invite()
    invite = server.wait(lambda m: m.method == "INVITE")
    contact = server.uri("srv")
    for tag, status in (("a", 180), ("b", 183), ("a", 183)):
        server.answer(invite, sip.reply(invite, status, tag=tag, contact=contact))
        got = call.provisional(status)
        equal(got.tag("to"), tag, "To tag")
    for tag in "ab":
        server.answer(invite, sip.reply(invite, 200, tag=tag, contact=contact))
    tags = set()
    for _ in "ab":
        answer = call.final()
        tags.add(answer.tag("to"))
        server.wait(lambda m: m.method == "ACK", what="ACK")
    equal(tags, {"a", "b"}, "2xx of both branches")


@case("a server that repeats its 200 until the ACK comes (RFC 6026)")
def _(t):
    server = t.server(invite=())
    t.edge([server])
    call = t.call().invite()
    invite = server.wait(lambda m: m.method == "INVITE")
    ok = sip.reply(invite, 200, tag="x", contact=server.uri("srv"))
    for _ in range(20):
        server.answer(invite, ok)
    for _ in range(20):
        got = call.final(ack=False)
        equal(got.status, 200, "each 200 passes")
    call.establish(got)
    call.ack()
    server.wait(lambda m: m.method == "ACK", what="the ACK")
    equal(call.bye().status, 200, "BYE")


@case("a storm of repeated INVITEs is one INVITE further on")
def _(t):
    server = t.server(invite=((0, 100), (0.5, 180), (0.8, 200)))
    weir = t.edge([server])
    end = t.end()
    calls = [t.call(end).invite() for _ in range(20)]
    for _ in range(30):
        for call in calls:
            call.resend()
    for call in calls:
        equal(call.final().status, 200, "answer")
    equal(len([m for m in server.log if m.method == "INVITE" and m.status is None]), 20,
          "INVITEs at the server, repetitions included")
    check(weir.counters()["requests_repeated"] >= 500, "repetitions are counted")


@case("a lost INVITE, a lost 200, a lost BYE: everybody repeats and the call holds")
def _(t):
    server = t.server()
    lost = set()

    def lose_first(msg):
        key = (msg.call_id, msg.method)
        if msg.method in ("INVITE", "BYE") and key not in lost:
            lost.add(key)
            return True
        return False
    server.hook = lose_first
    t.edge([server])
    call = t.call().invite()
    equal(call.final().status, 200, "after Weir repeated the INVITE")
    data, branch = call.request("BYE")
    call.send(data)
    got = call.end.wait(lambda m: m.status and m.branch == branch, 3, "answer to BYE")
    equal(got.status, 200, "after Weir repeated the BYE")


@case("a failed INVITE's answer is repeated until it is acknowledged, then no more")
def _(t):
    server = t.server(invite=((0, 486),))
    t.edge([server])
    call = t.call().invite()
    first = call.final(ack=False)
    equal(first.status, 486, "answer")
    again = call.final(ack=False)
    equal(again.raw, first.raw, "repetition")
    call.ack_failure(first)
    call.end.none(call.mine(486), 1.5, "after the ACK")
    equal(len(server.seen("ACK")), 1, "the server's own answer is acknowledged by Weir")
    equal(server.seen("ACK")[0].branch, server.invites()[0].branch, "its branch")


@case("requests other than INVITE, and methods that nobody knows")
def _(t):
    server = t.server(other=202)
    t.edge([server])
    call = t.call()
    for method in ("MESSAGE", "INFO", "PUBLISH", "SUBSCRIBE", "Q-method.x!"):
        equal(call.ask(method).status, 202, method)
    equal(call.ask("OPTIONS", uri="sip:bob@example.com").status, 200, "OPTIONS to a user")


@case("OPTIONS to the edge itself is answered by it")
def _(t):
    server = t.server()
    t.edge([server])
    call = t.call(uri=f"sip:{t.ip(1)}:5060")
    equal(call.ask("OPTIONS").status, 200, "OPTIONS")
    equal(server.log, [], "nothing goes further")


@case("a target that does not answer a MESSAGE: never a late 408 (RFC 4320)")
def _(t):
    server = t.server(other=None)
    t.edge([server], timers={"t1": "50ms"},
           pool={"failover": {"try": "300ms", "within": "800ms"}})
    call = t.call()
    data, branch = call.request("MESSAGE")
    call.send(data)
    call.end.none(lambda m: m.status == 408, 4.5, "a 408")


@case("refer, update, info and a re-INVITE within the dialog, from both ends")
def _(t):
    server = t.server()
    t.edge([server])
    call = t.call()
    ok = call.invite().final()
    invite = server.invites()[0]
    for method in ("INFO", "UPDATE", "REFER"):
        equal(call.ask(method).status, 200, method)
    call.invite(uri=call.remote)
    equal(call.final().status, 200, "re-INVITE")
    # The callee's side of the dialog: its route set is the INVITE's Record-Route as it stands.
    back = ends.Call(server, server.log[0].peer, call_id=call.call_id, from_tag=ok.tag("to"))
    back.to_tag, back.routes = call.from_tag, invite.all("record-route")
    back.remote = invite.contact_uri()
    back.to = sip.host_port(back.routes[0])
    data, branch = back.request("INFO")
    back.send(data)
    got = call.end.wait(lambda m: m.method == "INFO" and m.status is None,
                        what="INFO of the callee")
    call.end.answer(got, sip.reply(got, 200))
    server.wait(lambda m: m.status == 200 and m.branch == branch, what="its answer")
    equal(call.bye().status, 200, "BYE")


for name, caller, server in (("the caller hangs up", "uac", "uas"),
                             ("the callee hangs up", "uac_bye", "uas_bye"),
                             ("the caller gives up", "uac_cancel", "uas_cancel")):
    @case(f"calls through two edges in a row, {name}")
    def _(t, caller=caller, server=server):
        t.sipp(server, t.ip(10), 5060)
        edges = []
        for me, target in ((1, t.ip(3)), (3, t.ip(10))):
            edges.append(t.weir({
                "node": {"name": f"edge-{me}", "id": me, "workers": 1},
                "listeners": [{"bind": f"udp://{t.ip(me)}:5060", "side": "outside"},
                              {"bind": f"udp://{t.ip(me + 1)}:5060", "side": "inside"}],
                "pools": {"next": {"targets": [f"udp://{target}:5060"], "health": "off"}},
                "routes": [{"from": "outside", "to": "next"}]}))
        t.sipp(caller, t.ip(100), 5060, dest=t.outside, calls=40, rate=80).done(40)
        for weir in edges:
            counters = weir.counters()
            equal((counters["loops"], counters["merged"], counters["routes_refused"]), (0, 0, 0),
                  "refusals")
