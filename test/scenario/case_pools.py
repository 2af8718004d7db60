# SPDX-License-Identifier: Apache-2.0
"""Which target takes a call: shares, zones, health, and what an operator says."""
import collections
import time

from kit import sip
from kit.case import case
from kit.ends import check, equal, until


def place(t, count, end=None):
    """Calls one after another, to the end of the dialog."""
    end = end or t.end()
    for _ in range(count):
        t.call(end).whole()


def shares(servers):
    return [len(s.invites()) for s in servers]


@case("balance: round-robin by weight")
def _(t):
    servers = [t.server(n) for n in (10, 11, 12)]
    targets = [{"uri": s.target(), "weight": w} for s, w in zip(servers, (3, 1, 1))]
    t.edge(targets, {"balance": "round-robin"})
    place(t, 50)
    equal(shares(servers), [30, 10, 10], "shares of 50 calls by weights 3:1:1")


@case("balance: least-busy avoids the slow one")
def _(t):
    slow = t.server(10, invite=((0, 180), (6, 200)))
    fast = t.server(11)
    t.edge([slow, fast], {"balance": "least-busy"})
    end = t.end()
    for _ in range(40):
        t.call(end).invite()
        time.sleep(0.02)
    until(lambda: sum(shares([slow, fast])) == 40, "all calls arrived")
    got = shares([slow, fast])
    check(got[0] <= 8, f"the busy one gets few: {got}")


@case("balance: call-id keeps to its target, and moves 1/n when one goes")
def _(t):
    servers = [t.server(n) for n in (10, 11, 12, 13)]
    weir = t.edge(servers, {"balance": "call-id"})
    end = t.end()
    ids = [sip.fresh("sticky") for _ in range(60)]

    def where():
        for s in servers:
            with s.changed:
                s.log.clear()
        for call_id in ids:
            call = t.call(end, call_id=call_id)
            call.whole()
        return {m.call_id: n for n, s in enumerate(servers) for m in s.invites()}
    first, second = where(), where()
    equal(first, second, "the same Call-ID, the same target")
    check(min(collections.Counter(first.values()).values()) >= 4, "all get some")
    equal(weir.command("target", "border", servers[0].target(), "drain")[0], 0, "drain")
    third = where()
    moved = [c for c in ids if third[c] != first[c]]
    check(all(first[c] == 0 for c in moved), "only the calls of the target that went have moved")
    check(0 not in third.values(), "it gets none")


@case("zones: our own first, the others when it is not well, and back")
def _(t):
    near, far = t.server(10), t.server(11)
    config = t.config([{"uri": near.target(), "zone": "a"}, {"uri": far.target(), "zone": "b"}],
                      {"health": {"every": "300ms", "timeout": "280ms", "fall": 2, "rise": 2},
                       "outlier": {"slow_start": "off", "panic": "0%"},
                       "failover": {"try": "500ms"}},
                      node={"name": "edge-1", "zone": "a", "workers": 1})
    weir = t.weir(config)
    end = t.end()
    place(t, 10, end)
    equal(shares([near, far]), [10, 0], "our zone alone")
    # Only a target that has answered a probe is judged by its probes.
    near.wait(lambda m: m.method == "OPTIONS", what="a probe")
    time.sleep(0.1)
    near.options, near.invite = None, ()
    until(lambda: not weir.targets()[near.target()]["fit"], "the probes notice", 8)
    place(t, 5, end)
    equal(shares([near, far]), [10, 5], "spilled over")
    near.options, near.invite = 200, ((0, 180), (0, 200))
    until(lambda: weir.targets()[near.target()]["fit"], "the probes notice", 8)
    place(t, 5, end)
    equal(shares([near, far]), [15, 5], "and back")


@case("health: OPTIONS unanswered marks down after `fall`, answered marks up after `rise`")
def _(t):
    well, sick = t.server(10), t.server(11, options=None)
    weir = t.edge([well, sick], {"health": {"every": "300ms", "timeout": "150ms", "fall": 3,
                                            "rise": 2}, "outlier": {"slow_start": "off"}})
    start = time.monotonic()
    until(lambda: not weir.targets()[sick.target()]["up"], "down", 8)
    check(time.monotonic() - start > 0.5, "not before three probes")
    row = weir.targets()[sick.target()]
    check(not row["fit"] and row["why"], f"it says why: {row}")
    place(t, 10)
    equal(shares([well, sick]), [10, 0], "shares")
    sick.options = 200
    until(lambda: weir.targets()[sick.target()]["fit"], "up", 8)
    place(t, 10, t.end(101))
    check(shares([sick])[0] > 0, "it is used again")


@case("health: any final answer to OPTIONS is a sign of life, and so is a call")
def _(t):
    odd, mute = t.server(10, options=405), t.server(11, options=None)
    weir = t.edge([odd, mute], {"balance": "round-robin",
                                "health": {"every": "300ms", "timeout": "150ms", "fall": 2}})
    end = t.end()
    for _ in range(15):
        place(t, 2, end)
        time.sleep(0.1)
    rows = weir.targets()
    check(rows[odd.target()]["fit"], f"405 is an answer: {rows[odd.target()]}")
    check(rows[mute.target()]["fit"], f"it answers calls: {rows[mute.target()]}")


@case("panic: when most look dead, all are used")
def _(t):
    servers = [t.server(n, options=None) for n in (10, 11, 12)]
    weir = t.edge(servers, {"health": {"every": "200ms", "timeout": "100ms", "fall": 2},
                            "balance": "round-robin"})
    until(lambda: not any(r["fit"] for r in weir.targets().values()), "all look dead", 8)
    check(all(r["panic"] for r in weir.targets().values()), "panic is shown")
    place(t, 9)
    equal(sum(shares(servers)), 9, "calls go through")


@case("drain, maint and ready at run time")
def _(t):
    one, two = t.server(10), t.server(11)
    weir = t.edge([one, two], {"balance": "round-robin"})
    end = t.end()
    open_calls = []
    while not one.invites():
        call = t.call(end).invite()
        call.final()
        open_calls.append(call)
    equal(weir.command("target", "border", one.target(), "drain")[0], 0, "drain")
    equal(weir.targets()[one.target()]["admin"], "drain", "show")
    before = shares([one])[0]
    place(t, 8, end)
    equal(shares([one])[0], before, "no new call")
    for call in open_calls:
        equal(call.bye().status, 200, "calls that are there go on")
    equal(weir.command("target", "border", one.target(), "ready")[0], 0, "ready")
    place(t, 8, end)
    check(shares([one])[0] > before, "it takes calls again")
    equal(weir.command("target", "border", two.target(), "maint")[0], 0, "maint")
    before = shares([two])[0]
    place(t, 4, end)
    equal(shares([two])[0], before, "maint: nothing")
    status, _, err = weir.command("target", "nothere", one.target(), "drain")
    check(status != 0 and err, f"an unknown pool is an error: {status} {err}")
    status, _, err = weir.command("target", "border", one.target(), "asleep")
    check(status != 0 and err, f"an unknown state is an error: {status} {err}")


@case("a target drained under load loses no call", heavy=True, build="release", timeout=60)
def _(t):
    for n in (10, 11):
        t.sipp("uas_ring", t.ip(n), 5060)
    weir = t.edge([f"udp://{t.ip(n)}:5060" for n in (10, 11)])
    load = t.sipp("uac", t.ip(100), 5060, dest=t.outside, calls=400, rate=120,
                  options=["-d", "100"])
    time.sleep(1)
    equal(weir.command("target", "border", f"udp://{t.ip(10)}:5060", "drain")[0], 0, "drain")
    time.sleep(0.7)
    begun = weir.targets()[f"udp://{t.ip(10)}:5060"]["begun"]
    load.done(400)
    equal(weir.targets()[f"udp://{t.ip(10)}:5060"]["begun"], begun, "no new request after it")


@case("all targets drained: 500 that says so")
def _(t):
    server = t.server()
    weir = t.edge([server])
    equal(weir.command("target", "border", server.target(), "maint")[0], 0, "maint")
    call = t.call().invite()
    got = call.final()
    check(got.status in (500, 503), f"INVITE: {got.start}")
    check("border" in (got.get("warning") or "") + (got.get("reason") or ""),
          f"it names the pool: {got.raw}")


@case("rules: by side and method, first match wins; no match is 404")
def _(t):
    reg, calls = t.server(10), t.server(11)
    config = t.config([])
    config["pools"] = {"reg": {"targets": [reg.target()], "health": "off"},
                       "calls": {"targets": [calls.target()], "health": "off"}}
    config["routes"] = [{"from": "outside", "method": "REGISTER", "to": "reg"},
                        {"from": "outside", "method": "INVITE", "to": "calls"}]
    t.weir(config)
    call = t.call()
    equal(call.ask("REGISTER", uri="sip:example.com").status, 200, "REGISTER")
    equal(len(reg.seen("REGISTER")), 1, "at its pool")
    t.call(t.end(101)).whole()
    equal(len(calls.invites()), 1, "INVITE at its pool")
    equal(call.ask("MESSAGE").status, 404, "MESSAGE")
