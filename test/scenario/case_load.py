# SPDX-License-Identifier: Apache-2.0
"""weir load against weir, against Kamailio, and against servers that are gone, full, or elsewhere.

covers: load/run.c, load/conn.c, load/phones.c, load/calls.c, load/answer.c, load/flood.c,
    cli/load.c
"""
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time

import case_kamailio_flows
from kit import procs, tls
from kit.case import case
from kit.ends import check, equal, until

DOMAIN = "example.com"
PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 8080, "wss": 8443}


def have_kamailio():
    return shutil.which("kamailio") is not None


class Load(procs.Proc):
    """`weir load …` in the background; what it says on stdout goes to a file of its own."""
    count = 0

    def __init__(self, t, *words):
        Load.count += 1
        self.data = os.path.join(t.folder, f"load{Load.count}.json")
        command = [procs.binary(t.build), "load", *words, "-o", "json"]
        super().__init__(t.folder, f"weir-load{Load.count}",
                         ["sh", "-c", 'out=$1; shift; exec "$@" >"$out"', "sh", self.data,
                          *command])

    def result(self):
        with open(self.data, encoding="utf-8") as f:
            return json.loads(f.read())

    def done(self, status=0, timeout=60):
        equal(self.wait(timeout), status, f"exit status: {self.output()[-1500:]}")
        return self.result()


def load(t, *words, status=0, timeout=60):
    return t.keep(Load(t, *words)).done(status, timeout)


def registrar(t, **more):
    cert, key = tls.Authority(t.folder).sign("edge.example.com", [t.ip(1)])
    state = os.path.join(t.folder, "state")
    os.makedirs(state, exist_ok=True)
    secure = {"cert": cert, "key": key}
    return t.weir({
        "node": {"name": "edge-1", "workers": 1},
        "listeners": [{"bind": f"{tp}://{t.ip(1)}:{port}", "side": "outside",
                       **(secure if tp in ("tls", "wss") else {})}
                      for tp, port in PORTS.items()],
        "routes": [{"from": "outside", "to": "registrar"}],
        "roles": {"registrar": {"domains": [DOMAIN], "auth": "none", "state": state}},
        **more})


def to(t, transport, n=1):
    return f"{transport}://{t.ip(n)}:{PORTS[transport]}"


# ---- phones ----------------------------------------------------------------------------------

@case("load: 50 phones over each transport are registered, each under its own name", timeout=90)
def _(t):
    weir = registrar(t)
    ca = os.path.join(t.folder, "ca.pem")
    for at, tp in enumerate(PORTS):
        who = [] if tp in ("udp", "tcp", "ws") else (
            ["--insecure"] if tp == "wss" else ["--ca", ca])
        got = load(t, "phones", "--to", to(t, tp), "--count", "50", "--at-once", "--user", tp,
                   "--for", "30s", *who)
        equal((got["wanted"], got["reached"], got["up"], got["ok"], got["unread"]),
              (50, 50, 50, 50, 0), f"{tp}: {got}")
        equal(got["status"], {"200": 50}, tp)
        check(0 < got["latency_us"]["p50"] <= got["latency_us"]["max"], f"latency {got}")
        check(got["registered_s"]["100"] is not None, f"time to all {got}")
        equal(weir.counters()["registrations"], 50 * (at + 1), "what the registrar counted")
    aors = {b["aor"] for b in weir.show("bindings")}
    check({f"udp{n}@{DOMAIN}" for n in range(50)} <= aors, "those of UDP stay")


@case("load: a certificate of strangers is believed with --insecure alone", timeout=60)
def _(t):
    registrar(t)
    words = ("phones", "--to", to(t, "tls"), "--count", "2", "--for", "1s")
    got = load(t, *words, status=1)
    equal(got["up"], 0, "nobody")
    check(got["failed"] >= 2, f"handshakes fail {got}")
    equal(load(t, *words, "--insecure")["up"], 2, "with --insecure")


@case("load: a server of TLS 1.2 alone is served, too; calls go over TLS", timeout=60)
def _(t):
    cert, key = tls.Authority(t.folder).sign("other.example.com", [t.ip(20)])
    context = tls.server_context(cert, key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    server = t.keep(tls.Server(t.ip(20), 5061, context))
    got = load(t, "phones", "--to", f"tls://{t.ip(20)}:5061", "--count", "5", "--at-once",
               "--insecure", "--for", "20s")
    equal((got["up"], got["retries"], got["failed"]), (5, 0, 0), f"{got}")
    got = load(t, "calls", "--to", f"tls://{t.ip(20)}:5061", "--count", "5", "--rate", "50/s",
               "--ca", os.path.join(t.folder, "ca.pem"), "--connections", "2", "--hold", "10ms")
    equal((got["ok"], got["in_dialog_ok"]), (5, 5), f"{got}")
    equal(len(server.failures), 5, "light handshakes, each tried once")


@case("load: phones answer challenges, and a wrong password is the end", timeout=60)
def _(t):
    users = os.path.join(t.folder, "users")
    with open(users, "w", encoding="utf-8") as f:
        for n in range(3):
            ha1 = hashlib.md5(f"phone{n}:{DOMAIN}:secret".encode()).hexdigest()
            f.write(f"phone{n}:{DOMAIN}:{ha1}\n")
    os.chmod(users, 0o600)
    state = os.path.join(t.folder, "state")
    os.makedirs(state)
    registrar(t, roles={"registrar": {"domains": [DOMAIN], "auth": {"digest": users},
                                      "state": state}})
    words = ("phones", "--to", to(t, "udp"), "--count", "3", "--for", "20s", "--password")
    got = load(t, *words, "secret")
    equal((got["up"], got["challenged"]), (3, 3), f"right {got}")
    got = load(t, *words, "wrong", status=1)
    equal((got["up"], got["challenged"], got["ok"]), (0, 3, 0), f"wrong {got}")


@case("load: a storm cuts all, and all come back by their kind", timeout=90)
def _(t):
    weir = registrar(t)
    words = ("phones", "--to", to(t, "tcp"), "--count", "30", "--at-once", "--for", "30s",
             "--storm-at", "1s")
    for kind in ("naive", "good"):
        got = load(t, *words, "--behaviour", kind, "--spread", "500ms", "--user", kind)
        equal((got["up"], got["ok"], got["retries"]), (30, 60, 30), f"{kind}: {got}")
    equal(weir.counters()["registrations"], 120, "registrations")
    got = load(t, "phones", "--to", to(t, "tls"), *words[3:], "--behaviour", "naive", "--insecure",
               "--resume")
    equal((got["up"], got["ok"], got["resumed"]), (30, 60, 30), f"with tickets: {got}")


class Closing(socket.socket):
    """Accepts, and closes at once; counts."""

    def __init__(self, ip, port):
        super().__init__(socket.AF_INET, socket.SOCK_STREAM)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.bind((ip, port))
        self.listen(100)
        self.settimeout(0.1)
        self.times = []

    def until(self, moment):
        while time.monotonic() < moment:
            try:
                conn, _ = self.accept()
            except TimeoutError:
                continue
            self.times.append(time.monotonic())
            conn.close()


@case("load: naive phones knock every 2 s, good ones wait as RFC 5626 says", timeout=60)
def _(t):
    knocks = {}
    for at, kind in enumerate(("naive", "good")):
        server = t.keep(Closing(t.ip(20 + at), 5060))
        phone = t.keep(Load(t, "phones", "--to", f"tcp://{t.ip(20 + at)}:5060", "--count", "1",
                            "--behaviour", kind, "--for", "7s"))
        server.until(time.monotonic() + 8.5)
        phone.done(1)
        knocks[kind] = server.times
    equal(len(knocks["good"]), 1, "good: 30 to 60 s are not over")
    check(len(knocks["naive"]) >= 2, f"naive: {knocks}")
    gaps = [b - a for a, b in zip(knocks["naive"], knocks["naive"][1:])]
    check(min(gaps) > 1.8, f"naive: not sooner {gaps}")


def refuse(sock, plan, seen, stop):
    """Answers each REGISTER with what the plan says: (status, headers), the last again and again;
    one that repeats as its first. Notes when each new one came."""
    while not stop():
        try:
            data, source = sock.recvfrom(65536)
        except TimeoutError:
            continue
        text = data.decode()
        cseq = re.search(r"CSeq: (\d+)", text).group(1)
        if cseq not in [c for _, c in seen]:
            seen.append((time.monotonic(), cseq))
        number = [c for _, c in seen].index(cseq)
        status, extra = plan[min(number, len(plan) - 1)]
        keep = [line for line in text.split("\r\n")
                if re.match(r"(Via|From|To|Call-ID|CSeq):", line)]
        if status == 200:
            keep += [line for line in text.split("\r\n") if line.startswith("Contact:")]
        sock.sendto("\r\n".join([f"SIP/2.0 {status} x", *keep, *extra, "Content-Length: 0", "",
                                 ""]).encode(), source)


def planned(t, n, plan, *words, **kw):
    """Runs one phone against a server of that plan; (result, moments of its REGISTERs)."""
    sock = t.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.bind((t.ip(n), 5060))
    sock.settimeout(0.05)
    seen = []
    phone = t.keep(Load(t, "phones", "--to", f"udp://{t.ip(n)}:5060", "--count", "1", *words))
    refuse(sock, plan, seen, lambda: not phone.alive())
    return phone.done(**kw), [at for at, _ in seen]


@case("load: good phones honour Retry-After, naive ones do not look", timeout=60)
def _(t):
    plan = [(503, ["Retry-After: 4"]), (200, [])]
    got, at = planned(t, 20, plan, "--for", "20s")
    equal((got["refused"], got["up"], got["retries"]), (1, 1, 1), f"good {got}")
    check(3.9 < at[1] - at[0] < 9, f"good: 4 s and a tenth more at most {at}")
    got, at = planned(t, 21, plan, "--for", "20s", "--behaviour", "naive")
    equal((got["refused"], got["up"]), (1, 1), f"naive {got}")
    check(1.9 < at[1] - at[0], f"naive: 2 s {at}")


@case("load: a good phone follows 302 to another edge, over another transport", timeout=60)
def _(t):
    weir = registrar(t)
    moved = [(302, [f"Contact: <sip:{t.ip(1)}:5060;transport=tcp>"])]
    got, _ = planned(t, 20, moved, "--for", "20s")
    equal((got["moved"], got["up"], got["status"]), (1, 1, {"200": 1, "302": 1}), f"{got}")
    equal(weir.counters()["registrations"], 1, "registered there")
    got, _ = planned(t, 21, [(302, ["Contact: <sip:192.0.2.1:5060>"])], "--for", "2s", status=1)
    equal(got["moved"], 0, "not to an address that is not private")
    got, _ = planned(t, 22, moved, "--for", "1s", "--behaviour", "naive", status=1)
    equal(got["moved"], 0, "naive ones do not know 302")


@case("load: phones ask for more time when they must, refresh, and ping", timeout=60)
def _(t):
    got, _ = planned(t, 20, [(423, ["Min-Expires: 900"]), (200, [])], "--expires", "60s", "--for",
                     "20s")
    equal((got["up"], got["status"]), (1, {"200": 1, "423": 1}), f"{got}")
    weir = registrar(t)
    got = load(t, "phones", "--to", to(t, "tcp"), "--count", "5", "--hold", "--for", "15s",
               "--refresh", "12s", "--ping", "300ms")
    equal(got["up"], 5, "up to the end")
    check(got["ok"] >= 10, f"refreshed {got}")
    check(got["pings"] >= 10, f"pinged {got}")
    equal((got["timeouts"], got["retries"]), (0, 0), "pongs came: none missed in 10 s")
    check(weir.counters()["pings"] >= 10, "the edge answered")


@case("load: control-C ends a run with what came so far, and a bad bar is status 1", timeout=60)
def _(t):
    registrar(t)
    held = t.keep(Load(t, "phones", "--to", to(t, "tcp"), "--count", "5", "--hold"))
    until(lambda: "5/5 registered" in held.output(), "registered", 10)
    held.signal(signal.SIGINT)
    got = held.done()
    equal((got["interrupted"], got["up"]), (True, 5), f"{got}")
    got = load(t, "phones", "--to", f"tcp://{t.ip(9)}:5060", "--count", "5", "--for", "500ms",
               status=1)
    equal((got["up"], got["met"]), (0, False), "nobody listens there")
    load(t, "phones", "--to", f"tcp://{t.ip(9)}:5060", "--count", "5", "--for", "500ms",
         "--expect-ok", "0")


# ---- calls -----------------------------------------------------------------------------------

@case("load: 20 calls through weir, answered by the same process, over UDP and TCP", timeout=90)
def _(t):
    weir = t.edge([f"udp://{t.ip(10)}:5060"])
    report = os.path.join(t.folder, "report.html")
    for tp in ("udp", "tcp"):
        got = load(t, "calls", "--to", to(t, tp), "--count", "20", "--rate", "50/s", "--hold",
                   "100ms", "--answer", f"udp://{t.ip(10)}:5060", "--sources", t.ip(100),
                   "--report", report)
        equal((got["offered"], got["ok"], got["in_dialog"], got["in_dialog_ok"], got["unread"]),
              (20, 20, 20, 20, 0), f"{tp}: {got}")
        equal(got["up"], 0, "all calls ended")
        check(got["latency_us"]["count"] == 20, f"{got['latency_us']}")
    equal(got["added_us"]["count"], 20, f"the delay between both ends {got['added_us']}")
    rows = weir.logged(lambda r: r["method"] == "BYE", 40)
    equal({r["status"] for r in rows}, {200}, "BYEs")
    with open(report, encoding="utf-8") as f:
        page = f.read()
    equal(page.count("<svg "), 3, "curves")
    check("http" not in page, "nothing from elsewhere")


@case("load: an answering target over TCP, and two to share the calls", timeout=60)
def _(t):
    t.edge([f"tcp://{t.ip(10)}:5060", f"udp://{t.ip(11)}:5060"])
    got = load(t, "calls", "--to", to(t, "udp"), "--count", "20", "--rate", "50/s", "--hold",
               "50ms", "--answer", f"tcp://{t.ip(10)}:5060", "--answer", f"udp://{t.ip(11)}:5060")
    equal((got["ok"], got["in_dialog_ok"]), (20, 20), f"{got}")


@case("load: calls that are refused, and calls that nobody answers", timeout=60)
def _(t):
    server = t.server(invite=((0, 486),))
    t.edge([server])
    words = ("calls", "--to", f"tcp://{t.ip(9)}:5060", "--count", "5", "--rate", "50/s")
    got = load(t, *words, status=1)
    equal((got["offered"], got["failed"], got["ok"]), (5, 5, 0), f"no connection {got}")
    words = ("calls", "--to", to(t, "udp"), "--count", "5", "--rate", "50/s")
    got = load(t, *words, status=1)
    equal((got["failed"], got["ok"], got["status"]), (5, 0, {"486": 5}), f"{got}")
    got = load(t, "calls", "--to", f"udp://{t.ip(9)}:5060", "--count", "3", "--rate", "50/s",
               status=1, timeout=60)
    equal((got["failed"], got["timeouts"]), (3, 3), f"64·T1 pass {got}")
    check(got["retries"] >= 15, f"timer A {got}")


@case("load: calls to phones of weir load that answer", timeout=60)
def _(t):
    weir = registrar(t)
    phones = t.keep(Load(t, "phones", "--to", to(t, "tcp"), "--count", "3", "--hold", "--answer"))
    until(lambda: weir.counters()["registrations"] == 3, "registered", 10)
    got = load(t, "calls", "--to", to(t, "udp"), "--uri", f"sip:phone1@{DOMAIN}", "--count", "5",
               "--rate", "20/s", "--hold", "100ms")
    equal((got["ok"], got["in_dialog_ok"]), (5, 5), f"{got}")
    final = t.call(uri=f"sip:phone2@{DOMAIN}").invite().final()
    equal(final.status, 200, "another's call")
    check(b"m=audio" in final.body, f"an answer to its offer {final.body}")
    phones.signal(signal.SIGTERM)
    check(phones.done()["requests_in"] >= 15, "INVITE, ACK and BYE came to a phone")


@case("load: 30 calls through Kamailio", shows=have_kamailio, timeout=90)
def _(t):
    t.kamailio(t.ip(20), 5060, (t.ip(10), 5060))
    got = load(t, "calls", "--to", f"udp://{t.ip(20)}:5060", "--count", "30", "--rate", "30/s",
               "--hold", "300ms", "--answer", f"udp://{t.ip(10)}:5060")
    equal((got["ok"], got["in_dialog_ok"]), (30, 30), f"{got}")


@case("load: 50 phones at Kamailio's registrar, over UDP and TCP, and a storm of them",
      shows=case_kamailio_flows.has("usrloc", "registrar"), timeout=90)
def _(t):
    t.keep(case_kamailio_flows.Kamailio(t, t.ip(20), ["REGISTRAR"]))
    for tp in ("udp", "tcp"):
        got = load(t, "phones", "--to", f"{tp}://{t.ip(20)}:5060", "--count", "50", "--at-once",
                   "--behaviour", "naive", "--storm-at", "1s", "--for", "30s", "--user", tp)
        equal((got["up"], got["ok"]), (50, 100), f"{tp}: {got}")


# ---- floods, and what is said ------------------------------------------------------------------

@case("load: a flood of each kind, and weir lives", timeout=60)
def _(t):
    weir = t.edge([t.server()])
    for kind in ("garbage", "ack", "register", "invite"):
        got = load(t, "flood", "--to", to(t, "udp"), "--kind", kind, "--for", "300ms", "--rate",
                   "2000/s", "--source", t.ip(66))
        check(got["sent"] >= 100, f"{kind}: {got}")
    got = load(t, "flood", "--to", to(t, "tcp"), "--kind", "connect", "--for", "300ms", "--rate",
               "2000/s", "--source", t.ip(66))
    check(got["sent"] >= 100, f"connect: {got}")
    t.call().whole()
    check(weir.alive(), "weir lives")


RUBBISH = [b"\r\n" * 100, b"GET / HTTP/1.1\r\n\r\n", b"\0" * 5000, b"SIP/2.0 200 OK\r\n\r\n",
           b"SIP/2.0 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"A" * 200000,
           b"\x16\x03\x03\x40\x00" + b"\x02" * 0x4000, b"\x16\x03\x03\0\4\2\0\0\0",
           b"\x17\x03\x03\xff\xff" + b"x" * 70000, b"\x15\x03\x03\0\2\2\x28",
           b"HTTP/1.1 101 x\r\n\r\n\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
           b"HTTP/1.1 101 x\r\n\r\n\x89\x05hello\x88\x02\x03\xe8", b""]


def babble(listener, stop):
    """Says one piece of rubbish to each who comes, and hangs up."""
    for n in itertools.count():
        if stop():
            return
        try:
            conn, _ = listener.accept()
        except TimeoutError:
            continue
        with conn:
            try:
                conn.settimeout(1)
                conn.recv(4096)
                conn.sendall(RUBBISH[n % len(RUBBISH)])
            except OSError:
                pass


@case("load: servers that talk rubbish end no run early", timeout=60)
def _(t):
    for at, (tp, more) in enumerate((("tcp", []), ("tls", ["--insecure"]), ("ws", []),
                                     ("wss", ["--insecure"]))):
        listener = t.keep(socket.create_server((t.ip(20 + at), PORTS[tp]), backlog=50))
        listener.settimeout(0.1)
        phones = t.keep(Load(t, "phones", "--to", to(t, tp, 20 + at), "--count", "40", "--for",
                             "3s", "--at-once", *more))
        babble(listener, lambda phones=phones: not phones.alive())
        got = phones.done(1)
        equal(got["up"], 0, f"{tp}: {got}")
        check(got["failed"] >= 20, f"{tp}: {got}")


@case("load: a source that this machine has not is told", timeout=30)
def _(t):
    phones = t.keep(Load(t, "phones", "--to", f"tcp://{t.ip(9)}:5060", "--count", "3", "--for",
                         "500ms", "--sources", "10.255.255.0/29"))
    got = phones.done(1)
    equal((got["local"], got["failed"], got["up"]), (3, 3, 0), f"{got}")
    equal(phones.output().count("Cannot assign requested address"), 1, phones.output())


@case("load: wrong words are status 64 and say what is right")
def _(t):
    for words, said in ((("call",), "calls, phones or flood"),
                        (("phones", "--to", "tls://8.8.8.8:5061"), "--i-own-this-network"),
                        (("calls", "--to", "udp://127.0.0.1", "--ratee", "5"),
                         "did you mean --rate?")):
        done = subprocess.run([procs.binary(t.build), "load", *words], capture_output=True,
                              text=True, timeout=10, check=False)
        equal((done.returncode, done.stdout), (64, ""), f"{words}")
        check(said in done.stderr, f"{words}: {done.stderr}")
