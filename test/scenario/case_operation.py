# SPDX-License-Identifier: Apache-2.0
"""What an operator does: start, check, look, reload, drain, stop; and the log.

covers: cli/main.c, cli/run.c, cli/check.c, cli/show.c, cli/ask.c, cli/row.c, cli/table.c,
cli/reload.c, cli/drain.c, cli/target.c, net/run.c, net/reload.c, net/control.c, net/client.c,
net/logger.c, edge/show.c
"""
import json
import os
import re
import signal
import socket
import subprocess
import time

from kit import ends, netns, procs, sip
from kit.case import case
from kit.ends import check, equal, until

LETTERS_WHO, LETTERS_PHASE = "-CSTNPR", "RQCHPAD"


def weir_command(t, *words, text=None, env=None):
    """`weir WORDS`, with a file `edge.yaml` in the case's folder if `text` is given."""
    if text is not None:
        with open(os.path.join(t.folder, "edge.yaml"), "w", encoding="utf-8") as f:
            f.write(text)
    return subprocess.run([procs.binary(t.build), *words], cwd=t.folder, capture_output=True,
                          text=True, timeout=20, check=False, env={**os.environ, **(env or {})})


GOOD = """node: {name: edge-1}
listeners:
  - {bind: "udp://127.0.0.1:5060", side: outside}
  - {bind: "tcp://127.0.0.1:5060", side: outside}
pools:
  border: {targets: ["udp://127.0.0.1:5070"]}
routes:
  - {from: outside, to: border}
"""


@case("weir check: a good file, a missing file, usage, help")
def _(t):
    equal(weir_command(t, "check", "-c", "edge.yaml", text=GOOD).returncode, 0, "the smallest file")
    done = weir_command(t, "check", "-c", "nothere.yaml")
    check(done.returncode == 78 and "nothere.yaml" in done.stderr, f"no such file: {done}")
    equal(weir_command(t, "check").returncode, 64, "no file")
    equal(weir_command(t, "chekc").returncode, 64, "no such command")
    for words in (("--help",), ("check", "--help"), ("run", "--help"), ("show", "--help"),
                  ("reload", "--help"), ("target", "--help"), ("drain", "--help")):
        done = weir_command(t, *words)
        check(done.returncode == 0 and "xample" in done.stdout, f"weir {words}: {done}")


# the change, line, column (None: any), words that the message holds
ERRORS = (
    (("listeners:", "listners:"), 2, 1, ("listners", "listeners")),
    (("pools:", "pool:"), 5, 1, ("pool", "pools")),
    (("side: outside}\n  - {bind: \"tcp", "side: outsid}\n  - {bind: \"tcp"), 3, None,
     ("outside",)),
    (("to: border", "to: bordr"), 8, None, ("bordr", "border")),
    (("udp://127.0.0.1:5070", "udp://127.0.0.1:99999"), 6, None, ("99999",)),
    (("udp://127.0.0.1:5060", "upd://127.0.0.1:5060"), 3, None, ("udp",)),
    (("targets: [\"udp", "balance: round, targets: [\"udp"), 6, None, ("round-robin",)),
    (("targets: [\"udp", "health: {every: 5}, targets: [\"udp"), 6, None, ("5", "s")),
    (("targets: [\"udp", "failover: {budget: 20}, targets: [\"udp"), 6, None, ("20", "%")),
    (("node: {name: edge-1}", "node: {name: edge-1, name: two}"), 1, None, ("twice",)),
    (("node: {name: edge-1}", "node: {name: \"${NOT_SET_AT_ALL}\"}"), 1, None, ("NOT_SET_AT_ALL",)),
    (("  - {from: outside, to: border}", "  - {from: outside, to: border"), None, None, ()),
    (("node: {name: edge-1}\n", ""), None, None, ("node",)),
)


@case("weir check: errors with file, line and column, and what would be right")
def _(t):
    for (old, new), line, column, words in ERRORS:
        check(old in GOOD, f"the case itself: {old}")
        done = weir_command(t, "check", "-c", "edge.yaml", text=GOOD.replace(old, new, 1))
        equal(done.returncode, 78, f"exit status with {new!r}")
        at = [(int(a), int(b)) for a, b in re.findall(r"edge\.yaml:(\d+):(\d+): .", done.stderr)]
        check(at and all(re.match(r"edge\.yaml:\d+:\d+: ", x) for x in done.stderr.splitlines()),
              f"file:line:col with {new!r}: {done.stderr}")
        check(any(line in (None, a) and column in (None, b) for a, b in at),
              f"place {line}:{column} with {new!r}: {done.stderr}")
        for word in words:
            check(word in done.stderr, f"{word!r} with {new!r}: {done.stderr}")
    two = GOOD.replace("listeners:", "listners:").replace("to: border", "to: nowhere")
    done = weir_command(t, "check", "-c", "edge.yaml", text=two)
    check("listners" in done.stderr and "nowhere" in done.stderr, f"both errors: {done.stderr}")


@case("weir check: ${ENV} anywhere")
def _(t):
    text = GOOD.replace("udp://127.0.0.1:5070", "udp://${HOST_OF_IT}:${PORT_OF_IT}")
    done = weir_command(t, "check", "-c", "edge.yaml", text=text,
                        env={"HOST_OF_IT": "127.0.0.1", "PORT_OF_IT": "5071"})
    equal(done.returncode, 0, f"check: {done.stderr}")


@case("weir run refuses to start half-right")
def _(t):
    done = weir_command(t, "run", "-c", "edge.yaml", text=GOOD.replace("to: border", "to: x"))
    check(done.returncode == 78 and "weir: ready" not in done.stderr, f"a bad file: {done}")
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    taken.bind((t.ip(1), 5060))
    taken.listen(1)
    config = t.config([t.server()])
    weir = t.weir(config, wait=False)
    status = weir.wait(10)
    check(status not in (0, None), f"exit status {status}")
    check(f"{t.ip(1)}:5060" in weir.output() and "weir: ready" not in weir.output(),
          f"it says which: {weir.output()}")
    weir.may_die = True
    taken.close()


@case("a second weir on the same addresses does not start")
def _(t):
    config = t.config([t.server()])
    t.weir(config)
    second = t.weir(config, wait=False)
    second.may_die = True
    check(second.wait(10) != 0, "exit status")


@case("weir show pools, transactions, flows and counters; tables for people, JSON for machines")
def _(t):
    server = t.server(invite=((0, 180),))
    weir = t.edge([server])
    end = t.end(tcp=True)
    call = t.call(end, tcp=True).invite()
    call.provisional(180)
    rows = weir.show("transactions")
    check(any(r["method"] == "INVITE" and r["call_id"] == call.call_id and r["ringing"]
              for r in rows), f"transactions: {rows}")
    flows = weir.show("flows")
    check(any(r["peer"] == f"{end.ip}:{call.to.local[1]}" for r in flows), f"flows: {flows}")
    pools = weir.show("pools")
    check(pools[0]["target"] == server.target() and pools[0]["why"], f"pools: {pools}")
    for what in ("pools", "transactions", "flows", "counters"):
        status, out, err = weir.command("show", what)
        check(status == 0 and out.strip() and not out.startswith("{"), f"{what}: {out} {err}")
        check("\x1b" not in out, "no colours in a pipe")
    status, _, err = weir.command("show", "nothing")
    equal(status, 64, f"show nothing: {err}")
    done = weir_command(t, "show", "pools", "-s", "/nowhere.sock")
    equal(done.returncode, 69, f"no weir there: {done.stderr}")
    call.cancel()
    call.final()


@case("show transactions with a thousand open ones, page after page", timeout=60)
def _(t):
    server = t.server(invite=((0, 180),))
    weir = t.edge([server])
    end = t.end()
    calls = [t.call(end) for _ in range(1000)]
    for n, call in enumerate(calls):
        call.invite()
        if n % 50 == 0:
            time.sleep(0.05)
    until(lambda: len(end.seen("INVITE", 180)) == 1000, "all ring", 15)
    rows = [r for r in weir.show("transactions") if r["method"] == "INVITE"]
    equal(len({r["call_id"] for r in rows}), 1000, "rows")


@case("reload: what changed counts for new calls, a bad file changes nothing")
def _(t):
    one, two = t.server(10), t.server(11)
    config = t.config([one])
    weir = t.weir(config)
    end = t.end()
    t.call(end).whole()
    old = t.call(t.end(101))
    old.invite().final()
    weir.write(t.config([two]))
    status, _, err = weir.command("reload")
    equal(status, 0, f"reload: {err}")
    t.call(end).whole()
    equal((len(one.invites()), len(two.invites())), (2, 1), "INVITEs")
    equal(old.bye().status, 200, "a dialog with the old target goes on")
    with open(weir.config_path, "a", encoding="utf-8") as f:
        f.write("\nnonsense: [")
    status, out, err = weir.command("reload")
    check(status != 0, f"reload of a bad file: {status}")
    check(re.search(r":\d+:\d+: ", out + err), f"and it says where: {out} {err}")
    weir.signal(signal.SIGHUP)
    time.sleep(0.4)
    check(weir.alive(), "it keeps running")
    t.call(end).whole()
    equal(len(two.invites()), 2, "with what it had")
    check(re.search(r":\d+:\d+: ", weir.output()), "HUP says it on stderr")


@case("reload: listeners come and go, what stays keeps its connections")
def _(t):
    server = t.server(tcp=True)
    config = t.config([server])
    weir = t.weir(config)
    end = t.end(tcp=True)
    call = t.call(end, tcp=True)
    call.invite().final()
    more = t.config([server])
    more["listeners"].append({"bind": f"udp://{t.ip(3)}:5060", "side": "outside"})
    weir.write(more)
    equal(weir.command("reload")[0], 0, "reload")
    ends.Call(t.end(101), (t.ip(3), 5060)).whole()
    check(not call.to.closed.is_set(), "the connection is still there")
    equal(call.bye().status, 200, "and works")
    weir.write(config)
    equal(weir.command("reload")[0], 0, "reload back")
    gone = ends.Call(t.end(102), (t.ip(3), 5060)).invite()
    gone.end.none(gone.mine(), 0.4, "an answer from a listener that went")
    t.call(t.end(103)).whole()


@case("reload under load loses no call", heavy=True, build="release", timeout=60)
def _(t):
    for n in (10, 11):
        t.sipp("uas_ring", t.ip(n), 5060)
    both = t.config([f"udp://{t.ip(n)}:5060" for n in (10, 11)])
    one = t.config([f"udp://{t.ip(10)}:5060"])
    weir = t.weir(both)
    load = t.sipp("uac", t.ip(100), 5060, dest=t.outside, calls=600, rate=120,
                  options=["-d", "200"])
    tcp = t.sipp("uac", t.ip(101), 5060, dest=t.outside, calls=300, rate=60, tcp=True,
                 options=["-d", "200"])
    reloads = 0
    while load.alive() and reloads < 40:
        if reloads % 8 == 7:  # a bad one in between
            with open(weir.config_path, "w", encoding="utf-8") as f:
                f.write("nonsense: [")
            check(weir.command("reload")[0] != 0, "a bad file")
        weir.write(one if reloads % 2 else both)
        if reloads % 3:
            equal(weir.command("reload")[0], 0, "reload")
        else:
            weir.signal(signal.SIGHUP)
        reloads += 1
        time.sleep(0.1)
    load.done(600)
    tcp.done(300)
    check(reloads >= 20, f"{reloads} reloads")


@case("TERM drains: open calls end well, new ones are refused, exit status 0")
def _(t):
    server = t.server(invite=((0, 180), (1.2, 200)))
    weir = t.edge([server])
    end = t.end()
    call = t.call(end).invite()
    call.provisional(180)
    weir.signal(signal.SIGTERM)
    time.sleep(0.2)
    late = t.call(t.end(101)).invite()
    got = late.final()
    equal(got.status, 503, "a new call")
    check(got.get("retry-after"), "Retry-After")
    equal(call.final().status, 200, "the open one")
    equal(weir.wait(45), 0, "exit status")


@case("a second TERM stops at once")
def _(t):
    server = t.server(invite=((0, 180),))
    weir = t.edge([server])
    call = t.call().invite()
    call.provisional(180)
    weir.signal(signal.SIGTERM)
    time.sleep(0.2)
    check(weir.alive(), "it waits for the open call")
    weir.signal(signal.SIGTERM)
    start = time.monotonic()
    weir.wait(5)
    check(time.monotonic() - start < 2, "at once")
    weir.may_die = True


@case("weir drain: in-dialog requests go on, OPTIONS to the edge says 503")
def _(t):
    server = t.server()
    weir = t.edge([server], drain={"within": "5s"})
    call = t.call()
    call.invite().final()
    equal(weir.command("drain")[0], 0, "drain")
    probe = t.call(t.end(101), uri=f"sip:{t.ip(1)}:5060")
    equal(probe.ask("OPTIONS").status, 503, "OPTIONS to the edge")
    equal(probe.ask("OPTIONS", uri="sip:bob@example.com").status, 503, "a new request")
    equal(call.ask("INFO").status, 200, "INFO in the dialog")
    equal(call.bye().status, 200, "BYE")


FIELDS = ("time", "node", "worker", "method", "status", "end", "call_id", "cseq", "ruri", "from",
          "to", "source", "transport", "side", "dest", "dest_transport", "dest_side", "pool",
          "tries", "target_status", "queue_us", "first_us", "final_us")


def one_call_each(t, weir, server):
    """A call, a cancelled one, a refused one, a looped one; their records by Call-ID."""
    end = t.end()
    good = t.call(end)
    good.whole()
    server.invite = ((0, 180),)
    given_up = t.call(end).invite()
    given_up.provisional(180)
    given_up.cancel()
    given_up.final()
    server.invite = ((0, 486),)
    busy = t.call(end).invite()
    busy.final()
    no_hops = t.call(end, max_forwards=0).invite()
    no_hops.final()
    server.invite = ()
    silent = t.call(end).invite()
    silent.final()
    server.invite = ((0, 503),)
    tired = t.call(end).invite()
    tired.final()
    foreign = t.call(end, extra=[("Route", "<sip:192.0.2.1;lr>")]).invite()
    foreign.final()
    return {"good": good, "given_up": given_up, "busy": busy, "no_hops": no_hops, "silent": silent,
            "tired": tired, "foreign": foreign}


WANTED = {"good": ("200", "-"), "given_up": ("487", "C"), "busy": ("486", "S"),
          "no_hops": ("483", "P"), "silent": ("500", "T"), "tired": ("500", "S"),
          "foreign": ("403", "P")}


def check_rows(calls, rows):
    by_call = {r["call_id"]: r for r in rows if r["method"] == "INVITE"}
    for name, (status, who) in WANTED.items():
        row = by_call.get(calls[name].call_id)
        check(row, f"a line for {name}")
        equal((str(row["status"]), row["end"][0]), (status, who), f"{name}: {row}")
        check(row["end"][1] in LETTERS_PHASE, f"phase letter of {name}: {row['end']}")
    return by_call


LOG_POOL = {"failover": {"try": "300ms", "within": "900ms", "tries": 2},
            "outlier": {"eject_after": "off"}}


@case("the log in JSON: one line a transaction, all names, the right end letters")
def _(t):
    server = t.server()
    weir = t.edge([server], LOG_POOL)
    calls = one_call_each(t, weir, server)
    rows = weir.logged(lambda r: r["method"] == "INVITE", 7)
    by_call = check_rows(calls, rows)
    good = by_call[calls["good"].call_id]
    equal([f for f in FIELDS if f not in good], [], f"names that are missing: {good}")
    equal((good["source"], good["dest"], good["pool"], good["tries"]),
          (calls["good"].end.hostport, server.hostport, "border", 1), "places")
    check(0 < good["first_us"] <= good["final_us"] < 1000000, f"times: {good}")
    check(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", good["time"]), "time")
    equal(len([r for r in weir.log() if r["call_id"] == calls["good"].call_id]), 2,
          "INVITE and BYE: a line each, none for the ACK")


@case("the log in logfmt: the same names and values")
def _(t):
    server = t.server()
    weir = t.edge([server], LOG_POOL, log={"format": "logfmt"})
    calls = one_call_each(t, weir, server)

    def rows():
        with open(weir.log_path, encoding="ascii") as f:
            return [logfmt(line) for line in f if line.endswith("\n")]
    until(lambda: len([r for r in rows() if r["method"] == "INVITE"]) >= 7, "lines")
    by_call = check_rows(calls, rows())
    good = by_call[calls["good"].call_id]
    equal([f for f in FIELDS if f not in good], [], f"names that are missing: {good}")


def logfmt(line):
    out = {}
    for m in re.finditer(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))', line.rstrip("\n")):
        out[m.group(1)] = m.group(2) if m.group(2) is not None else m.group(3)
    return out


@case("the log: what a peer wrote cannot break a line")
def _(t):
    server = t.server(other=200)
    weir = t.edge([server])
    call = t.call(call_id="x\"\\{}=\x07\x1b[31m\u00e9", uri="sip:a%22%0a@example.com")
    call.ask("MESSAGE")
    rows = weir.logged(lambda r: r["method"] == "MESSAGE")
    check(rows[0]["call_id"].startswith('x"\\{}='), f"it is there: {rows[0]['call_id']!r}")
    with open(weir.log_path, "rb") as f:
        check(all(0x20 <= b < 0x7f or b == 10 for b in f.read()), "plain ASCII")


@case("the log file is opened anew on HUP")
def _(t):
    server = t.server()
    weir = t.edge([server])
    t.call(t.end()).whole()
    weir.logged(lambda r: True, 2)
    os.rename(weir.log_path, weir.log_path + ".1")
    weir.signal(signal.SIGHUP)
    time.sleep(0.4)
    t.call(t.end(101)).whole()
    weir.logged(lambda r: True, 2)
    with open(weir.log_path + ".1", encoding="utf-8") as f:
        equal(len([json.loads(line) for line in f]), 2, "lines in the old one")


@case("no log: no file is written")
def _(t):
    server = t.server()
    weir = t.edge([server], log={"transactions": False})
    t.call().whole()
    time.sleep(0.3)
    equal(weir.log(), [], "lines")


@case("names in a file are resolved at start; unknown ones are errors with their place")
def _(t):
    text = GOOD.replace("udp://127.0.0.1:5070", "udp://localhost:5070")
    equal(weir_command(t, "check", "-c", "edge.yaml", text=text).returncode, 0, "localhost")
    text = GOOD.replace("udp://127.0.0.1:5070", "udp://no-such-host.invalid:5070")
    done = weir_command(t, "check", "-c", "edge.yaml", text=text)
    check(done.returncode == 78 and "no-such-host.invalid" in done.stderr, f"{done.stderr}")


@case("a name that nobody can resolve now stops no start: its target waits for a reload",
      shows=netns.here)
def _(t):
    away = "udp://sip.example.com:5060"
    with t.keep(netns.Space()):  # the name server cannot be reached from there
        server = t.server()
        text = GOOD.replace('"udp://127.0.0.1:5070"', f'"udp://127.0.0.1:5070", "{away}"')
        done = weir_command(t, "check", "-c", "edge.yaml", text=text)
        equal(done.returncode, 0, f"check: {done.stderr}")
        check(f"note: pool border: nobody can resolve the name of {away} now" in done.stderr,
              f"check: {done.stderr}")
        weir = t.edge([server, away], pool={"outlier": {"panic": "100%"}})
        end = t.end()
        for _ in range(4):
            t.call(end).whole()
        status, out, _ = weir.command("show", "pools")
        check(status == 0 and "could not be resolved" in out, f"show pools: {out}")
        status, out, err = weir.command("reload")
        equal(status, 0, f"reload: {err}")
        check(f"notice: pool border: nobody can resolve the name of {away} now" in out + err,
              f"reload: {out}{err}")
        t.call(end).whole()


@case("the process keeps to its descriptors and memory over a thousand connections", timeout=60)
def _(t):
    server = t.server(tcp=True)
    weir = t.edge([server])

    def count():
        return len(os.listdir(f"/proc/{weir.pid}/fd"))
    t.call(t.end(tcp=True), tcp=True).whole()
    before = count()
    end = t.end(101, tcp=True)
    for n in range(1000):
        conn = end.connect(t.outside)
        if n % 3 == 0:
            data, _ = ends.Call(end, conn).request("OPTIONS", uri=f"sip:{t.ip(1)}:5060")
            conn.send(data)
        if n % 7 == 0:
            conn.reset()
        else:
            conn.close()
        if n % 100 == 0:
            end.conns.clear()
    until(lambda: count() <= before + 4, f"descriptors go back to {before}", 10, 0.1)
    equal(weir.counters()["flows_now"] <= 4, True, "flows")
    check(sip.fresh(), "")


for _edge in ("edge-a", "edge-b"):
    @case(f"the demo's files are fine: {_edge}", build="release")
    def _(t, edge=_edge):
        done = weir_command(t, "check", "-c", os.path.join(procs.ROOT, f"demo/{edge}.yaml"),
                            env={"DEMO": t.folder})
        equal(done.returncode, 0, f"check: {done.stderr}")
