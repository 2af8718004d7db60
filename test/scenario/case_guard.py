# SPDX-License-Identifier: Apache-2.0
"""Who may come in: an operator's lists, limits per source, bans; enforced, and reported only.

covers: cli/guard.c, cli/show_guard.c, cli/people.c, guard/show.c, guard/list.c, guard/door.c,
    guard/sources.c
"""
import json
import os
import socket
import subprocess
import threading
import time

from kit import ends, procs
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


@case("guard: what two workers see is put together, and each is told what an operator says")
def _(t):
    weir = t.edge([t.server()], node={"name": "edge-1", "workers": 2})
    guard(weir, "deny", t.ip(0) + "/24")
    guard(weir, "allow", t.ip(9))
    end, bad = t.end(9), t.end(100)
    held = [end.connect(t.outside) for _ in range(30)]
    equal(sum(refused(bad, t.outside) for _ in range(10)), 10, "at either worker")
    rows = weir.show("guard")
    equal(len([r for r in rows if r["row"] == "list"]), 4, "two words, two workers")
    until(lambda: len([r for r in weir.show("guard") if r["row"] == "source" and
                       r["prefix"] == t.ip(9) + "/32" and r["connections"] > 1]) == 2,
          "both have taken some", 10)
    lines = weir.command("show", "guard")[1].splitlines()
    check("connections   30, 30 let in since the start" in lines, f"{lines}")
    check("refused       10: denied 10" in lines, f"{lines}")
    said = [x.split() for x in lines if x.startswith(("deny", "allow"))]
    equal(sorted(said), [["allow", f"{t.ip(9)}/32", "good", "0"],
                         ["deny", f"{t.ip(0)}/24", "good", "10"]], "the lists")
    equal([x.split()[1] for x in lines if x.startswith(f"{t.ip(9)} ")], ["30"], "one source")
    check(not any(c.closed.is_set() for c in held), "nobody was cut off")


# ---- limits per source -----------------------------------------------------------------------

@case("guard: connections per source are limited, others are not; a closed one makes room")
def _(t):
    weir = t.edge([t.server()], guard={"connections": {"per_source": 3}})
    bad, good = t.end(9), t.end(100)
    held = [bad.connect(t.outside) for _ in range(3)]
    until(lambda: totals(weir)["connections"] == 3, "three are there", 10)
    check(refused(bad, t.outside) and refused(bad, t.outside), "the fourth and fifth")
    check(not any(c.closed.is_set() for c in held), "the first three stay")
    t.call(good, tcp=True).whole()
    row = of_source(weir, t.ip(9) + "/32")
    equal((row["connections"], row["refused"]), (3, 2), f"{row}")
    equal(totals(weir)["refused"]["source_full"], 2, "by why")
    out = weir.command("show", "guard")[1]
    check("refused       2: source full 2\n" in out, out)
    held.pop().close()
    until(lambda: not refused(bad, t.outside), "room again", 10)


@case("guard: report_only lets all in, and shows who would be refused; a reload makes it bite")
def _(t):
    limits = {"connections": {"per_source": 3}, "per_source": {"requests": 1}, "burst": "1s"}
    server = t.server()
    weir = t.edge([server], guard={"report_only": True, **limits})
    office = t.end(9)
    held = [office.connect(t.outside) for _ in range(5)]
    until(lambda: totals(weir)["connections"] == 5, "all five are there", 10)
    for _ in range(5):
        t.call(office).whole()
    check(not any(c.closed.is_set() for c in held), "nobody was refused")
    row = of_source(weir, t.ip(9) + "/32")
    check(row["connections"] == 5 and row["refused"] >= 2, f"counted {row}")
    said = totals(weir)
    check(said["report_only"] and said["refused"]["source_full"] == 2 and
          said["over"]["requests"] >= 1, f"totals {said}")
    lines = weir.command("show", "guard")[1].splitlines()
    check(lines[0].startswith("mode          REPORT ONLY"), lines[0])
    check(any(x.startswith("would refuse") and "source full 2" in x for x in lines), f"{lines}")
    head = next(i for i, x in enumerate(lines) if "WOULD REFUSE" in x)
    check(lines[head + 1].startswith(f"{t.ip(9)} "), f"the office on top: {lines[head:]}")
    guard(weir, "forget", t.ip(9))
    weir.write(t.config([server], guard=limits))
    equal(weir.command("reload")[0], 0, "reload")
    check(refused(office, t.outside), "now it bites")
    check(weir.command("show", "guard")[1].startswith("mode          enforcing"), "it says so")
    weir.write(t.config([server], guard={**limits, "exempt": [t.ip(9)]}))
    equal(weir.command("reload")[0], 0, "reload")
    check(not refused(office, t.outside), "exempt by the file")


@case("guard: requests over a source's rate are answered 503 with Retry-After, dialogs go on")
def _(t):
    weir = t.edge([t.server()], guard={"per_source": {"requests": 1}, "burst": "2s",
                                       "ban": {"first": "off"},
                                       "retry_after": {"min": "2s", "max": "10s"}})
    bad, good = t.end(9), t.end(100)
    first = t.call(bad)
    equal(first.invite().final().status, 200, "within the burst")
    answers = [t.call(bad).invite().final() for _ in range(10)]
    over = [m for m in answers if m.status == 503]
    check(len(over) >= 3, f"over the rate: {[m.status for m in answers]}")
    for m in over:
        check(2 <= int(m.get("retry-after")) <= 10, f"Retry-After {m.get('retry-after')}")
    equal(first.bye().status, 200, "within a dialog")
    for _ in range(2):
        t.call(good).whole()
    equal(weir.counters()["requests_limited"], len(over), "requests_limited")
    equal(totals(weir)["bans"], 0, "nobody was banned")
    until(lambda: t.call(bad).invite().final().status == 200, "the bucket fills again", 10, 0.5)


# ---- bans ------------------------------------------------------------------------------------

def banned_for(weir, prefix):
    row = of_source(weir, prefix)
    return row.get("banned_for_ms", 0) if row else 0


@case("guard: rubbish over connections is a ban, longer each time, and shorter after good conduct",
      timeout=60)
def _(t):
    weir = t.edge([t.server()], guard={"per_source": {"malformed": 1}, "burst": "1s",
                                       "ban": {"first": "2s", "max": "8s", "decay": "2s"}})
    bad, prefix = t.end(9), t.ip(9) + "/32"

    def misbehave():
        """Until it is banned: for how many ms."""
        for _ in range(50):
            try:
                bad.connect(t.outside).send(b"\x01\x02 rubbish\r\n\r\n" * 4)
            except OSError:
                pass
            left = banned_for(weir, prefix)
            if left > 0:
                return left
            time.sleep(0.05)
        return 0

    first = misbehave()
    check(0 < first <= 2200, f"the first ban: {first} ms")
    check(refused(bad, t.outside), "while it is banned")
    t.call(t.end(100), tcp=True).whole()
    until(lambda: banned_for(weir, prefix) == 0, "it ends", 10)
    second = misbehave()
    check(2200 < second <= 4200, f"the second: {second} ms")
    out = weir.command("show", "guard")[1]
    check(f"\n{t.ip(9)} " in out and "BANNED FOR" in out, out)
    until(lambda: banned_for(weir, prefix) == 0, "it ends", 10)
    time.sleep(4.5)  # two doublings back
    third = misbehave()
    check(0 < third <= 2200, f"after good conduct: {third} ms")
    guard(weir, "forget", t.ip(9))
    t.call(bad, tcp=True).whole()


@case("guard: a flood of rubbish in datagrams bans datagrams alone, for the source may be a lie")
def _(t):
    weir = t.edge([t.server()], guard={"per_source": {"malformed": 1}, "burst": "1s",
                                       "ban": {"first": "1m"}})
    end, prefix = t.end(9), t.ip(9) + "/32"
    for _ in range(20):
        end.send(b"\x01\x02 rubbish", t.outside)
    t.call(end).whole()  # no flood: nobody is silenced by what may be written in his name

    def banned():
        for _ in range(4000):
            end.send(b"\x01\x02 rubbish", t.outside)
        return banned_for(weir, prefix) > 0
    until(banned, "a ban", 20)
    check("datagrams only" in weir.command("show", "guard")[1], "it is said")
    call = t.call(end).invite()
    end.none(call.mine(), 0.7, "an answer to a datagram")
    t.call(end, tcp=True).whole()
    guard(weir, "forget", t.ip(9))

    def heard():  # the kernel's list follows within a second
        try:
            end.wait(lambda m: m.branch == branch and m.status, 0.5)
        except ends.Failed:
            end.send(data, t.outside)
            return False
        return True
    data, branch = ends.Call(end, t.outside).request("OPTIONS")
    until(heard, "it is heard again", 20)


# ---- how it is shown -------------------------------------------------------------------------

class Control:
    """A control socket that answers everything with these rows; text is sent as it is."""

    def __init__(self, folder, rows):
        self.path = os.path.join(folder, "c.sock")
        self.rows = rows
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(self.path)
        self.sock.listen(8)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            with conn:
                conn.recv(1000)
                lines = [r if isinstance(r, str) else json.dumps(r, separators=(",", ":"))
                         for r in [*self.rows, {"end": True, "ok": True}]]
                conn.sendall("".join(x + "\n" for x in lines).encode())

    def show(self, t, what, *words):
        return subprocess.run([procs.binary(t.build), "show", what, "-s", self.path, *words],
                              capture_output=True, text=True, timeout=10, check=False)

    def close(self):
        self.sock.close()


def totals_row(**more):
    return {"row": "totals", "report_only": False, "connections": 4000, "connections_max": 10000,
            "let_in": 1234567, "refused": {"denied": 0, "source_full": 1500}, "over": {},
            "bans": 3, "sources": 70, "sources_max": 1000, "sources_forgotten": 5,
            "delay_us": 1250, "shed_permille": 0, "shed": {"probes": 7, "calls": 0}, "aged": 600,
            **more}


def source_row(n, **more):
    return {"row": "source", "prefix": f"192.0.2.{n}/32", "connections": 0, "refused": 0,
            "known": False, **more}


@case("guard: the table of two workers: sums, who is banned first, then the most refused")
def _(t):
    ban = {"ban_level": 2, "proven": True}
    control = t.keep(Control(t.folder, [
        totals_row(), source_row(1, connections=7), source_row(2, refused=10, known=True),
        source_row(3, banned_for_ms=61500, **ban), source_row(6, connections=7),
        {"row": "prefix", "prefix": "192.0.2.0/24", "connections": 19, "refused": 0},
        totals_row(delay_us=20340, shed_permille=125), source_row(2, refused=5),
        source_row(1, connections=5), source_row(4, refused=12),
        source_row(5, banned_for_ms=500, refused=1, ban_level=1, proven=False)]))
    done = control.show(t, "guard")
    equal((done.returncode, done.stderr), (0, ""), "status")
    lines = done.stdout.splitlines()
    for line in ("connections   8,000 of at most 20,000, 2,469,134 let in since the start",
                 "refused       3,000: source full 3,000", "over a rate   0",
                 "bans          6 begun since the start",
                 "remembered    140 of at most 2,000, 10 forgotten for want of room",
                 "delay         20.3 ms, of what comes 12.5 % is shed",
                 "shed          14: probes 14; 1,200 too old to be worked on"):
        check(line in lines, f"{line}: {done.stdout}")
    head = next(i for i, x in enumerate(lines) if x.startswith("SOURCE"))
    equal([x.split() for x in lines[head + 1:]], [
        ["192.0.2.5", "0", "1", "-", "0:01,", "datagrams", "only", "1"],
        ["192.0.2.3", "0", "0", "-", "1:02", "2"],
        ["192.0.2.2", "0", "15", "yes", "-", "0"],
        ["192.0.2.4", "0", "12", "-", "-", "0"],
        ["192.0.2.0/24", "19", "0", "-", "-", "0"],
        ["192.0.2.1", "12", "0", "-", "-", "0"],
        ["192.0.2.6", "7", "0", "-", "-", "0"]], "sources")


@case("guard: many sources are cut for people, not for machines; what cannot be read is said")
def _(t):
    control = t.keep(Control(t.folder, [totals_row(), *(source_row(n, refused=n + 1)
                                                        for n in range(100))]))
    out = control.show(t, "guard").stdout.splitlines()
    check(out[-1] == "… and 60 more: -o json" and out[-2].startswith("192.0.2.60 "), f"{out[-3:]}")
    equal(len(control.show(t, "guard", "-o", "json").stdout.splitlines()), 101, "rows of JSON")
    for broken in ('{"row":"totals","over":{"requests":', '{"row":', "[1]",
                   '{"row":"totals","over":{"a":"}"}}x'):
        control.rows = [broken]
        done = control.show(t, "guard")
        check(done.returncode == 1 and "cannot be read" in done.stderr, f"{broken}: {done}")
    control.rows = ['{"row":"totals","over":{"a}\\"{":{"b":{}},"requests":2000}}']
    done = control.show(t, "guard")
    check("over a rate   2,000: requests 2,000\n" in done.stdout, f"objects within: {done}")
