# SPDX-License-Identifier: Apache-2.0
"""What a phone costs: memory of its flow and its binding, CPU of connecting, registering and
refreshing, beside a bare TLS acceptor that answers and holds. What it gets for that: how soon its
second flow rings when the first is cut, and what it was promised is there after kill -9."""
import json
import os
import random
import statistics
import subprocess
import time

from kit import ends, phone, procs, relay, sip
from measure import TOOLS, pss_bytes, threads_ns

DOMAIN = "example.com"
PORTS = {"tcp": 5060, "tls": 5061, "wss": 8443}
AT_ONCE = 64


class Phones:
    """bench/phones: see there."""

    def __init__(self, t, transport, ip, port, at_once=AT_ONCE):
        self.child = subprocess.Popen(
            [os.path.join(TOOLS, "phones"), transport, ip, str(port), str(at_once)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        t.keep(self)

    def do(self, command):
        self.say(command)
        return self.heard()

    def say(self, command):
        self.child.stdin.write(command + "\n")
        self.child.stdin.flush()

    def heard(self):
        return json.loads(self.child.stdout.readline())

    def close(self):
        self.child.stdin.close()
        self.child.wait()
        self.child.stdout.close()


def certificate(folder):
    cert, key = os.path.join(folder, "edge.pem"), os.path.join(folder, "edge.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=edge",
                    "-addext", f"subjectAltName=DNS:{DOMAIN}", "-out", cert, "-keyout", key],
                   check=True, capture_output=True)
    os.chmod(key, 0o600)
    return cert, key


def edge(t, n=1, **more):
    """An edge that is its own registrar, one worker, without digest. `n`: of its address."""
    cert, key = certificate(t.folder)
    state = os.path.join(t.folder, f"state{n}")
    os.makedirs(state, exist_ok=True)
    secure = {"cert": cert, "key": key}
    return t.weir({
        "node": {"name": "edge-1", "workers": 1},
        "listeners": [{"bind": f"{tp}://{t.ip(n)}:{port}", "side": "outside",
                       **({} if tp == "tcp" else secure)} for tp, port in PORTS.items()],
        "routes": [{"from": "outside", "to": "registrar"}],
        "roles": {"registrar": {"domains": [DOMAIN], "auth": "none", "state": state}},
        **more})


def acceptor(t):
    cert, key = certificate(t.folder)
    child = t.keep(procs.Proc(t.folder, "acceptor", [os.path.join(TOOLS, "tls_acceptor"), t.ip(2),
                                                     "5061", cert, key]))
    time.sleep(0.3)
    return child


def edge_and_registrar(t, n):
    """Two processes: an edge for phones, and the registrar behind it."""
    state = os.path.join(t.folder, f"state{n}")
    os.makedirs(state)
    registrar = t.weir({
        "node": {"name": "registrar", "workers": 1},
        "listeners": [{"bind": f"tcp://{t.ip(n + 20)}:5060", "side": "inside"}],
        "routes": [{"from": "inside", "to": "registrar"}],
        "roles": {"registrar": {"domains": [DOMAIN], "auth": "none", "state": state}}})
    cert, key = certificate(t.folder)
    outside = [{"bind": f"{tp}://{t.ip(n)}:{port}", "side": "outside",
                **({} if tp == "tcp" else {"cert": cert, "key": key})}
               for tp, port in PORTS.items()]
    front = t.weir({
        "node": {"name": "edge", "workers": 1},
        "listeners": outside + [{"bind": f"tcp://{t.ip(n + 40)}:5060", "side": "inside"}],
        "pools": {"registrars": {"targets": [f"tcp://{t.ip(n + 20)}:5060"]}},
        "routes": [{"from": "outside", "to": "registrars"}]})
    return front, registrar


def part_idle(t, args, out):
    """Pss growth of an edge per flow that has registered and says nothing, and of the registrar
    behind it per binding."""
    counts = (1000, 3000) if args.quick else (8000, 16000)
    bars = {"tls": 1.0, "tcp": 0.6, "wss": 1.2}
    for n, transport in enumerate(("tls", "tcp", "wss")):
        front, registrar = edge_and_registrar(t, 11 + n)
        phones = Phones(t, transport, t.ip(11 + n), PORTS[transport])
        phones.do("open 200")  # what is touched once and for all
        before, opened = [pss_bytes([p.pid]) for p in (front, registrar)], 200
        for count in counts:
            opened = count - phones.do(f"open {count}")["failed"]
            time.sleep(1)
            flow, binding = ((pss_bytes([p.pid]) - b) / 1024 / (opened - 200)
                             for p, b in zip((front, registrar), before))
            out.row(f"{transport}: an idle registered flow, of {opened:,}", f"{flow:.2f} KiB",
                    f"at most {bars[transport]} KiB", flow <= bars[transport],
                    **{f"{transport}_{count}_kib": flow})
            out.row("  its binding at the registrar", f"{binding:.2f} KiB", "at most 0.7 KiB",
                    binding <= 0.7, **{f"{transport}_{count}_binding_kib": binding})
        phones.do("close")


def cpu_of(pid, phones, command):
    before = threads_ns([pid])
    done = phones.do(command)
    time.sleep(0.2)
    return (threads_ns([pid]) - before) / 1000, done


def part_flows(t, args, out):
    """New connection + REGISTER, resumed, refreshed: CPU of the process."""
    count = 2000 if args.quick else 8000
    weir, bare = edge(t), acceptor(t)
    sides = {"acceptor": (bare, Phones(t, "tls", t.ip(2), 5061)),
             "weir": (weir, Phones(t, "tls", t.ip(1), 5061))}
    us = {}
    for name, (proc, phones) in sides.items():
        phones.do("open 200")
        cpu, done = cpu_of(proc.pid, phones, f"open {count}")
        us[name] = cpu / (count - 200)
        out.row(f"{name}: new TLS connection + REGISTER", f"{us[name]:.0f} µs", "",
                **{f"{name}_new_us": us[name], f"{name}_failed": done["failed"]})
    ratio = us["weir"] / us["acceptor"]
    out.row("weir / acceptor", f"{ratio:.2f} x", "at most 1.35 x", ratio <= 1.35, new_ratio=ratio)
    phones = sides["weir"][1]
    cpu, done = cpu_of(weir.pid, phones, "refresh")
    refresh = cpu / count
    out.row("refresh on a live TLS flow, committed", f"{refresh:.1f} µs", "at most 40 µs",
            refresh <= 40 and done["failed"] == 0, refresh_us=refresh)
    again = {}
    for name, (proc, phones) in sides.items():
        phones.do("close")
        time.sleep(1)
        cpu, done = cpu_of(proc.pid, phones, f"resume {count}")
        again[name] = cpu / count
        bar = 1.35 * us["acceptor"] / 2
        out.row(f"{name}: resumed ({done['resumed']} of {count})", f"{again[name]:.0f} µs",
                f"at most {bar:.0f} µs" if name == "weir" else "",
                again[name] <= bar if name == "weir" else None,
                **{f"{name}_resumed_us": again[name]})


def part_pings(t, args, out):
    """Server pings at the pace of 16,000 flows every 30 s, as a share of one core."""
    count = 2000 if args.quick else 16000
    weir = edge(t, keepalive={"every": "30s", "max": "30s"})
    phones = Phones(t, "tls", t.ip(1), 5061)
    phones.do(f"open {count}")
    time.sleep(2)
    before, start = threads_ns([weir.pid]), time.monotonic()
    time.sleep(35 if args.quick else 90)
    share = (threads_ns([weir.pid]) - before) / 1e9 / (time.monotonic() - start)
    pings = weir.counters().get("pings_sent", 0)
    out.row(f"{count:,} flows pinged every 30 s ({pings} pings)", f"{share * 100:.2f} % of a core",
            "under 1 %", share < 0.01 and pings > 0, ping_share=share)


# ---- what is kept ----------------------------------------------------------------------------

class TwoFlows:
    """A phone with two flows: the first through a relay that can cut it, the second direct."""
    reg_id = {"first": 2, "second": 1}

    def __init__(self, t, transport):
        self.t, self.transport = t, transport
        self.edge = (t.ip(1), PORTS[transport])
        self.relay = t.keep(relay.Relay(t.ip(30), self.edge))
        self.second = self.way("second", self.edge)

    def way(self, which, to):
        one = phone.Phone(self.t.ip(31), "bob", DOMAIN, self.transport)
        self.t.keep(one).join(to)
        return one.register(f";reg-id={self.reg_id[which]};"
                            '+sip.instance="<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>"',
                            [("Supported", "path, outbound")])

    def round(self, caller, cut):
        """A call, while `cut` happens to the first flow, which is the newest and so asked first:
        "before" the call; "with" it, about when its INVITE goes out; "under" it, once that is
        there; or "none". ms until it rings at the flow that is left."""
        first = self.way("first", self.relay.address)
        if cut in ("with", "under"):
            first.invite = ()  # it never rings there
        call = ends.Call(caller, caller.conns[0], uri=f"sip:bob@{DOMAIN}")
        start = time.monotonic()
        if cut == "before":
            self.relay.reset()
        call.invite()
        if cut == "under":
            ends.until(lambda: first.rang(call), "the INVITE on the flow that is cut", pause=0.001)
        if cut in ("with", "under"):
            time.sleep(random.uniform(0, 0.05 if cut == "under" else 0.003))
            start = time.monotonic()
            self.relay.reset()
        ends.equal(call.final().status, 200, f"a call, its phone's flow cut: {cut}")
        rings = (first if cut == "none" else self.second).rang(call)
        ends.check(rings is not None, f"where it rings, its phone's flow cut: {cut}")
        ends.equal(call.bye().status, 200, "BYE")
        first.close()
        return (rings.at - start) * 1000


def part_cut(t, args, out):
    """A phone's flow is cut with a reset: before a call, and while a call's INVITE is under way."""
    rounds = 10 if args.quick else 50
    edge(t)
    caller = t.end(100)
    caller.connect((t.ip(1), PORTS["tcp"]))
    for transport in PORTS:
        one = TwoFlows(t, transport)
        # Caller to edge to phone: as long as from the phone to the edge and back.
        whole = statistics.median(one.round(caller, "none") for _ in range(10))
        for cut, what in (("under", "under a call"), ("with", "as a call begins"),
                          ("before", "before a call")):
            ms = [one.round(caller, cut) for _ in range(rounds)]
            bar = whole + 100
            out.row(f"{transport} flow cut {what}: second rings after",
                    f"{statistics.median(ms):.1f}, worst of {rounds}: {max(ms):.1f} ms",
                    f"worst: at most {bar:.0f} ms", max(ms) <= bar,
                    **{f"{transport}_cut_{cut}_ms": max(ms)})


def bound(weir):
    """The numbers of the addresses that have a binding."""
    return {int(row["aor"].partition("@")[0][1:]) for row in weir.show("bindings")}


def part_kill9(t, args, out):
    """kill -9 while REGISTERs of 2,000 addresses a second are being acknowledged over TCP."""
    rounds, rate, first, lost = 3 if args.quick else 20, 2000, 100000, 0
    path, rates, promised = os.path.join(t.folder, "acknowledged"), [], set()
    for n in range(rounds):
        weir = edge(t, limits={"bindings": 400000})
        weir.may_die = True
        clients = Phones(t, "tcp", t.ip(1), PORTS["tcp"])
        ends.equal(clients.do("open 200")["failed"], 0, "connections")
        clients.say(f"pace {first} {rate} {path}")
        time.sleep(random.uniform(1, 3))  # when it is killed, is not ours to choose
        weir.kill()
        done = clients.heard()
        clients.close()
        ends.equal(done["refused"], 0, "refused")
        rates.append(done["acknowledged"] / done["seconds"])
        first += done["sent"]
        with open(path, encoding="ascii") as f:
            promised = {int(line) for line in f}
        weir = edge(t, limits={"bindings": 400000})
        lost += len(promised - bound(weir))
        ends.equal(weir.stop(), 0, "exit status")
    out.row(f"kill -9 at {statistics.median(rates):,.0f} REGISTER/s, {rounds} times: lost",
            f"{lost} of {len(promised):,}", "0 of what was acknowledged", lost == 0,
            kill9_lost=lost, kill9_acknowledged=len(promised),
            kill9_rate=statistics.median(rates))
