# SPDX-License-Identifier: Apache-2.0
"""CANCEL in every phase."""
import socket
import time

from kit import sip
from kit.case import case
from kit.ends import check, equal


def cancelled(call):
    """CANCEL: 200 to it, 487 to the INVITE."""
    call.cancel()
    call.end.wait(call.mine(200, "CANCEL"), what="200 to CANCEL")
    got = call.final()
    equal(got.status, 487, "INVITE")
    return got


for name, tcp in (("udp", False), ("tcp", True)):
    @case(f"CANCEL before any answer of the target waits for one, {name}")
    def _(t, tcp=tcp):
        server = t.server(invite=((0.8, 100),), tcp=True)
        t.edge([server.target("tcp" if tcp else "udp")])
        call = t.call(tcp=tcp).invite()
        server.wait(lambda m: m.method == "INVITE")
        call.cancel()
        call.end.wait(call.mine(200, "CANCEL"), what="200 to CANCEL")
        server.none(lambda m: m.method == "CANCEL", 0.5, "RFC 3261 9.1: no CANCEL before a 1xx")
        server.wait(lambda m: m.method == "CANCEL", 2, "CANCEL after the 100")
        equal(call.final().status, 487, "INVITE")

    @case(f"CANCEL after 100, {name}")
    def _(t, tcp=tcp):
        server = t.server(invite=((0, 100),), tcp=True)
        t.edge([server.target("tcp" if tcp else "udp")])
        call = t.call(tcp=tcp).invite()
        call.provisional(100)
        server.wait(lambda m: m.method == "INVITE")
        time.sleep(0.2)
        cancelled(call)
        invite, cancel = server.invites()[0], server.seen("CANCEL")[0]
        equal((cancel.branch, cancel.uri, cancel.get("to"), cancel.cseq[0]),
              (invite.branch, invite.uri, invite.get("to"), invite.cseq[0]),
              "the CANCEL matches its INVITE")
        equal(len(cancel.all("via")), 1, "one Via: it is ours")

    @case(f"CANCEL while it rings, {name}")
    def _(t, tcp=tcp):
        server = t.server(invite=((0, 180),), tcp=True)
        weir = t.edge([server.target("tcp" if tcp else "udp")])
        call = t.call(tcp=tcp).invite()
        call.provisional(180)
        cancelled(call)
        server.wait(lambda m: m.method == "ACK", what="ACK of the 487")
        row = weir.logged(lambda r: r["method"] == "INVITE")[0]
        equal((row["status"], row["end"][0]), (487, "C"), "the log line")

    @case(f"CANCEL after 200 has no effect, {name}")
    def _(t, tcp=tcp):
        server = t.server(tcp=True)
        t.edge([server.target("tcp" if tcp else "udp")])
        call = t.call(tcp=tcp).invite()
        call.final()
        call.cancel()
        got = call.end.wait(lambda m: m.method == "CANCEL" and m.status, what="answer to CANCEL")
        check(got.status in (200, 481), f"answer to CANCEL: {got.start}")
        server.none(lambda m: m.method == "CANCEL", 0.4, "CANCEL goes no further")
        equal(call.bye().status, 200, "the call lives")


@case("CANCEL crosses the 200: the 200 wins")
def _(t):
    server = t.server(invite=((0, 180),))
    t.edge([server])

    def answer_all_the_same(msg):
        if msg.method != "CANCEL" or msg.status is not None:
            return False
        server.say(msg, 200)
        server.step(server.open[msg.branch], 200)
        return True
    server.hook = answer_all_the_same
    call = t.call().invite()
    call.provisional(180)
    call.cancel()
    equal(call.final().status, 200, "INVITE")
    equal(call.bye().status, 200, "BYE")


@case("CANCEL while the first target is silent: the second is never tried")
def _(t):
    first, second = t.server(10, invite=()), t.server(11)
    t.edge([first, second], pool={"balance": "call-id", "failover": {"try": "700ms"}})
    end = t.end()
    while True:
        call = t.call(end).invite()
        time.sleep(0.1)
        if first.seen("INVITE"):
            break
        call.final()
    before = len(second.invites())
    call.cancel()
    equal(call.final().status, 487, "INVITE")
    time.sleep(1.2)
    equal(len(second.invites()), before, "INVITEs at the second target")


@case("CANCEL after failing over reaches the target that rings")
def _(t):
    # Whichever is asked first is silent; the other rings.
    servers = [t.server(10, invite=()), t.server(11, invite=())]
    asked = []

    def ring_if_second(server):
        def hook(msg):
            if msg.method == "INVITE" and msg.status is None and msg.branch not in server.open:
                asked.append(server)
                if asked[0] is not server:
                    server.open[msg.branch] = msg
                    server.say(msg, 180)
                return True
            return False
        return hook
    for server in servers:
        server.hook = ring_if_second(server)
    t.edge(servers, pool={"failover": {"try": "400ms"}})
    call = t.call().invite()
    call.provisional(180, 3)
    got = cancelled(call)
    check(got.status == 487, "487")
    ringing = next(s for s in servers if s is not asked[0])
    equal(len(ringing.seen("CANCEL")), 1, "CANCEL at the ringing target")


@case("CANCEL, then the target says 503: no failover, 487")
def _(t):
    servers = [t.server(10, invite=((0, 100),)), t.server(11, invite=((0, 100),))]

    def refuse(server):
        def hook(msg):
            if msg.method == "CANCEL" and msg.status is None:
                server.say(msg, 200)
                server.step(server.open[msg.branch], 503)
                return True
            return False
        return hook
    for server in servers:
        server.hook = refuse(server)
    t.edge(servers)
    call = t.call().invite()
    call.provisional(100)
    time.sleep(0.2)
    call.cancel()
    equal(call.final().status, 487, "INVITE")
    time.sleep(0.5)
    equal(sum(len(s.invites()) for s in servers), 1, "INVITEs at both targets")


@case("CANCEL of nothing: 481")
def _(t):
    server = t.server()
    t.edge([server])
    call = t.call()
    _, branch = call.request("INVITE")
    call.last_invite = (b"", branch, 1, [])
    call.cancel()
    got = call.end.wait(lambda m: m.status is not None, what="answer to CANCEL")
    equal(got.status, 481, "CANCEL")
    equal(server.log, [], "nothing goes further")


@case("CANCEL twice, and of a call that the target refuses meanwhile")
def _(t):
    server = t.server(invite=((0, 180), (0.3, 486)))
    server.hook = lambda m: m.method == "CANCEL" and m.status is None and server.say(m, 200) is None
    t.edge([server])
    call = t.call().invite()
    call.provisional(180)
    for _ in range(2):
        call.cancel()
        call.end.wait(call.mine(200, "CANCEL"), what="200 to CANCEL")
    got = call.final()
    check(got.status in (486, 487), f"INVITE: {got.start}")
    equal(len(server.seen("CANCEL")), 1, "one CANCEL to the target")


@case("a CANCEL that goes unanswered: the INVITE ends all the same")
def _(t):
    server = t.server(invite=((0, 180),))
    server.hook = lambda m: m.method == "CANCEL"
    t.edge([server], timers={"t1": "50ms"})
    call = t.call().invite()
    call.provisional(180)
    call.cancel()
    call.end.wait(call.mine(200, "CANCEL"), what="200 to CANCEL")
    got = call.final(timeout=8)
    check(got.status in (408, 487), f"64 x T1 after the CANCEL (RFC 3261 9.1): {got.start}")
    check(sip.Msg(got.raw).call_id == call.call_id, "its own answer")


@case("CANCEL while the connection to the target opens: 487 when that fails, and no second try")
def _(t):
    hole = socket.socket()
    hole.bind((t.ip(10), 5060))
    hole.listen(0)
    fill = []
    for _ in range(4):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex((t.ip(10), 5060))
        fill.append(s)
    second = t.server(11)
    second.invite = ((0, 180),)
    weir = t.edge([f"tcp://{t.ip(10)}:5060", second], timers={"connect": "1s"},
                  pool={"balance": "round-robin", "failover": {"try": "5s", "within": "8s"}})
    end = t.end()
    for _ in range(2):  # one of the two goes to the hole first
        asked = len(second.invites())
        call = t.call(end).invite()
        time.sleep(0.3)
        start = time.monotonic()
        call.cancel()
        call.end.wait(call.mine(200, "CANCEL"), what="200 to CANCEL")
        equal(call.final().status, 487, "INVITE")
        check(time.monotonic() - start < 1.5, "within the connect timeout")
        if len(second.invites()) == asked:
            time.sleep(1.2)
            equal(len(second.invites()), asked, "INVITEs at the second target")
    equal(weir.counters()["failovers"], 0, "failovers")
    hole.close()
