# SPDX-License-Identifier: Apache-2.0
"""What a phone costs: memory of its flow and its binding, CPU of connecting, registering and
refreshing, beside a bare TLS acceptor that answers and holds."""
import json
import os
import subprocess
import time

from kit import procs
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
        self.child.stdin.write(command + "\n")
        self.child.stdin.flush()
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
