# SPDX-License-Identifier: Apache-2.0
"""A drain: phones leave at an even pace and go where they are sent, calls stay, and it is told how
far it is.

covers: cli/drain.c, cli/people.c, edge/drain.c
"""
import os
import pty
import re
import select
import signal
import subprocess
import time

import case_guard
import case_load
from kit import ends, phone, procs, tls
from kit.case import case
from kit.ends import check, equal, until

DOMAIN = "example.com"
PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061}


def registrar(t, n, secure, workers=1, **more):
    """An edge at ip(n) that is its own registrar."""
    state = os.path.join(t.folder, f"state{n}")
    os.makedirs(state)
    return t.weir({
        "node": {"name": f"edge-{n}", "workers": workers},
        "listeners": [{"bind": f"{tp}://{t.ip(n)}:{port}", "side": "outside",
                       **(secure if tp == "tls" else {})} for tp, port in PORTS.items()],
        "routes": [{"from": "outside", "to": "registrar"}],
        "roles": {"registrar": {"domains": [DOMAIN], "auth": "none", "state": state}}, **more})


class Waits(procs.Proc):
    """`weir drain … --wait` in the background."""

    def __init__(self, t, weir, *words):
        super().__init__(t.folder, "drain", [procs.binary(t.build), "drain", *words, "--wait", "-s",
                                             weir.control])


def progress(weir):
    """Sums of `weir show drain`, and how many milliseconds are left."""
    rows = weir.show("drain")
    total = {k: sum(r[k] for r in rows) for k in rows[0] if k not in ("draining", "worker")}
    return {**total, "draining": all(r["draining"] for r in rows),
            "left_ms": max(r["left_ms"] for r in rows)}


def phones_and_calls(t, edge, count, tp="tcp"):
    """Registered phones, each in a call: (phone, call)."""
    out = []
    for at in range(count):
        ua = t.keep(phone.Phone(t.ip(50 + at), f"ua{at}", DOMAIN, tp))
        ua.join((edge[0], PORTS[tp])).register()
        call = ends.Call(t.end(70 + at), edge, uri=ua.aor)
        equal(call.invite().final().status, 200, f"a call to {ua.name}")
        out.append((ua, call))
    return out


for transport, many in (("tcp", 2), ("tls", 1)):
    @case(f"drain: 50 phones over {transport} ({many} workers) go to the other edge, one by one; "
          "3 calls stay",
          timeout=90)
    def _(t, tp=transport, workers=many):
        cert, key = tls.Authority(t.folder).sign("edge.example.com", [t.ip(1), t.ip(3)])
        to = f"<sip:{t.ip(3)}:{PORTS[tp]};transport={tp}>"
        here = registrar(t, 1, {"cert": cert, "key": key}, workers,
                         drain={"move_to": to, "agents": ["Follower"]})
        there = registrar(t, 3, {"cert": cert, "key": key})
        calls = phones_and_calls(t, t.outside, 3, tp)  # the first whose turn would come
        insecure = ["--insecure"] if tp == "tls" else []
        crowd = t.keep(case_load.Load(
            t, "phones", "--to", f"{tp}://{t.ip(1)}:{PORTS[tp]}", "--count", "50", "--at-once",
            "--hold", "--user-agent", "Follower/1", "--spread", "100ms", "--base", "200ms",
            *insecure))
        until(lambda: here.counters()["registrations"] == 53, "registered", 20)
        equal(progress(here)["calls"], 3, "calls")
        drain = t.keep(Waits(t, here, "--within", "5s"))
        until(lambda: progress(here)["draining"], "it drains", 10)
        samples = []
        for ua, call in calls:
            for _ in range(3):
                time.sleep(0.3)
                samples.append(progress(here))
            check(not ua.hop.closed.is_set(), f"the connection of {ua.name}, in a call")
            equal(call.bye().status, 200, f"BYE to {ua.name}")
        equal(drain.wait(30), 0, f"exit status: {drain.output()}")
        for s in samples:
            equal(s["flows_at_start"], 53, "phones at the start")
            even = 53 * s["left_ms"] / 5000
            check(abs(s["flows"] - even) <= 15, f"{s['flows']} left of 53, wanted {even:.0f}: {s}")
        end = progress(here)
        equal((end["flows"], end["transactions"], end["draining"]), (0, 0, True), "empty")
        lines = drain.output().splitlines()
        check(any(re.match(r"draining .* \d+ %  \d+ of 53 phones left, \d calls?.*, ends in 0:0\d",
                           x) for x in lines), f"progress: {lines}")
        check(lines[-1].startswith("drained: "), f"the end: {lines}")
        until(lambda: there.counters()["registrations"] >= 50, "they are there", 20)
        crowd.signal(signal.SIGINT)
        got = crowd.done()
        equal((got["up"], got["moved"], got["status"]), (50, 50, {"200": 100, "302": 50}),
              f"no registration failed: {got}")
        equal(here.counters()["phones_moved"], 50, "phones_moved")


@case("drain: undrain in the middle; who is left stays, calls and probes are taken again",
      timeout=60)
def _(t):
    weir = t.edge([t.server()])
    end = t.end()
    held = [end.connect(t.outside) for _ in range(30)]
    until(lambda: progress(weir)["flows"] == 30, "connected", 10)
    equal(weir.command("show", "drain")[1].splitlines()[0], "not draining: 30 phones, 0 calls",
          "before")
    drain = t.keep(Waits(t, weir, "--within", "20s"))
    until(lambda: progress(weir)["flows"] < 28, "some are gone", 20)
    probe = ends.Call(end, t.outside, uri=f"sip:{t.ip(1)}:5060")
    equal(probe.ask("OPTIONS").status, 503, "a probe while it drains")
    equal(t.call(end).invite().final().status, 503, "a call while it drains")
    equal(weir.command("undrain"), (0, "", ""), "undrain")
    equal(drain.wait(10), 1, "what waited")
    check(drain.output().endswith("the drain was called off\n"), drain.output())
    left = progress(weir)["flows"]
    check(left > 5, f"it was called off in time: {left}")
    time.sleep(1.5)
    equal(progress(weir)["flows"], left, "who is left")
    equal(sum(not c.closed.is_set() for c in held), left, "as they see it")
    equal(probe.ask("OPTIONS").status, 200, "a probe after it")
    check(not any(r["draining"] for r in weir.show("workers")), "what the workers say")
    t.call(end).whole()
    said = weir.output()
    check("not draining any more" in said, said)


@case("drain: who does not follow is refused and told when to come back; who leaves may",
      timeout=60)
def _(t):
    weir = registrar(t, 1, tls_pair(t), workers=2, drain={
        "phones_within": "1h", "learn": False, "move_to": f"<sip:{t.ip(3)}:5060>",
        "agents": ["Follower"]})
    end = t.end()
    for _ in range(20):
        end.connect(t.outside)  # the first goes at once, the others in minutes
    uas = [t.keep(phone.Phone(t.ip(50 + n), f"ua{n}", DOMAIN, "tcp")).join(t.outside).register()
           for n in range(6)]
    equal(weir.command("drain")[0], 0, "drain")
    check(3500e3 < progress(weir)["left_ms"] <= 3600e3, "the time of the file")
    new = t.keep(phone.Phone(t.ip(60), "new", DOMAIN, "tcp")).join(t.outside)
    answer = new.ask(extra=[("User-Agent", "Stubborn/1")])
    check(answer.status == 503 and int(answer.get("retry-after")) > 0, f"{answer.raw}")
    answer = new.ask(extra=[("User-Agent", "Follower/7")])
    equal((answer.status, answer.contact_uri()), (302, f"sip:{t.ip(3)}:5060"), "who follows")
    for ua in uas:
        equal(ua.ask().status, 200, f"{ua.name} is registered: until its turn")
    left = uas[0].ask(params=";expires=0", extra=[("User-Agent", "Stubborn/1")])
    equal(left.status, 200, "leaves")


def tls_pair(t):
    cert, key = tls.Authority(t.folder).sign("edge.example.com", [t.ip(1)])
    return {"cert": cert, "key": key}


def on_terminal(command, env, timeout=20):
    """What a command writes to a terminal of 100 columns."""
    out, end = b"", time.monotonic() + timeout
    pid, fd = pty.fork()
    if pid == 0:
        os.execvpe("sh", ["sh", "-c", 'stty cols 100; exec "$@"', "sh", *command],
                   {**os.environ, **env})
    while time.monotonic() < end:
        if not select.select([fd], [], [], 0.2)[0]:
            continue
        try:
            got = os.read(fd, 65536)
        except OSError:
            break
        if not got:
            break
        out += got
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return out.decode()


@case("drain: on a terminal one line is written anew, with a bar of the locale's characters",
      timeout=60)
def _(t):
    weir = t.edge([t.server()])
    end = t.end()
    held = [end.connect(t.outside) for _ in range(10)]
    command = [procs.binary(t.build), "drain", "--within", "2s", "--wait", "-s", weir.control]
    out = on_terminal(command, {"TERM": "xterm", "LC_ALL": "C.UTF-8"})
    check("\r" in out and "\x1b[K" in out and out.count("\n") <= 1, repr(out))
    check("▓" in out and "░" in out and " of 10 phones left" in out, repr(out))
    check(all(c.closed.wait(5) for c in held), "they are closed")
    equal(weir.command("undrain")[0], 0, "undrain")
    held = [end.connect(t.outside) for _ in range(10)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False,
                          env={**os.environ, "LC_ALL": "C"})
    equal((done.returncode, done.stdout), (0, ""), "without a terminal")
    check("#" in done.stderr and "\r" not in done.stderr and "\x1b" not in done.stderr, done.stderr)


@case("drain: what stops after TERM takes no new calls any more, whatever is said")
def _(t):
    weir = t.edge([t.server(invite=((0, 180),))], drain={"within": "20s"})
    call = t.call().invite()
    call.provisional(180)
    weir.signal(signal.SIGTERM)
    until(lambda: progress(weir)["draining"], "it drains", 10)
    status, _, err = weir.command("undrain")
    check(status == 1 and "stopping" in err, f"undrain: {status} {err}")
    check(progress(weir)["draining"], "it still does")
    call.cancel()
    equal(call.final().status, 487, "the open call")
    equal(weir.wait(20), 0, "it stops")


@case("drain: what is shown of hours, of nothing, of one")
def _(t):
    row = {"worker": 0, "draining": True, "flows_at_start": 15000, "flows": 5712, "calls": 12,
           "transactions": 0, "moved": 9288, "left_ms": 228000}
    control = t.keep(case_guard.Control(t.folder, []))

    def line(*rows):
        control.rows = [{**row, **r} for r in rows]
        return control.show(t, "drain").stdout.splitlines()[0]
    equal(line({}).split(" ", 2)[::2],
          ["draining", "61 %  5,712 of 15,000 phones left, 12 calls, ends in 3:48"], "one worker")
    check(line({}, {"left_ms": 7265000, "worker": 1}).endswith(
        " 61 %  11,424 of 30,000 phones left, 24 calls, ends in 2:01:05"), "two workers")
    check(line({"flows": 1, "flows_at_start": 1, "calls": 1, "transactions": 1, "left_ms": 0})
          .endswith(" 0 %  1 of 1 phone left, 1 call, 1 request open"), "one of each")
    equal(line({"flows": 0, "calls": 0}), "drained: no phone is connected, no request is open",
          "empty")
    check(line({"flows": 20, "flows_at_start": 10, "calls": 0}).endswith(
        " 0 %  20 of 20 phones left, ends in 3:48"), "more came than were there")
    equal(line({"draining": False}, {}), "not draining: 11,424 phones, 24 calls", "not all of them")


@case("drain: who waits is told when the process ends")
def _(t):
    weir = t.edge([t.server()])
    end = t.end()
    held = [end.connect(t.outside) for _ in range(5)]
    drain = t.keep(Waits(t, weir, "--within", "1h"))
    until(lambda: " phones left" in drain.output(), "it waits", 10)
    equal(weir.stop(), 0, "stopped")
    equal(drain.wait(10), 69, f"what waited: {drain.output()}")
    check(all(c.closed.wait(5) for c in held), "the connections")


@case("drain: usage")
def _(t):
    weir = t.edge([t.server()])
    for words in (("drain", "now"), ("drain", "--within", "5"), ("drain", "--within", "0s"),
                  ("drain", "--for", "5s"), ("undrain", "--wait"), ("undrain", "now"),
                  ("reload", "--within", "5s")):
        status, out, err = weir.command(*words)
        check(status == 64 and out == "" and "try: weir" in err, f"weir {words}: {status} {err}")
    check(not progress(weir)["draining"], "nothing was begun")
