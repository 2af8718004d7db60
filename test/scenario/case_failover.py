# SPDX-License-Identifier: Apache-2.0
"""A request moves on to another target when that is right, and only then."""
import re
import socket
import time

from kit import ends
from kit.case import case
from kit.ends import check, equal, until


def until_first(t, end, first, calls=30):
    """Places calls until one was sent to `first` first; all must succeed. Returns the slowest
    answer in seconds."""
    slowest = 0.0
    for _ in range(calls):
        start = time.monotonic()
        call = t.call(end).invite()
        equal(call.final(timeout=9).status, 200, "INVITE")
        slowest = max(slowest, time.monotonic() - start)
        call.bye()
        if first():
            return slowest
    raise ends.Failed(f"{calls} calls, and none went to the dead target first")


POOL = {"balance": "round-robin", "failover": {"try": "500ms", "within": "4s"},
        "outlier": {"eject_after": "off"}}


@case("failover: nothing listens there (udp: port unreachable), no pause")
def _(t):
    alive = t.server(11)
    weir = t.edge([f"udp://{t.ip(10)}:5060", alive], POOL)
    slowest = until_first(t, t.end(), lambda: weir.counters()["failovers"] >= 2)
    check(slowest < 0.4, f"slower than the try timeout: {slowest:.3f} s")


@case("failover: connection refused (tcp), no pause")
def _(t):
    alive = t.server(11, tcp=True)
    weir = t.edge([f"tcp://{t.ip(10)}:5060", alive.target("tcp")], POOL)
    slowest = until_first(t, t.end(), lambda: weir.counters()["failovers"] >= 2)
    check(slowest < 0.4, f"slower than the try timeout: {slowest:.3f} s")


@case("failover: a black hole (udp) costs one try timeout")
def _(t):
    hole, alive = t.server(10, invite=()), t.server(11)
    t.edge([hole, alive], POOL)
    slowest = until_first(t, t.end(), lambda: len(hole.invites()) >= 2)
    check(0.4 < slowest < 1.2, f"about one try timeout: {slowest:.3f} s")


@case("failover: a black hole (tcp, the connection never opens)")
def _(t):
    # A listener whose queue is full drops further SYNs.
    hole = socket.socket()
    hole.bind((t.ip(10), 5060))
    hole.listen(0)
    fill = []
    for _ in range(4):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex((t.ip(10), 5060))
        fill.append(s)
    alive = t.server(11, tcp=True)
    weir = t.edge([f"tcp://{t.ip(10)}:5060", alive.target("tcp")], POOL,
                  timers={"connect": "600ms"})
    slowest = until_first(t, t.end(), lambda: weir.counters()["failovers"] >= 1)
    check(slowest < 2.0, f"about one timeout: {slowest:.3f} s")


@case("failover: a target that accepts the connection and says nothing (tcp)")
def _(t):
    hole, alive = t.server(10, invite=(), tcp=True), t.server(11, tcp=True)
    t.edge([hole.target("tcp"), alive.target("tcp")], POOL)
    slowest = until_first(t, t.end(), lambda: len(hole.invites()) >= 1)
    check(slowest < 1.5, f"about one try timeout: {slowest:.3f} s")


@case("failover: a target that closes the connection on every request (tcp)")
def _(t):
    bad, alive = t.server(10, invite=(), tcp=True), t.server(11, tcp=True)
    bad.hook = lambda m: m.method == "INVITE" and (m.conn.reset() or True)
    t.edge([bad.target("tcp"), alive.target("tcp")], POOL)
    until_first(t, t.end(), lambda: len(bad.invites()) >= 3)


for status in (503, 408, 430):
    @case(f"failover: {status}")
    def _(t, status=status):
        bad, alive = t.server(10, invite=((0, status),)), t.server(11)
        t.edge([bad, alive], POOL)
        slowest = until_first(t, t.end(), lambda: len(bad.invites()) >= 2)
        check(slowest < 0.4, f"at once: {slowest:.3f} s")
        until(lambda: len(bad.seen("ACK")) >= 1, "Weir acknowledges it")

    @case(f"failover: {status} after a 100")
    def _(t, status=status):
        bad, alive = t.server(10, invite=((0, 100), (0.05, status))), t.server(11)
        t.edge([bad, alive], POOL)
        until_first(t, t.end(), lambda: len(bad.invites()) >= 2)

for status in (302, 404, 480, 486, 500, 603):
    @case(f"no failover: {status} is an answer")
    def _(t, status=status):
        servers = [t.server(n, invite=((0, status),)) for n in (10, 11)]
        t.edge(servers, POOL)
        call = t.call().invite()
        equal(call.final().status, status, "INVITE")
        time.sleep(0.3)
        equal(sum(len(s.invites()) for s in servers), 1, "INVITEs at both")

for name, plan in (("503", ((0, 180), (0.2, 503))), ("408", ((0, 183), (0.2, 408))),
                   ("silence for longer than the try timeout", ((0, 180), (1.5, 200)))):
    @case(f"no failover once it rings: {name}")
    def _(t, plan=plan):
        servers = [t.server(n, invite=plan) for n in (10, 11)]
        t.edge(servers, POOL)
        call = t.call().invite()
        got = call.final()
        want = plan[-1][1] if plan[-1][1] != 503 else 500
        equal(got.status, want, "INVITE (a 503 is never passed on as it is)")
        equal(sum(len(s.invites()) for s in servers), 1, "INVITEs at both")


@case("a request other than INVITE fails over too")
def _(t):
    hole, alive = t.server(10, other=None), t.server(11)
    t.edge([hole, alive], POOL)
    call = t.call()
    for _ in range(20):
        equal(call.ask("MESSAGE").status, 200, "MESSAGE")
        if hole.seen("MESSAGE"):
            return
    raise ends.Failed("none went to the silent target first")


def exhausted(t, retryable):
    pool = dict(POOL)
    pool["failover"] = {"try": "300ms", "within": "4s", "tries": 3,
                        "on_exhausted": "retryable" if retryable else "final"}
    servers = [t.server(n, invite=((0, 503),)) for n in (10, 11, 12, 13)]
    weir = t.edge(servers, pool)
    call = t.call().invite()
    got = call.final()
    equal(sum(len(s.invites()) for s in servers), 3, "tries")
    row = weir.logged(lambda r: r["method"] == "INVITE")[0]
    equal((row["tries"], row["pool"], row["target_status"]), (3, "border", 503), "the log line")
    return got, row


@case("every option spent: 500, with Reason and Warning that name pool and tries")
def _(t):
    got, row = exhausted(t, False)
    equal((got.status, row["status"]), (500, 500), "INVITE")
    check(re.search(r"border", got.get("reason") or ""), f"Reason: {got.get('reason')}")
    warning = got.get("warning") or ""
    check("border" in warning and re.search(r"\b3\b", warning), f"Warning: {warning}")
    check(re.match(r"399 edge-1 \"", warning), f"warn-code agent text: {warning}")


@case("every option spent, retryable: 503")
def _(t):
    got, _ = exhausted(t, True)
    equal(got.status, 503, "INVITE")
    check("border" in (got.get("warning") or ""), f"Warning: {got.get('warning')}")


@case("every option is silent: 500 within the one deadline")
def _(t):
    servers = [t.server(n, invite=()) for n in (10, 11, 12)]
    t.edge(servers, {"failover": {"try": "800ms", "within": "1500ms", "tries": 3}})
    start = time.monotonic()
    call = t.call().invite()
    equal(call.final().status, 500, "INVITE")
    took = time.monotonic() - start
    check(1.2 < took < 2.2, f"about 1.5 s: {took:.2f} s")
    equal(sum(len(s.invites()) for s in servers), 2, "tries that fit")


@case("one dead target alone: 500 at once")
def _(t):
    t.edge([f"udp://{t.ip(10)}:5060"], POOL)
    start = time.monotonic()
    call = t.call().invite()
    equal(call.final().status, 500, "INVITE")
    check(time.monotonic() - start < 0.45, "at once")


@case("the retry budget: a pool in trouble is not asked over and over")
def _(t):
    servers = [t.server(n, invite=((0, 503),)) for n in (10, 11, 12)]
    pool = dict(POOL)
    pool["failover"] = {"tries": 3, "budget": "10%"}
    weir = t.edge(servers, pool)
    end = t.end()
    for _ in range(10):
        calls = [t.call(end).invite() for _ in range(30)]
        for call in calls:
            equal(call.final().status, 500, "INVITE")
    asked = sum(len(s.invites()) for s in servers)
    # Retries are free until it shows that the pool as a whole fails (some 130 tries), then 10 and
    # 10 % of the calls, and one a second.
    check(300 <= asked <= 300 + 90 + 10 + 26 + 14, f"300 calls: {asked} tries")
    check(weir.counters()["failovers_denied"] > 0, "refusals are counted")


@case("Retry-After of a 503: the target has its rest")
def _(t):
    tired = t.server(10, invite=((0, 503, [("Retry-After", "30")]),))
    alive = t.server(11)
    weir = t.edge([tired, alive], POOL)
    end = t.end()
    for _ in range(20):
        t.call(end).whole()
    equal(len(tired.invites()), 1, "INVITEs at the tired one")
    why = str(weir.targets()[tired.target()])
    check("Retry-After" in why or "retry" in why.lower(), f"`show pools` says why: {why}")


@case("ejection: failures in a row leave a target out, and it says why")
def _(t):
    dead = f"udp://{t.ip(10)}:5060"
    alive = t.server(11)
    weir = t.edge([dead, alive], {"balance": "round-robin",
                                  "outlier": {"eject_after": 3, "eject_base": "1500ms",
                                              "slow_start": "off"}})
    end = t.end()
    for _ in range(12):
        t.call(end).whole()
    failovers = weir.counters()["failovers"]
    check(2 <= failovers <= 3, f"failovers before the ejection (two refusals suffice): {failovers}")
    check("eject" in str(weir.targets()[dead]), f"show pools: {weir.targets()[dead]}")
    back = t.server(10)
    until(lambda: t.call(end).whole() and len(back.invites()) > 0, "it is used again", 6)


@case("kill -9 of one of three targets under load", heavy=True, build="release", timeout=60)
def _(t):
    servers = [t.sipp("uas_at_once", t.ip(n), 5060) for n in (10, 11, 12)]
    weir = t.edge([f"udp://{t.ip(n)}:5060" for n in (10, 11, 12)],
                  {"failover": {"try": "500ms"}, "health": {"every": "500ms", "timeout": "500ms"}})
    load = t.sipp("uac", t.ip(100), 5060, dest=t.outside, calls=500, rate=120,
                  options=["-d", "0"])
    time.sleep(1.5)
    servers[0].kill()
    load.wait(50)
    n = load.numbers()
    rows = weir.logged(lambda r: r["method"] == "INVITE", 500)
    bad = [r for r in rows if r["status"] != 200]
    equal((len(rows), bad[:2]), (500, []), "call set-ups that failed")
    check(n["created"] == 500, f"calls placed: {n}")
    check(weir.counters()["failovers"] > 0, "some moved on")
