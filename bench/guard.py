# SPDX-License-Identifier: Apache-2.0
"""What the front door holds: avalanches of phones, steady calls during them, goodput against
offered load, attackers among callers, what a refusal costs, phones that move away.

Weir has one worker and one core, whoever makes the load has the other."""
import json
import os
import statistics
import subprocess
import threading
import time

from chart import page
from flows import DOMAIN, PORTS, acceptor, certificate, edge
from kit import ends, procs
from measure import MIB, ROOT, TOOLS, pss_bytes, threads_ns

CURVES = os.path.join(ROOT, "build/bench")
WEIR_CORE, LOAD_CORE = 0, max(0, (os.cpu_count() or 1) - 1)
SOURCES = "127.16.0.0/12"


def pin(pid, core):
    for tid in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(tid), {core})


def pinned(proc):
    pin(proc.pid, WEIR_CORE)
    return proc


def go_first():
    """Before whatever else this machine does, where that may be said: the kernel shares out the
    time by groups of processes, one for each session."""
    try:
        with open("/proc/self/autogroup", "w", encoding="ascii") as f:
            f.write("-10")
    except OSError:
        pass


class Load(procs.Proc):
    """`weir load` on its core. `urgent`: what measures others' delay must not wait for them."""
    count = 0

    def __init__(self, t, *words, urgent=False, report=None):
        Load.count += 1
        self.err = open(os.path.join(t.folder, f"load{Load.count}.err"), "w+", encoding="utf-8")
        words = [procs.binary("release"), "load", *words]
        if words[2] != "flood":
            words += ["--expect-ok", "0%"]
        if report:
            os.makedirs(CURVES, exist_ok=True)
            words += ["--report", os.path.join(CURVES, report + ".html")]
        words += ["-o", "json", "--quiet"]
        go_first()
        nice = ["nice", "-n", "-10"] if urgent and os.geteuid() == 0 else []
        super().__init__(t.folder, f"load{Load.count}",
                         [*nice, "taskset", "-c", str(LOAD_CORE), *words])
        t.keep(self)

    def result(self, timeout):
        """What came of it."""
        self.wait(timeout)
        text = self.output()
        ends.check(text.startswith("{"), f"weir load: {text[:500]}")
        return json.loads(text)

    def end(self):
        """INT: it ends with what it has."""
        self.signal(2)
        return self.result(30)


class Watch(threading.Thread):
    """Samples what `look()` returns, a dict, with the time of each."""

    def __init__(self, look, every=0.5):
        super().__init__(daemon=True)
        self.look, self.every = look, every
        self.rows, self.over, self.start_at = [], threading.Event(), time.monotonic()
        self.start()

    def run(self):
        while not self.over.is_set():
            at = time.monotonic() - self.start_at
            self.rows.append({"at": at, **self.look()})
            self.over.wait(self.every)

    def stop(self):
        self.over.set()
        self.join()
        return self.rows


def counted(weir):
    """What its engine counts, and what its workers do."""
    total = weir.counters()
    for row in weir.show("workers"):
        for k, v in row.items():
            if isinstance(v, int) and k != "worker":
                total[k] = total.get(k, 0) + v
    return total


def delta(weir, before):
    return {k: v - before.get(k, 0) for k, v in counted(weir).items()}


# ---- avalanches -------------------------------------------------------------------------------

def bare_us(t, count):
    """CPU of the bare acceptor, µs a connection with its REGISTER: what nobody does for less. They
    come nearly as fast as it can, so that few wake it up for themselves alone."""
    bare = pinned(acceptor(t))
    words = ["phones", "--to", f"tls://{t.ip(2)}:5061", "--insecure", "--rate", "2500/s"]
    Load(t, *words, "--count", "200").result(60)
    before = threads_ns([bare.pid])
    got = Load(t, *words, "--count", str(count), "--for", "60s").result(90)
    us = (threads_ns([bare.pid]) - before) / 1000 / count
    ends.equal(got["ok"], count, "registered at the bare acceptor")
    bare.kill()
    return us


def waves(series, every_s):
    """How many tried in each two seconds: the patience of a naive phone."""
    per = max(1, round(every_s * 1000 / series["every_ms"]))
    tried = series["offered"]
    return [sum(tried[i:i + per]) for i in range(0, len(tried), per)]


def storm(t, behaviour, count, limit_s, name, guard=None, n=1, more=()):
    """All phones at once. What the load tool says, Pss before, highest and after, CPU of weir."""
    weir = pinned(edge(t, n, **({"guard": guard} if guard else {})))
    load = Load(t, "phones", "--to", f"tls://{t.ip(n)}:5061", "--insecure", "--count", "100",
                "--user", "warm")
    load.result(60)
    before, cpu = pss_bytes([weir.pid]), threads_ns([weir.pid])
    watch = Watch(lambda: {"pss": pss_bytes([weir.pid]), "cpu_ns": threads_ns([weir.pid])})
    got = Load(t, "phones", "--to", f"tls://{t.ip(n)}:5061", "--insecure", "--count", str(count),
               "--at-once", "--behaviour", behaviour, "--sources", SOURCES, "--for", f"{limit_s}s",
               *more, report=name).result(limit_s + 60)
    cpu = threads_ns([weir.pid]) - cpu
    rows = watch.stop()
    return {"weir": weir, "got": got, "before": before, "after": pss_bytes([weir.pid]),
            "most": max(r["pss"] for r in rows), "cpu_s": cpu / 1e9, "rows": rows}


def show_storm(out, key, s, count, bare, judge):
    got, weir = s["got"], s["weir"]
    c = counted(weir)
    at99 = got["registered_s"]["99"]
    bar = 1.3 * count * bare / 1e6
    out.row(f"{key}: {count:,} TLS phones at once: registered", f"{got['up_max']:,}",
            f"all {count:,}", got["up_max"] == count if judge else None,
            **{f"{key}_registered": got["up_max"]})
    out.row(f"   time to 99 % (bare: {bare:.0f} µs each)",
            "never" if at99 is None else f"{at99:.2f} s", f"at most {bar:.2f} s",
            (at99 is not None and at99 <= bar) if judge else None,
            **{f"{key}_99_s": at99, f"{key}_bar_s": bar, f"{key}_bare_us": bare})
    out.row("   weir, CPU for each; the load tool",
            f"{s['cpu_s'] / count * 1e6:.0f}; "
            f"{(got['cpu_user_s'] + got['cpu_system_s']) / count * 1e6:.0f} µs", "",
            **{f"{key}_cpu_us": s["cpu_s"] / count * 1e6,
               f"{key}_load_cpu_us": (got["cpu_user_s"] + got["cpu_system_s"]) / count * 1e6})
    most, rest = (s["most"] - s["before"]) / MIB, (s["after"] - s["before"]) / MIB
    out.row("   Pss more than before: at most, at the end", f"{most:.0f}, {rest:.0f} MiB",
            "bounded by `tls.handshakes`", most <= rest + 32 if judge else None,
            **{f"{key}_pss_most": s["most"], f"{key}_pss_end": s["after"]})
    w = waves(got["series"], 2)
    while w and w[-1] == 0:
        w.pop()
    out.row("   tried in each 2 s", ", ".join(str(x) for x in w[:8]) + (" …" if w[8:] else ""),
            "each wave smaller", all(b <= a for a, b in zip(w, w[1:])) if judge else None,
            **{f"{key}_waves": w})
    out.row("   handshakes waited, left, slow; shed", ", ".join(
        str(c.get(k, 0)) for k in ("handshakes_waited", "handshakes_left", "handshakes_slow",
                                   "requests_shed")), "",
            **{f"{key}_counters": {k: v for k, v in c.items() if v}})
    ends.check(weir.alive(), "weir lives")


def part_storm_naive(t, args, out):
    """Phones that wait 2 s for an answer and then connect anew, at once: with the defaults, with
    a door that only reports, and without the bound on handshakes under way, for contrast."""
    count = 2000 if args.quick else 15000
    bare = bare_us(t, 1000 if args.quick else 3000)
    limit_s = 60 if args.quick else 120
    show_storm(out, "naive", storm(t, "naive", count, limit_s, "storm-naive"), count, bare, True)
    s = storm(t, "naive", count, limit_s, "storm-naive-report-only",
              {"report_only": True}, n=3)
    show_storm(out, "naive, report_only", s, count, bare, False)
    s = storm(t, "naive", count, limit_s, "storm-naive-off",
              {"report_only": True, "shed": {"delay": "off", "age": "off"}}, n=4)
    show_storm(out, "naive, guard off", s, count, bare, False)


def part_storm_good(t, args, out):
    """Well-behaved phones, all at once."""
    count = 2000 if args.quick else 15000
    bare = bare_us(t, 1000 if args.quick else 3000)
    s = storm(t, "good", count, 180, "storm-good")
    show_storm(out, "good", s, count, bare, False)
    got = s["got"]
    out.row("   all of them registered", f"{got['up_max']:,}", f"all {count:,}",
            got["up_max"] == count)


# ---- goodput ----------------------------------------------------------------------------------

class Quota:
    """Less of a core than all of it, by the kernel's bandwidth control: so that callers and
    servers, which share one core, offer ten times what weir can do."""
    HOME = "/sys/fs/cgroup/cpu"
    PERIOD_US = 5000

    def __init__(self, t, pid, share):
        self.path = os.path.join(self.HOME, f"weir-bench-{pid}")
        os.mkdir(self.path)
        t.stack.callback(self.close)
        self.set("cpu.cfs_period_us", self.PERIOD_US)
        self.set("cpu.cfs_quota_us", int(self.PERIOD_US * share))
        self.set("cpu.shares", 262144)  # and that much of it before others
        self.set("cgroup.procs", pid)

    def set(self, name, value):
        with open(os.path.join(self.path, name), "w", encoding="ascii") as f:
            f.write(str(value))

    def close(self):
        try:
            with open(os.path.join(self.path, "cgroup.procs"), encoding="ascii") as f:
                pids = f.read().split()
            for pid in pids:
                with open(os.path.join(self.HOME, "cgroup.procs"), "w", encoding="ascii") as home:
                    home.write(pid)
            os.rmdir(self.path)
        except OSError:
            pass


def offered(t, rate, seconds, name=None):
    """Calls at a rate; those that were answered and ended well, per second."""
    got = Load(t, "calls", "--to", f"udp://{t.ip(1)}:5060", "--answer", f"udp://{t.ip(10)}:5060",
               "--rate", f"{rate}/s", "--for", f"{seconds}s", "--hold", "200ms",
               "--connections", "8", report=name).result(seconds + 120)
    return got


def goodput_of(got, seconds):
    """Calls answered per second, and ended well, while so much was offered for a while: what was
    answered after the last had begun does not count."""
    series = got["series"]
    first, last = (int(x * 1000 / series["every_ms"]) for x in (seconds / 3, seconds))
    ok = series["ok"][first:last]
    per_s = sum(ok) * 1000 / series["every_ms"] / max(1, len(ok))
    return per_s * got["in_dialog_ok"] / max(1, got["in_dialog"])


def capacity_of(t, guess, seconds):
    """What is offered is raised by a fifth until a tenth of it is not answered in time."""
    best = 0.0
    while True:
        good = goodput_of(offered(t, int(guess), seconds), seconds)
        best = max(best, good)
        if good < 0.9 * guess:
            return best
        guess *= 1.2


def part_goodput(t, args, out):
    """Goodput against offered load from 0.5 to 10 times the capacity."""
    seconds = 5 if args.quick else 15
    weir = pinned(t.weir({
        "node": {"name": "edge-1", "workers": 1},
        "listeners": [{"bind": f"udp://{t.ip(1)}:5060", "side": "outside"},
                      {"bind": f"udp://{t.ip(2)}:5060", "side": "inside"}],
        "pools": {"border": {"targets": [f"udp://{t.ip(10)}:5060"], "health": "off"}},
        "limits": {"transactions": 2000000},  # two of each call linger for 32 s
        "routes": [{"from": "outside", "to": "border"}]}))
    share = 0.2
    before = threads_ns([weir.pid])
    got = offered(t, 500, 4)
    us = (threads_ns([weir.pid]) - before) / 1000 / got["ok"]
    load_us = (got["cpu_user_s"] + got["cpu_system_s"]) * 1e6 / got["ok"]
    Quota(t, weir.pid, share)
    guess = share * 1e6 / us
    points = []
    capacity = capacity_of(t, guess, seconds)
    out.row(f"calls: CPU of weir, of the load tool for each; capacity at {share:.0%} of a core",
            f"{us:.0f}, {load_us:.0f} µs; {capacity:.0f}/s", "", goodput_call_us=us,
            goodput_load_us=load_us, goodput_capacity=capacity)
    go_first()
    for factor in (0.5, 1, 1.5, 2, 3, 5, 7, 10):
        load_before = counted(weir)
        cpu = threads_ns([weir.pid])
        got = offered(t, int(capacity * factor), seconds, f"goodput-{factor}x")
        cpu = (threads_ns([weir.pid]) - cpu) / 1e9
        c = {k: v - load_before.get(k, 0) for k, v in counted(weir).items()}
        points.append({"factor": factor, "offered": capacity * factor,
                       "goodput": goodput_of(got, seconds), "refused": got["refused"] / seconds,
                       "in_dialog": got["in_dialog"], "in_dialog_ok": got["in_dialog_ok"],
                       "p99_us": got["latency_us"]["p99"], "failed": got["failed"],
                       "timeouts": got["timeouts"], "retries": got["retries"],
                       "load_cpu": got["cpu_user_s"] + got["cpu_system_s"], "weir_cpu": cpu,
                       "seconds": got["seconds"], "counters": {k: v for k, v in c.items() if v}})
        time.sleep(2)
    peak = max(p["goodput"] for p in points)
    bars = {2: 0.95, 5: 0.90, 10: 0.80}
    for p in points:
        part = p["goodput"] / peak
        bar = bars.get(p["factor"])
        out.row(f"offered {p['factor']} x: {p['offered']:.0f}/s; good; of the peak",
                f"{p['goodput']:.0f}/s; {part * 100:.1f} %",
                f"at least {bar * 100:.0f} %" if bar else "", part >= bar if bar else None)
        out.row("   refused/s; p99; BYEs answered",
                f"{p['refused']:.0f}; {p['p99_us'] / 1000:.0f} ms; "
                f"{100 * p['in_dialog_ok'] / max(1, p['in_dialog']):.2f} %", "")
        out.row("   CPU: weir, load tool; failed, timeouts, again",
                f"{p['weir_cpu'] / p['seconds'] * 100:.0f} %, "
                f"{p['load_cpu'] / p['seconds'] * 100:.0f} %; "
                f"{p['failed']}, {p['timeouts']}, {p['retries']}", "")
    out.numbers["goodput"] = points
    page("goodput", "Goodput against offered load", "offered, times the capacity", "calls/s", {
        "good": [(p["factor"], p["goodput"]) for p in points],
        "refused": [(p["factor"], p["refused"]) for p in points],
        "offered": [(p["factor"], p["offered"]) for p in points if p["factor"] <= 2]})


# ---- steady calls while others storm ----------------------------------------------------------

def edge_for_all(t, n=1, **more):
    """An edge whose phones register in it, and whose calls go to a server behind it. Over UDP
    inside and outside, over TLS outside."""
    cert, key = certificate(t.folder)
    state = os.path.join(t.folder, f"state-{n}")
    return pinned(t.weir({
        "node": {"name": f"edge-{n}", "workers": 1},
        "listeners": [{"bind": f"udp://{t.ip(n)}:5060", "side": "outside"},
                      {"bind": f"tcp://{t.ip(n)}:5060", "side": "outside"},
                      {"bind": f"tls://{t.ip(n)}:5061", "side": "outside", "cert": cert,
                       "key": key},
                      {"bind": f"udp://{t.ip(n + 200)}:5060", "side": "inside"}],
        "pools": {"border": {"targets": [f"udp://{t.ip(10)}:5060"], "health": "off"}},
        "routes": [{"from": "outside", "method": "REGISTER", "to": "registrar"},
                   {"from": "outside", "to": "border"}],
        "roles": {"registrar": {"domains": [DOMAIN], "auth": "none", "state": state}}, **more}))


def steady(t, seconds, n=1, name=None, more=()):
    """200 calls/s, each of two seconds, with caller and called party in one program."""
    return Load(t, "calls", "--to", f"udp://{t.ip(n)}:5060", "--answer", f"udp://{t.ip(10)}:5060",
                "--rate", "200/s", "--for", f"{seconds}s", "--hold", "2s", "--connections", "16",
                *more, urgent=True, report=name)


def part_storm_calls(t, args, out):
    """200 calls/s through the edge, alone and during an avalanche of naive phones."""
    count, seconds = (2000, 8) if args.quick else (15000, 20)
    edge_for_all(t)
    alone = steady(t, seconds).result(90)
    calls = steady(t, seconds, name="storm-calls")
    time.sleep(2)
    phones = Load(t, "phones", "--to", f"tls://{t.ip(1)}:5061", "--insecure", "--count", str(count),
                  "--at-once", "--behaviour", "naive", "--sources", SOURCES, "--for", "60s",
                  report="storm-calls-phones").result(120)
    got = calls.result(90)
    out.row(f"200 calls/s, {count:,} phones come at once: registered",
            f"{phones['up_max']:,} in {phones['registered_s']['99']} s (99 %)", "",
            storm_calls_99_s=phones["registered_s"]["99"])
    ok = got["ok"] / max(1, got["offered"])
    out.row(f"   new calls of {got['offered']} that were answered", f"{ok * 100:.2f} %",
            "at least 99 %", ok >= 0.99, storm_calls_ok=ok)
    inside = got["in_dialog_ok"] / max(1, got["in_dialog"])
    out.row(f"   requests in {got['in_dialog']} dialogs that were answered",
            f"{inside * 100:.2f} %", "100 %", inside == 1, storm_calls_in_dialog=inside)
    p99 = {k: g["latency_us"]["p99"] / 1000 for k, g in (("alone", alone), ("storm", got))}
    out.row("   INVITE to 200, p99: alone, in the storm",
            f"{p99['alone']:.1f}, {p99['storm']:.1f} ms", "at most 250 ms more",
            p99["storm"] - p99["alone"] <= 250, storm_calls_p99_ms=p99)


# ---- attackers --------------------------------------------------------------------------------

ATTACKER = "127.9.9.9"


def burn(t, core, permille):
    return t.keep(procs.Proc(t.folder, f"burn{core}-{time.monotonic_ns()}", [
        "taskset", "-c", str(core), os.path.join(TOOLS, "burn"), str(max(1, min(1000, permille)))]))


def legit(t, calls):
    """200 calls/s of sixteen callers, by a program whose clock sees both ends."""
    child = subprocess.run(["nice", "-n", "-10", "taskset", "-c", str(LOAD_CORE),
                            os.path.join(TOOLS, "delay"), t.ip(100), t.ip(10), t.ip(1), "5060",
                            "200", str(calls), "16"], capture_output=True, text=True, check=False)
    return json.loads(child.stdout)


def attacked(t, weir, calls, kind):
    to = f"tcp://{t.ip(1)}:5060" if kind == "connect" else f"udp://{t.ip(1)}:5060"
    cpu, start, before = threads_ns([weir.pid]), time.monotonic(), counted(weir)
    flood = Load(t, "flood", "--to", to, "--kind", kind, "--source", ATTACKER, "--for", "600s")
    got = legit(t, calls)
    sent = flood.end()
    seconds = time.monotonic() - start
    c = counted(weir)
    return got, {
        "sent_s": sent["sent"] / sent["seconds"],
        "load": int((sent["cpu_user_s"] + sent["cpu_system_s"]) / sent["seconds"] * 1000),
        "weir": int((threads_ns([weir.pid]) - cpu) / 1e6 / seconds),
        "counters": {k: v - before.get(k, 0) for k, v in c.items() if v != before.get(k, 0)}}


def part_attacker(t, args, out):
    """One source at line rate among legit callers, beside runs in which as much of both cores is
    burnt for nothing. Callers here send nothing again: what is lost while the flood begins, before
    it is refused in the kernel, counts."""
    calls = 1000
    rounds = 1 if args.quick else 7  # in turn: a run of its own may meet a busier machine
    weir = edge_for_all(t, guard={
        "per_source": {"requests": 50, "malformed": 20, "connects": 100}})
    legit(t, 400)
    cpu, start = threads_ns([weir.pid]), time.monotonic()
    calm = legit(t, calls)
    idle = int((threads_ns([weir.pid]) - cpu) / 1e6 / (time.monotonic() - start))
    out.row("200 calls/s of sixteen callers, nobody else: delay p50, p99",
            f"{calm['p50_us']:.0f}, {calm['p99_us']:.0f} µs", "", attacker_calm=calm)
    for kind in ("garbage", "invite", "ack", "connect"):
        pairs, lost, wanted = [], 0, 0
        for _ in range(rounds):
            got, attack = attacked(t, weir, calls, kind)
            fires = [burn(t, LOAD_CORE, attack["load"]),
                     burn(t, WEIR_CORE, attack["weir"] - idle)]
            same = legit(t, calls)
            for fire in fires:
                fire.kill()
            pairs.append((got, same, attack))
            lost += got["calls"] - got["done"]
            wanted += got["calls"]
        p50 = [statistics.median(pair[i]["p50_us"] for pair in pairs) for i in (0, 1)]
        p99 = [statistics.median(pair[i]["p99_us"] for pair in pairs) for i in (0, 1)]
        attack = pairs[-1][2]
        out.row(f"{kind} at {attack['sent_s']:,.0f}/s: legit calls lost", f"{lost} of {wanted}",
                "under 1 %", lost < wanted / 100, **{f"attacker_{kind}_lost": lost / wanted})
        out.row("   delay p50: attacked, as much CPU burnt", f"{p50[0]:.0f}, {p50[1]:.0f} µs",
                "under 5 % more", p50[0] < 1.05 * p50[1], **{f"attacker_{kind}_p50_us": p50})
        out.row("   delay p99", f"{p99[0]:.0f}, {p99[1]:.0f} µs", "",
                **{f"attacker_{kind}_p99_us": p99, f"attacker_{kind}": attack})
        out.row("   of a core: the attacker, weir (without: "
                f"{idle / 10:.1f} %)",
                f"{attack['load'] / 10:.0f} %, {attack['weir'] / 10:.1f} %", "")
    ends.check(weir.alive(), "weir lives")


# ---- what a refusal costs ---------------------------------------------------------------------

def user_ns(pid):
    """User and system time, by ticks."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        field = f.read().rpartition(")")[2].split()
    tick = 1e9 / os.sysconf("SC_CLK_TCK")
    return int(field[11]) * tick, int(field[12]) * tick


def shed_cost(t, seconds):
    """INVITEs of one source at the rate that one core can send, many more than can be done."""
    weir = edge_for_all(t)
    t.sipp("uas", t.ip(10), 5060)
    flood = Load(t, "flood", "--to", f"udp://{t.ip(1)}:5060", "--kind", "invite", "--source",
                 ATTACKER, "--for", "600s")
    time.sleep(2)
    before, user, cpu = counted(weir), user_ns(weir.pid), threads_ns([weir.pid])
    time.sleep(seconds)
    c = delta(weir, before)
    cpu = threads_ns([weir.pid]) - cpu
    both = [b - a for a, b in zip(user, user_ns(weir.pid))]
    flood.end()
    weir.kill()
    weir.may_die = True
    return c, cpu, both[0] / max(1, sum(both))


def refused_cost(t, seconds):
    """Connections of one source that connects too often; and what a bare loop needs."""
    weir = edge_for_all(t, n=2, guard={"per_source": {"connects": 1}})
    bare = pinned(t.keep(procs.Proc(t.folder, "accept_close", [
        os.path.join(TOOLS, "accept_close"), t.ip(3), "5060"])))
    time.sleep(0.3)
    us = {"weir": [], "bare": []}
    for _ in range(3):
        for name, ip, pid in (("bare", t.ip(3), bare.pid), ("weir", t.ip(2), weir.pid)):
            before, cpu = counted(weir), threads_ns([pid])
            made = knock(t, ip, 5060, "close", ATTACKER, 1, 64, 20000, seconds)
            made = json.loads(made.finish())["made"]
            time.sleep(0.3)
            count = delta(weir, before).get("accepts_denied", 0) if name == "weir" else made
            us[name].append((threads_ns([pid]) - cpu) / 1000 / max(1, count))
    return {k: statistics.median(v) for k, v in us.items()}


class Knock(procs.Proc):
    def finish(self):
        self.signal(15)
        self.wait(30)
        return self.output()


def knock(t, ip, port, mode, source, sources, at_once, rate, seconds, wait=True):
    """bench/knock: see there."""
    k = t.keep(Knock(t.folder, f"knock{time.monotonic_ns()}", [
        "taskset", "-c", str(LOAD_CORE), os.path.join(TOOLS, "knock"), ip, str(port), mode, source,
        str(sources), str(at_once), str(rate), str(seconds)]))
    if wait:
        k.wait(seconds + 60)
    return k


def part_shed(t, args, out):
    """CPU of a request that is shed, and of a connection that is refused."""
    seconds = 3 if args.quick else 8
    go_first()
    c, cpu, user = shed_cost(t, seconds)
    shed = c.get("requests_shed", 0)
    us = cpu / 1000 / max(1, shed)
    out.row(f"a request that is shed ({shed / seconds:,.0f}/s): user CPU", f"{us * user:.2f} µs",
            "at most 2 µs", us * user <= 2 and shed > 1000, shed_user_us=us * user)
    out.row("   with the kernel's receiving and sending", f"{us:.2f} µs", "", shed_us=us,
            shed_counters=c)
    got = refused_cost(t, seconds)
    ratio = got["weir"] / got["bare"]
    out.row("a connection: refused; bare accept and close",
            f"{got['weir']:.2f}, {got['bare']:.2f} µs", "", refused_us=got["weir"],
            accept_close_us=got["bare"])
    out.row("   refused / bare", f"{ratio:.2f} x", "at most 1.5 x", ratio <= 1.5,
            refused_ratio=ratio)


def part_sources(t, args, out):
    """CPU of a connection that comes and goes, from 100 and from 100,000 sources, all of them known
    to the guard."""
    rate, seconds = 10000, 12 if args.quick else 24
    go_first()
    weir = edge_for_all(t, guard={
        "per_source": {"connects": 1000000, "requests": 1000000},
        "per_prefix": {"connects": 1000000},
        "connections": {"per_source": 100000, "per_prefix": 100000}})
    knock(t, t.ip(1), 5060, "close", "127.64.0.1", 100000, 64, rate, 11)  # all of them once
    us = {100: [], 100000: []}
    for _ in range(2 if args.quick else 3):
        for sources in us:
            before, cpu = counted(weir), threads_ns([weir.pid])
            knock(t, t.ip(1), 5060, "close", "127.64.0.1", sources, 64, rate, seconds)
            time.sleep(0.5)
            c = delta(weir, before)
            us[sources].append((threads_ns([weir.pid]) - cpu) / 1000 /
                               max(1, c.get("flows_accepted", 0)))
    few, many = (statistics.median(us[n]) for n in us)
    out.row("a connection comes and goes: 100 sources; 100,000", f"{few:.2f}; {many:.2f} µs",
            "within 10 %", many <= 1.1 * few, sources_few_us=few, sources_many_us=many,
            sources_all=us)


# ---- those who begin and do not go on ---------------------------------------------------------

def register(t, count, name, more=(), seconds=60):
    """`count` phones within five seconds, of the usual patience."""
    return Load(t, "phones", "--to", f"tls://{t.ip(1)}:5061", "--insecure", "--count", str(count),
                "--rate", f"{count // 5}/s", "--sources", "127.32.0.0/12", "--for", f"{seconds}s",
                "--base", "2s", *more, report=name)


def show_legit(out, key, what, calm, got, count):
    out.row(what, f"{got['up_max']} of {count}", "all", got["up_max"] == count,
            **{f"{key}_registered": got["up_max"]})
    at = [g["registered_s"]["99"] for g in (calm, got)]
    out.row("   99 % after; without it", " s; ".join(
        "never" if x is None else f"{x:.2f}" for x in reversed(at)) + " s", "",
            **{f"{key}_99_s": at[1], f"{key}_calm_99_s": at[0]})
    out.row("   tries again; connection p99", f"{got['retries']}; "
            f"{got['connection_us']['p99'] / 1000:.0f} ms", "",
            **{f"{key}_retries": got["retries"]})


def part_slowloris(t, args, out):
    """Connections that say nothing, or a byte each second, while phones register."""
    count = 500 if args.quick else 2000
    held = 5000 if args.quick else 15000
    for n, (mode, port) in enumerate((("drip", 5060), ("idle", 5061))):
        go_first()
        weir = edge_for_all(t)
        calm = register(t, count, None, ("--user", "calm")).result(90)
        k = knock(t, t.ip(1), port, mode, "127.64.0.1", 5000, held, 5000, 600, wait=False)
        time.sleep(5)
        got = register(t, count, f"slowloris-{mode}").result(90)
        show_legit(out, f"slowloris_{mode}", f"{held:,} connections that "
                   f"{'drip' if mode == 'drip' else 'say nothing'}: phones registered", calm, got,
                   count)
        c = counted(weir)
        out.row("   knocks; weir: Pss, evicted, slow", f"{json.loads(k.finish())['made']:,}; "
                f"{pss_bytes([weir.pid]) / MIB:.0f} MiB, {c.get('evicted', 0)}, "
                f"{c.get('streams_slow', 0)}", "", **{f"slowloris_{mode}_counters": c})
        weir.kill()
        weir.may_die = True


def part_handshakes(t, args, out):
    """ClientHellos that nobody goes on with, at 5,000 a second, and connections that begin one and
    stop; phones that have registered before, and phones that nobody knows."""
    count = 500 if args.quick else 2000
    for mode, rate, held in (("hello", 5000, 4000), ("begin", 5000, 12000)):
        go_first()
        weir = edge_for_all(t)
        calm = register(t, count, None).result(90)
        k = knock(t, t.ip(1), 5061, mode, "127.64.0.1", 5000, held, rate, 600, wait=False)
        time.sleep(3)
        before, cpu, start = counted(weir), threads_ns([weir.pid]), time.monotonic()
        known = register(t, count, f"handshakes-{mode}-known").result(90)
        share = (threads_ns([weir.pid]) - cpu) / 1e9 / (time.monotonic() - start)
        show_legit(out, f"handshakes_{mode}_known",
                   f"{mode} at {rate:,}/s: known phones registered", calm, known, count)
        new = register(t, count, f"handshakes-{mode}-new",
                       ("--user", "new", "--sources", "127.48.0.0/12")).result(90)
        show_legit(out, f"handshakes_{mode}_new", "   new phones registered", calm, new, count)
        c = delta(weir, before)
        done = json.loads(k.finish())
        out.row("   knocks, answered; weir, of a core; Pss", f"{done['made']:,}, "
                f"{done['answered']:,}; {share * 100:.0f} %; {pss_bytes([weir.pid]) / MIB:.0f} MiB",
                "", **{f"handshakes_{mode}": done,
                       f"handshakes_{mode}_counters": {k: v for k, v in c.items() if v}})
        weir.kill()
        weir.may_die = True


# ---- a full edge is emptied -------------------------------------------------------------------

def part_drain(t, args, out):
    """`weir drain --within 60s` of an edge full of TLS phones, with calls up."""
    count, within = (2000, 20) if args.quick else (15000, 60)
    other = edge_for_all(t, n=2)
    weir = edge_for_all(t, drain={"move_to": f"<sip:{t.ip(2)}:5061;transport=tls>",
                                  "agents": ["weir-load"]})
    phones = Load(t, "phones", "--to", f"tls://{t.ip(1)}:5061", "--insecure", "--count", str(count),
                  "--rate", "2000/s", "--sources", SOURCES, "--hold", "--for", "600s",
                  "--spread", "2s", report="drain")
    ends.until(lambda: len(weir.show("bindings")) >= count, "phones at the edge", 120, pause=1)
    calls = Load(t, "calls", "--to", f"udp://{t.ip(1)}:5060", "--answer", f"udp://{t.ip(10)}:5060",
                 "--rate", "50/s", "--count", "100", "--hold", f"{within + 8}s", urgent=True)
    time.sleep(4)

    def flows():
        row = weir.show("drain")[0]
        return {"flows": row["flows"], "moved": row["moved"]}
    start = flows()["flows"]
    watch = Watch(flows, every=0.5)
    begun = time.monotonic() - watch.start_at
    status, _, err = weir.command("drain", "--within", f"{within}s")
    ends.check(status == 0, f"weir drain: {err}")
    time.sleep(within + 5)
    rows = [{**r, "at": r["at"] - begun} for r in watch.stop()]
    there = len(other.show("bindings"))
    ended, phoned = calls.result(90), phones.end()
    # What is left should be as much as time is. A phone that comes back to be sent away has a
    # connection for a moment.
    off = max(abs(r["flows"] - start * max(0.0, 1 - r["at"] / within)) / start
              for r in rows if 0 <= r["at"] <= within)
    left = rows[-1]["flows"]
    out.row(f"drain of {start:,} flows in {within} s: furthest off a line", f"{off * 100:.1f} %",
            "at most 10 %", off <= 0.10, drain_off=off)
    out.row("   left at the end", str(left), "0", left == 0, drain_left=left)
    good = ended["in_dialog_ok"] == 100 and ended["ok"] == 100
    out.row("   of 100 calls that were up: ended well", str(ended["in_dialog_ok"]), "100", good,
            drain_calls=ended["in_dialog_ok"])
    out.row("   phones on the other edge; failed registrations",
            f"{there:,}; {phoned['failed'] + phoned['refused']}", f"all {count:,}; 0",
            there == count and phoned["failed"] + phoned["refused"] == 0, drain_there=there,
            drain_failed=phoned["failed"], drain_refused=phoned["refused"],
            drain_moved=phoned["moved"])
    page("drain-flows", "Flows of an edge that is drained", "seconds", "flows", {
        "flows": [(r["at"], r["flows"]) for r in rows if r["at"] >= 0],
        "a line": [(0, start), (within, 0)]})
