# SPDX-License-Identifier: Apache-2.0
"""Several workers: what lands on the wrong one reaches the right one. Built for ThreadSanitizer.

covers: net/handover.c, net/worker.c
"""
import time

from kit import ends, sip
from kit.case import case
from kit.ends import check, equal

WORKERS = {"name": "edge-1", "workers": 3}


def spread(t, count=16):
    """Endpoints on many ports, so that the kernel spreads them over the workers."""
    return [t.end(100 + n, 5060) for n in range(count)]


@case("workers: calls over udp and tcp", build="tsan", timeout=60)
def _(t):
    server = t.server(tcp=True)
    weir = t.edge([server], node=WORKERS)
    for n, end in enumerate(spread(t)):
        t.call(end, tcp=n % 2 == 1).whole()
    rows = weir.logged(lambda r: r["method"] == "INVITE", 16)
    check(len({r["worker"] for r in rows}) > 1, "more than one worker took part")


@case("workers: the same with SIPp, 100 calls each", build="tsan", timeout=90, heavy=True)
def _(t):
    t.sipp("uas", t.ip(10), 5060)
    t.sipp("uas", t.ip(11), 5060, tcp=True)
    weir = t.edge([f"udp://{t.ip(10)}:5060", f"tcp://{t.ip(11)}:5060"], node=WORKERS)
    loads = [t.sipp("uac", t.ip(100 + n), 5060, dest=t.outside, calls=100, rate=30, tcp=n % 2 == 1)
             for n in range(4)]
    for load in loads:
        load.done(100, 60)
    check(weir.counters()["handed_over"] > 0, "some were handed over")


@case("workers: an answer from another source port reaches its transaction", build="tsan",
      timeout=60)
def _(t):
    server = t.server(invite=(), other=None)
    others = [t.end(20, 6000 + n) for n in range(12)]
    weir = t.edge([server], node=WORKERS)
    for n, end in enumerate(spread(t, 12)):
        call = t.call(end).invite()
        invite = server.wait(lambda m: m.method == "INVITE" and m.status is None)
        reply = sip.reply(invite, 200, tag=f"t{n}", contact=server.uri())
        others[n].send(reply, invite.peer)  # the right place, the wrong sender
        equal(call.final().status, 200, "INVITE")
    check(weir.counters()["handed_over"] > 0, "some were handed over")


@case("workers: a CANCEL from another source port reaches its INVITE", build="tsan", timeout=60)
def _(t):
    server = t.server(invite=((0, 180),))
    weir = t.edge([server], node=WORKERS)
    others = [t.end(90, 6000 + n) for n in range(12)]
    for n, end in enumerate(spread(t, 12)):
        call = t.call(end).invite()
        call.provisional(180)
        _, branch, cseq, _ = call.last_invite
        data, _ = call.request("CANCEL", uri=call.uri, branch=branch, cseq=cseq)
        others[n].send(data, t.outside)
        got = others[n].wait(lambda m, c=call: m.call_id == c.call_id and m.status,
                             what="answer to CANCEL")
        equal(got.status, 200, "CANCEL")
        equal(call.final().status, 487, "INVITE")
    check(weir.counters()["handed_over"] > 0, "some were handed over")


@case("workers: a CANCEL and a BYE over another connection", build="tsan", timeout=60)
def _(t):
    server = t.server(invite=((0, 180),))
    t.edge([server], node=WORKERS)
    for n in range(8):
        end = t.end(100 + n, tcp=True)
        call = t.call(end, tcp=True).invite()
        call.provisional(180)
        first = call.to
        call.to = end.connect(t.outside)
        _, branch, cseq, _ = call.last_invite
        data, _ = call.request("CANCEL", uri=call.uri, branch=branch, cseq=cseq)
        via = f"{sip.uri_host(call.to.local[0])}:{call.to.local[1]}"
        data = data.replace(via.encode(), f"{first.local[0]}:{first.local[1]}".encode(), 1)
        call.to.send(data)
        got = call.final(ack=False)
        check(got.conn is first, "the INVITE's answer comes by the INVITE's connection")
        equal(got.status, 487, "INVITE")
        call.to = first
        call.ack_failure(got)


@case("workers: a callee's BYE comes in on any worker and goes down the caller's connection",
      build="tsan", timeout=60)
def _(t):
    server = t.server(20)
    weir = t.edge([server], node=WORKERS)
    for n in range(10):
        end = t.end(100 + n, tcp=True)
        call = t.call(end, tcp=True)
        ok = call.invite().final()
        invite = [m for m in server.invites() if m.call_id == call.call_id][0]
        sender = t.end(30, 7000 + n)
        back = ends.Call(sender, sip.host_port(invite.all("record-route")[0]),
                         call_id=call.call_id, from_tag=ok.tag("to"))
        back.to_tag, back.routes = call.from_tag, invite.all("record-route")
        back.remote = invite.contact_uri()
        data, branch = back.request("BYE")
        back.send(data)
        got = end.wait(lambda m: m.method == "BYE" and m.status is None, what="BYE")
        check(got.conn is call.to, "the caller's own connection")
        end.answer(got, sip.reply(got, 200))
        sender.wait(lambda m, b=branch: m.status == 200 and m.branch == b, what="its answer")
    check(weir.counters()["handed_over"] > 0, "some were handed over")


@case("workers: reload, target, show and drain under load", build="tsan", timeout=90, heavy=True)
def _(t):
    for n in (10, 11):
        t.sipp("uas", t.ip(n), 5060)
    weir = t.edge([f"udp://{t.ip(n)}:5060" for n in (10, 11)], node=WORKERS)
    loads = [t.sipp("uac", t.ip(100 + n), 5060, dest=t.outside, calls=150, rate=30, tcp=n == 2)
             for n in range(3)]
    for n in range(10):
        equal(weir.command("reload")[0], 0, "reload")
        equal(weir.command("target", "border", f"udp://{t.ip(10)}:5060",
                           "drain" if n % 2 else "ready")[0], 0, "target")
        for what in ("pools", "transactions", "flows", "counters"):
            weir.show(what)
        time.sleep(0.2)
    for load in loads:
        load.done(150, 60)
    equal(weir.stop(60), 0, "drained")
