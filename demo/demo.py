#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two edges in two zones, three servers behind them, a few hundred calls, and a server that dies
and comes back; then real phones on an edge with its registrar (phones.py). All on loopback, in less
than two minutes; nothing is left running. `make demo`.
"""
import calendar
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(ROOT, "test/scenario"))

sys.path.insert(0, HERE)

import phones  # noqa: E402
from kit import ends  # noqa: E402

SIPP = os.path.join(ROOT, "test/scenario/sipp")
WEIR = os.path.join(ROOT, "build/weir")
KEPT = os.path.join(ROOT, "build/demo")
EDGES = {"edge-a": "127.0.71.1", "edge-b": "127.0.72.1"}
CALLERS = {"edge-a": "127.0.74.1", "edge-b": "127.0.74.2"}
SERVERS = {"server-1": "127.0.73.1", "server-2": "127.0.73.2", "server-3": "127.0.73.3"}
ZONE = {"server-1": "a", "server-2": "a", "server-3": "b"}
RATE, SECONDS = 25, 14
KILL_AT, BACK_AT = 4, 8
VICTIM = "server-3"


class Demo:
    weir = WEIR

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="weir-demo-")
        self.children = []

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self, name, command):
        with open(self.path(f"{name}.out"), "wb") as out:
            child = subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=out,
                                     stderr=subprocess.STDOUT,
                                     env={**os.environ, "DEMO": self.folder, "TERM": "dumb"})
        self.children.append(child)
        return child

    def server(self, name):
        child = self.start(name, ["sipp", "-sf", f"{SIPP}/uas_at_once.xml", "-i", SERVERS[name],
                                  "-p", "5060", "-nostdin", "-aa"])  # -aa: answers OPTIONS too
        try:
            child.wait(0.2)
        except subprocess.TimeoutExpired:
            return child
        sys.exit(f"{name} did not start: {self.said(name).partition(chr(10))[0]}")

    def caller(self, name, ip, to, calls, rate):
        return self.start(name, ["sipp", "-sf", f"{SIPP}/uac.xml", "-i", ip, "-p", "5060",
                                 "-nostdin", "-m", str(calls), "-r", str(rate), "-l", "1000",
                                 "-recv_timeout", "8000", "-trace_stat", "-fd", "1", "-stf",
                                 self.path(f"{name}.csv"),
                                 f"{to}:5060"])

    def edge(self, name):
        child = self.start(name, [WEIR, "run", "-c", os.path.join(HERE, f"{name}.yaml")])
        end = time.monotonic() + 10
        while "weir: ready" not in self.said(name):
            if child.poll() is not None or time.monotonic() > end:
                sys.exit(f"{name} did not start:\n{self.said(name)}")
            time.sleep(0.02)
        return child

    def said(self, name):
        with open(self.path(f"{name}.out"), encoding="utf-8", errors="replace") as f:
            return f.read()

    def invites(self, edge):
        with open(self.path(f"{edge}.log"), encoding="utf-8") as f:
            rows = [json.loads(line) for line in f]
        return [r for r in rows if r["method"] == "INVITE"]

    def failed(self, name):
        with open(self.path(f"{name}.csv"), encoding="utf-8") as f:
            lines = [line.rstrip("\n").split(";") for line in f]
        return int(dict(zip(lines[0], lines[-1]))["FailedCall(C)"])

    def stop(self):
        for child in reversed(self.children):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self.children:
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def quantile(values, q):
    return values[min(len(values) - 1, int(len(values) * q))] if values else 0.0


def when(record):
    """Unix time of a log record."""
    text = record["time"]
    return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) + float(text[19:-1])


class Probe:
    """Calls of our own besides, in turn straight to a server and through an edge: SIPp's clock
    knows milliseconds only."""

    def __init__(self):
        self.end = ends.End("127.0.74.9", 5060)
        self.ms = {"straight": [], "through": []}

    def until(self, end):
        while time.monotonic() < end:
            for way, to in (("straight", SERVERS["server-1"]), ("through", EDGES["edge-a"])):
                call = ends.Call(self.end, (to, 5060))
                start = time.monotonic()
                call.invite().final()
                self.ms[way].append((time.monotonic() - start) * 1000)
                call.bye()
            time.sleep(0.02)


def run(demo, probe):
    print(f"three servers: {', '.join(f'{n} (zone {ZONE[n]})' for n in SERVERS)}")
    servers = {name: demo.server(name) for name in SERVERS}
    edges = {name: demo.edge(name) for name in EDGES}
    print("two edges: edge-a (zone a), edge-b (zone b), by demo/edge-a.yaml and demo/edge-b.yaml")
    calls = RATE * SECONDS
    print(f"{2 * calls} calls, {RATE} a second to each edge, and some 270 of our own to measure",
          flush=True)
    start = time.monotonic()
    callers = {e: demo.caller(f"callers-{e}", CALLERS[e], EDGES[e], calls, RATE) for e in EDGES}
    probe.until(start + KILL_AT)
    servers[VICTIM].kill()
    servers[VICTIM].wait()
    killed = time.time()
    print(f"{KILL_AT:4} s  kill -9 {VICTIM}", flush=True)
    probe.until(start + BACK_AT)
    show = subprocess.run([WEIR, "show", "pools", "-s", demo.path("edge-b.sock")],
                          capture_output=True, text=True, check=False)
    back = time.time()
    servers[VICTIM] = demo.server(VICTIM)
    print(f"{BACK_AT:4} s  {VICTIM} is back", flush=True)
    for child in callers.values():
        child.wait(60)
    print(f"{time.monotonic() - start:4.0f} s  all calls ended", flush=True)
    time.sleep(0.3)
    for child in edges.values():
        child.send_signal(signal.SIGTERM)
    for child in edges.values():
        child.wait(10)
    return (killed, back), show.stdout


def report_calls(demo, killed, back):
    """The table of calls. Returns how many INVITEs there were, and how many were answered."""
    names = {f"{ip}:5060": name for name, ip in SERVERS.items()}
    print(f"\n{'':9} {'calls':>6} {'answered':>9} {'failed over':>12}   answers by server: before "
          f"{VICTIM} died / while it was dead / after")
    calls = answers = 0
    for edge in EDGES:
        rows = demo.invites(edge)
        good = [r for r in rows if r["status"] == 200]
        cells = []
        for name in SERVERS:
            times = [when(r) for r in good if names.get(r["dest"]) == name]
            cells.append(f"{name} {sum(t < killed for t in times)}/"
                         f"{sum(killed <= t < back for t in times)}/"
                         f"{sum(t >= back for t in times)}")
        print(f"{edge:9} {len(rows):6} {len(good):9} {sum(r['tries'] > 1 for r in rows):12}   "
              f"{', '.join(cells)}")
        calls, answers = calls + len(rows), answers + len(good)
    cut = sum(demo.failed(f"callers-{e}") for e in EDGES)
    print(f"together {calls:7} {answers:9}; calls of {VICTIM} that could not end as it was dead: "
          f"{cut}\n")
    return calls, answers


def report_delay(demo, probe):
    straight, through = (sorted(probe.ms[way]) for way in ("straight", "through"))
    rows = [(quantile(v, 0.5), quantile(v, 0.99)) for v in (straight, through)]
    for what, (p50, p99) in (
            (f"INVITE to 200, straight to a server ({len(straight)} calls)", rows[0]),
            (f"INVITE to 200, through an edge ({len(through)} calls)", rows[1]),
            ("added delay, the difference", (rows[1][0] - rows[0][0], rows[1][1] - rows[0][1]))):
        print(f"{what:52} p50 {p50:7.2f} ms   p99 {p99:7.2f} ms")
    moved = [r["final_us"] / 1000 for e in EDGES for r in demo.invites(e) if r["tries"] > 1]
    if moved:
        print(f"{'INVITE to 200 of calls that failed over':52} at most {max(moved):.0f} ms")


NEXT = """
where to look next
  demo/edge-a.yaml                  the file of an edge; build/weir check -c FILE reads one
  demo/phones.yaml                  an edge with its registrar
  build/demo/edge-a.log             one line for each transaction: who ended it, in which phase
  build/weir check --reference      every key of the file
  make help                         tests, fuzzers, the simulator, benches
  docs/ARCHITECTURE.md              the way of one INVITE"""


def main():
    if not shutil.which("sipp") or not os.path.exists(WEIR):
        sys.exit("demo: it wants sipp and build/weir; `make demo` sees to both")
    demo = Demo()
    try:
        probe = Probe()
        (killed, back), pools = run(demo, probe)
        calls, answers = report_calls(demo, killed, back)
        report_delay(demo, probe)
        print(f"\nedge-b while {VICTIM} was dead (weir show pools):")
        print("\n".join(f"  {line}" for line in pools.rstrip().splitlines()))
        phones_are_fine = phones.run(demo)
        shutil.rmtree(KEPT, ignore_errors=True)
        shutil.copytree(demo.folder, KEPT,
                        ignore=shutil.ignore_patterns("*.sock", "*.key", "*.state"))
    finally:
        demo.stop()
        shutil.rmtree(demo.folder, ignore_errors=True)
    print(NEXT)
    return 0 if phones_are_fine and calls == answers >= 2 * RATE * SECONDS else 1


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *a: sys.exit(1))
    sys.exit(main())
