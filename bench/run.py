#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a call costs: `make bench`.

    run.py [--quick] [--only WORD[,WORD]] [--rate N] [--seconds N] [--json FILE]

One call is INVITE/100/180/200/ACK/BYE/200 with Record-Route, SIPp on both sides, one worker,
stateful, event log on. CPU time is read from the schedstat of all threads and divided by calls. The
bare relay carries the same calls, before Weir in the chain, in the same run. All on loopback.

Parts: cpu (also memory, losses), alone, delay, kill, loop, malloc, parse, kamailio; of phones
(flows.py): idle, flows, pings, cut, kill9; of the front door (guard.py): storm-naive, storm-good,
storm-calls, goodput, attacker, shed, sources, slowloris, handshakes, drain.
"""
import argparse
import json
import os
import platform
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from measure import MIB, ROOT, TOOLS, family, pss_bytes, threads_ns  # noqa: E402

sys.path.insert(0, os.path.join(ROOT, "test/scenario"))
import flows  # noqa: E402
import guard  # noqa: E402
from kit import case, ends, procs  # noqa: E402

MEMORY_CALLS = 24000


class World(case.Context):
    """A case's context with the processes of a bench."""

    def __init__(self, net):
        super().__init__(net, tempfile.mkdtemp(prefix="weir-bench-"), "release")
        self.stack.callback(shutil.rmtree, self.folder, True)

    def relay(self, n, target):
        return self.keep(procs.Proc(self.folder, f"relay{n}", [
            os.path.join(TOOLS, "relay"), self.ip(n), "5060", target, "5060"]))

    def weir_for(self, targets, pool=None, **kw):
        config = self.config([f"udp://{t}:5060" for t in targets], {"health": {"every": "2s"},
                                                                   **(pool or {})})
        return self.weir(config, **kw)

    def load(self, first, rate, calls, n=100):
        return self.sipp("uac", self.ip(n), 5060, dest=(first, 5060), calls=calls, rate=rate,
                         limit=20000, options=["-timeout", "300", "-recv_timeout", "20000"])


def wait_load(load, seconds):
    try:
        load.child.wait(seconds + 60)
    except subprocess.TimeoutExpired:
        load.kill()
    return load.numbers()


def run_chain(t, first, measured, rate, seconds, on_calls=None):
    """Places calls to `first`; CPU µs a call of each of `measured` ({name: pids}), and losses."""
    calls = int(rate * seconds)
    before = {name: threads_ns(pids) for name, pids in measured.items()}
    load = t.load(first, rate, calls)
    while load.alive():
        if on_calls and on_calls(load):
            on_calls = None
        time.sleep(0.1)
    n = wait_load(load, seconds)
    done = max(1, n["ok"] + n["failed"])
    cpu = {name: (threads_ns(pids) - before[name]) / 1000 / done
           for name, pids in measured.items()}
    return cpu, n


# ---- parts -----------------------------------------------------------------------------------

def part_cpu(t, args, out):
    """caller -> relay -> weir -> server: both carry the same calls at the same time."""
    t.sipp("uas", t.ip(10), 5060)
    weir = t.weir_for([t.ip(10)])
    relay = t.relay(50, t.ip(1))
    memory = []

    def look(_):
        calls = weir.counters()["transactions"] // 2
        if calls >= MEMORY_CALLS:
            memory.append((calls, pss_bytes([weir.pid])))
        return bool(memory)
    # A few calls first: pages that are touched once and for all are no cost of a call.
    run_chain(t, t.ip(50), {}, 500, 1)
    cpu, n = run_chain(t, t.ip(50), {"relay": [relay.pid], "weir": [weir.pid]}, args.rate,
                       args.seconds, look)
    if not memory:
        memory.append((weir.counters()["transactions"] // 2, pss_bytes([weir.pid])))
    ratio = cpu["weir"] / cpu["relay"]
    out.row("relay, CPU a call", f"{cpu['relay']:.1f} µs", "", relay_us=cpu["relay"])
    out.row("weir, CPU a call", f"{cpu['weir']:.1f} µs", "", weir_us=cpu["weir"])
    out.row("weir / relay", f"{ratio:.2f} x", "at most 1.60 x", ratio <= 1.6, ratio=ratio)
    out.row(f"calls at {args.rate}/s for {args.seconds} s: failed", str(n["failed"]), "0",
            n["failed"] == 0, failed=n["failed"], calls=n["ok"])
    out.row("   retransmitted by the caller", str(n["again"]), "0", n["again"] == 0,
            retransmitted=n["again"])
    calls, pss = memory[0]
    out.row(f"weir, Pss after {calls} calls", f"{pss / MIB:.1f} MiB", "at most 64 MiB",
            pss <= 64 * MIB, pss_bytes=pss, pss_calls=calls)
    counters = weir.counters()
    out.row("   retransmitted by weir, log lines lost",
            f"{counters['resends']}, {counters['log_dropped']}", "0, 0",
            counters["resends"] == 0 and counters["log_dropped"] == 0)


def part_alone(t, args, out):
    """The relay and Weir each alone before the server, in turn, three times."""
    t.sipp("uas", t.ip(10), 5060)
    weir = t.weir_for([t.ip(10)])
    relay = t.relay(50, t.ip(10))
    seconds = max(2, min(10, args.seconds / 3))
    run_chain(t, t.ip(1), {}, 500, 1)
    us = {"relay": [], "weir": []}
    for _ in range(3):
        for name, first, pid in (("relay", t.ip(50), relay.pid), ("weir", t.ip(1), weir.pid)):
            cpu, _ = run_chain(t, first, {name: [pid]}, args.rate, seconds)
            us[name].append(cpu[name])
    mid = {k: statistics.median(v) for k, v in us.items()}
    ratio = mid["weir"] / mid["relay"]
    out.row("each alone: relay, weir", f"{mid['relay']:.1f}, {mid['weir']:.1f} µs", "",
            alone_relay_us=mid["relay"], alone_weir_us=mid["weir"])
    out.row("each alone: weir / relay", f"{ratio:.2f} x", "at most 1.60 x", ratio <= 1.6,
            alone_ratio=ratio)


def part_delay(t, args, out):
    """Delay at 1,000 calls/s, by a caller and server that share a clock."""
    weir = t.weir_for([t.ip(10)], {"health": "off"})
    t.relay(50, t.ip(10))
    calls = 3000 if args.quick else 10000
    p99 = {"relay": [], "weir": []}
    last = {}
    for _ in range(3):
        for name, first in (("relay", t.ip(50)), ("weir", t.ip(1))):
            done = subprocess.run([os.path.join(TOOLS, "delay"), t.ip(100), t.ip(10), first, "5060",
                                   "1000", str(calls)], capture_output=True, text=True, check=False)
            last[name] = json.loads(done.stdout)
            ends.check(last[name]["done"] == calls, f"calls through {name}: {last[name]}")
            p99[name].append(last[name]["p99_us"])
    mid = {k: statistics.median(v) for k, v in p99.items()}
    added = mid["weir"] - mid["relay"]
    out.row("delay p50, both ways: relay, weir",
            f"{last['relay']['p50_us']:.0f}, {last['weir']['p50_us']:.0f} µs", "",
            delay_relay=last["relay"], delay_weir=last["weir"])
    out.row("delay p99: relay, weir", f"{mid['relay']:.0f}, {mid['weir']:.0f} µs", "")
    out.row("weir's p99 over the relay's", f"{added:.0f} µs", "at most 1000 µs", added <= 1000,
            added_p99_us=added)
    ends.check(weir.alive(), "weir lives")


def part_kill(t, args, out):
    """kill -9 of one of three servers at 500 calls/s."""
    servers = [t.sipp("uas", t.ip(n), 5060) for n in (10, 11, 12)]
    # Refusals by the kernel come at once; a host that is gone says nothing: that is worse, so the
    # port is taken over by a socket that never answers.
    weir = t.weir_for([t.ip(n) for n in (10, 11, 12)])
    seconds = 8 if args.quick else 20
    load = t.load(t.ip(1), 500, 500 * seconds)
    time.sleep(seconds / 3)
    servers[0].kill()
    hole = None
    try:
        import socket
        hole = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        hole.bind((t.ip(10), 5060))
    except OSError:
        pass
    killed = time.time()
    n = wait_load(load, seconds)
    rows = weir.logged(lambda r: r["method"] == "INVITE", n["created"] - 5, 10)
    bad = [r for r in rows if r["status"] != 200]
    slow = [r for r in rows if r["tries"] > 1]
    worst = max((r["final_us"] for r in slow), default=0)
    text = weir.output()
    ejected = "ejected" in text or " down" in text
    out.row("kill -9 of one of three at 500/s: set-ups that failed", str(len(bad)), "0",
            not bad, kill_failed=len(bad))
    out.row(f"   moved on: {len(slow)}; the slowest answer", f"{worst / 1e6:.2f} s",
            "about one `try` (2 s)", worst < 2.6e6, kill_worst_us=worst, kill_moved=len(slow))
    late = [r for r in slow if when(r["time"]) > killed + 2 * 2 + 1]
    out.row("   moved on after the ejection", str(len(late)), "0", not late and ejected,
            kill_late=len(late))
    if hole:
        hole.close()


def when(text):
    import calendar
    return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) + float(text[19:-1])


def part_loop(t, args, out):
    """Two edges that send everything to each other."""
    edges = []
    for me, other in ((1, 2), (2, 1)):
        edges.append(t.weir({
            "node": {"name": f"edge-{me}", "id": me, "workers": 1},
            "listeners": [{"bind": f"udp://{t.ip(me)}:5060", "side": "outside"}],
            "pools": {"other": {"targets": [f"udp://{t.ip(other)}:5060"], "health": "off"}},
            "routes": [{"from": "any", "to": "other"}]}))
    call = t.call().invite()
    got = call.final(timeout=15)
    time.sleep(0.3)
    forwards = sum(e.counters()["transactions"] for e in edges)
    out.row("two edges facing each other: forwards, answer", f"{forwards}, {got.status}",
            "at most 70, 482 or 483", forwards <= 70 and got.status in (482, 483),
            loop_forwards=forwards, loop_status=got.status)


def part_malloc(t, args, out):
    """Allocations after warm-up, counted by a preloaded library."""
    numbers = os.path.join(t.folder, "malloc")
    os.environ["LD_PRELOAD"] = os.path.join(TOOLS, "malloc_count.so")
    os.environ["MALLOC_COUNT"] = numbers
    try:
        weir = t.weir_for([t.ip(10)])
    finally:
        del os.environ["LD_PRELOAD"], os.environ["MALLOC_COUNT"]
    t.sipp("uas", t.ip(10), 5060)
    t.sipp("uas", t.ip(11), 5060, tcp=True)

    def count():
        with open(numbers, "rb") as f:
            return struct.unpack("QQ", f.read(16))[0]
    at_start = count()
    run_chain(t, t.ip(1), {}, 1000, 2)
    warm, messages = count(), weir.counters()["messages_in"]
    warm = count()
    run_chain(t, t.ip(1), {}, 1000, 3 if args.quick else 10)
    after = count()
    messages = weir.counters()["messages_in"] - messages
    out.row(f"allocations in {messages} messages after warm-up", str(after - warm), "0",
            after == warm and at_start > 0, allocations=after - warm, alloc_messages=messages,
            allocations_at_start=at_start)


def part_parse(t, args, out):
    """Instructions of one message, by callgrind."""
    if not shutil.which("valgrind"):
        out.row("instructions a message", "no valgrind", "")
        return
    counts, program = {}, os.path.join(TOOLS, "parse_bench")
    path = os.path.join(t.folder, "callgrind")
    for rounds in (1, 1001):
        done = subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={path}",
                               program, str(rounds)], capture_output=True, text=True, check=False)
        counts[rounds] = int(re.search(r"Collected : (\d+)", done.stderr).group(1))
    each = (counts[1001] - counts[1]) / 1000
    out.row("parse + index + edit + serialise, the talk's INVITE", f"{each:.0f} instructions", "",
            instructions=each)
    done = subprocess.run(["callgrind_annotate", path], capture_output=True, text=True, check=False)
    share = {}
    for m in re.finditer(r"^\s*([\d,]+) \([\d. ]+%\)\s+\S*?(src/(\w+)/(\w+)\.[ch])?\S*:(\w+)",
                         done.stdout, re.M):
        name = m.group(5) if not m.group(2) else f"{m.group(3)}/{m.group(4)}"
        share[name] = share.get(name, 0) + int(m.group(1).replace(",", ""))
    total = sum(share.values()) or 1
    top = sorted(share.items(), key=lambda kv: -kv[1])[:6]
    out.row("   most of it in", ", ".join(f"{k} {100 * v / total:.0f} %" for k, v in top), "",
            instructions_top={k: v / total for k, v in top})


def part_kamailio(t, args, out):
    """Kamailio, stateful, with Record-Route, between the same two SIPps."""
    if not shutil.which("kamailio"):
        out.row("kamailio", "not installed", "")
        return
    t.sipp("uas", t.ip(10), 5060)
    kamailio = t.kamailio(t.ip(60), 5060, (t.ip(10), 5060), memory=1024)
    pids = family(kamailio.pid)
    rate = min(args.rate, 1000)
    run_chain(t, t.ip(60), {}, 200, 1)
    cpu, n = run_chain(t, t.ip(60), {"kamailio": pids}, rate, min(8, args.seconds))
    out.row(f"kamailio at {rate}/s, CPU a call", f"{cpu['kamailio']:.1f} µs",
            f"(failed: {n['failed']})", kamailio_us=cpu["kamailio"])
    weir_us = out.numbers.get("weir_us")
    if weir_us:
        factor = cpu["kamailio"] / weir_us
        out.row("   times weir's", f"{factor:.1f} x", "at least 3 x", factor >= 3,
                kamailio_factor=factor)


PARTS = {name[5:].replace("_", "-"): fn
         for name, fn in [*globals().items(), *vars(flows).items(), *vars(guard).items()]
         if name.startswith("part_")}


class Table:
    def __init__(self):
        self.numbers, self.missed = {}, []

    def row(self, what, value, bar, ok=None, **numbers):
        self.numbers.update(numbers)
        verdict = {None: "", True: "met", False: "MISSED"}[ok]
        if ok is False:
            self.missed.append(what.strip())
        print(f"{what:58} {value:>24}   {bar:24} {verdict}", flush=True)


def machine():
    model = "?"
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        m = re.search(r"model name\s*: (.+)", f.read())
        model = m.group(1) if m else model
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}"


def main():
    words = argparse.ArgumentParser(description=__doc__,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--quick", action="store_true", help="shorter, for a first look")
    words.add_argument("--only", default="", help="some parts: " + ",".join(PARTS))
    words.add_argument("--rate", type=int, default=3000)
    words.add_argument("--seconds", type=float, default=0)
    words.add_argument("--json", default="")
    args = words.parse_args()
    args.seconds = args.seconds or (9 if args.quick else 60)
    wanted = [w for w in args.only.split(",") if w] or list(PARTS)
    os.environ.setdefault("WEIR", os.path.join(ROOT, "build/release/weir"))
    print(machine())
    table = Table()
    table.numbers["machine"] = machine()
    for n, name in enumerate(wanted):
        with (t := World(f"127.{200 + os.getpid() % 50}.{n + 1}")).stack:
            try:
                PARTS[name](t, args, table)
            except ends.Failed as e:
                table.row(name, "FAILED", "", False)
                print(f"   {e}")
    table.numbers["missed"] = table.missed
    path = args.json or os.path.join(ROOT, "build/bench.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(table.numbers, f, indent=1)
    print(f"numbers: {os.path.relpath(path)}")
    return 1 if table.missed else 0


if __name__ == "__main__":
    sys.exit(main())
