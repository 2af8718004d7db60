# SPDX-License-Identifier: Apache-2.0
"""Who may come in: an operator's lists, limits per source, bans; enforced, and reported only.

covers: cli/guard.c, cli/show_guard.c, cli/people.c, guard/show.c, guard/list.c, guard/door.c,
    guard/sources.c
"""
import time

from kit.case import case
from kit.ends import check, equal, until


def refused(end, edge):
    """Does a connection end before anything was said over it?"""
    try:
        conn = end.connect(edge)
    except OSError:
        return True
    return conn.closed.wait(0.5)


def of_source(weir, prefix):
    """What is known of a source or a neighbourhood, or None."""
    return next((r for r in weir.show("guard")
                 if r["row"] in ("source", "prefix") and r["prefix"] == prefix), None)


def totals(weir):
    return next(r for r in weir.show("guard") if r["row"] == "totals")


def guard(weir, *words):
    equal(weir.command("guard", *words), (0, "", ""), f"weir guard {words}")


# ---- an operator's lists ---------------------------------------------------------------------

@case("guard deny: connections are refused, datagrams ignored, and forget lets both in again")
def _(t):
    server = t.server()
    weir = t.edge([server])
    bad, good = t.end(9), t.end(100)
    held = t.call(bad, tcp=True)
    held.whole()
    guard(weir, "deny", t.ip(9))
    check(refused(bad, t.outside), "a connection of the denied one")
    check(not refused(good, t.outside), "a connection of another")
    before = len(server.invites())
    call = t.call(bad).invite()
    bad.none(call.mine(), 0.7, "an answer to a datagram of the denied one")
    t.call(good).whole()
    equal(len(server.invites()), before + 1, "what the server saw")
    rows = [r for r in weir.show("guard") if r["row"] == "list"]
    equal([(r["list"], r["prefix"]) for r in rows], [("deny", t.ip(9) + "/32")], "the list")
    check(rows[0]["refused"] >= 2, f"counted {rows}")
    out = weir.command("show", "guard")[1]
    check(out.startswith("mode          enforcing") and f"deny  {t.ip(9)}/32  good" in out, out)
    guard(weir, "forget", t.ip(9))
    t.call(bad).whole()
    t.call(bad, tcp=True).whole()
    check("deny" not in weir.command("show", "guard")[1].replace("denied", ""), "it is forgotten")


@case("guard: for a time only; allow within deny; what is no prefix; usage")
def _(t):
    weir = t.edge([t.server()])
    end = t.end(9)
    guard(weir, "deny", t.ip(0) + "/24")
    check(refused(end, t.outside), "the network")
    guard(weir, "allow", t.ip(9), "--for", "1h")
    t.call(end, tcp=True).whole()
    guard(weir, "deny", t.ip(9), "--for", "1s")
    check(refused(end, t.outside), "denied for a second")
    guard(weir, "forget", t.ip(0) + "/24")
    until(lambda: not refused(end, t.outside), "the second is over", 10)
    status, _, err = weir.command("guard", "deny", "127.0.0.300")
    check(status == 1 and "no prefix" in err, err)
    for words in (("alow", "10.0.0.1"), ("deny",), ("deny", "10.0.0.1", "--for", "5"),
                  ("deny", "10.0.0.1", "--for", "200ms"), ("forget", "10.0.0.1", "--for", "5s"),
                  ("deny", "10.0.0.1 for"), ("deny", "10.0.0.1", "--within", "5s")):
        equal(weir.command("guard", *words)[0], 64, f"weir guard {words}")
    check("did you mean 'allow'" in weir.command("guard", "alow", "10.0.0.1")[2], "a near miss")
