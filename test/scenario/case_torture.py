# SPDX-License-Identifier: Apache-2.0
"""Torture messages against a running edge, over UDP and TCP, with a control after each: silence
means something only when the edge is known to answer."""
import csv
import glob
import os
import re
import time

from kit import ends, procs, sip
from kit.case import case
from kit.ends import check, equal

SHARED = os.path.join(procs.ROOT, "../shared/torture")
OWN = os.path.join(procs.ROOT, "test/corpus/sip")


def have(path):
    return lambda: os.path.isdir(path)


class Bench:
    """An edge whose target answers everything with 200, and a control. Torture messages share
    branches, and a repeated branch is a repeated request: then a new edge takes over."""

    def __init__(self, t, tcp):
        self.t, self.tcp = t, tcp
        self.server = t.server(tcp=True)
        self.server.answered = Forgetful()
        self.controls, self.branches, self.n = set(), set(), 0
        self.weir = t.edge([self.server])

    def fresh_for(self, raw):
        branch = sip.Msg(raw).branch
        if branch in self.branches:
            self.weir.close()
            self.weir = self.t.edge([self.server])
            self.branches = set()
        self.branches.add(branch)

    def drops(self):
        counters = self.weir.counters()
        return counters["requests_bad_dropped"] + counters["responses_bad"] + counters["frames_bad"]

    def one(self, raw, silence, closes=False, fresh=True):
        """(status of the answer or None, was it forwarded, was the connection closed). silence: no
        answer is one of the right answers, so only the control after it ends the wait; else the
        answer has all the time that a busy machine takes. closes: the connection's end is awaited
        in the same way."""
        self.n += 1
        if fresh:
            self.fresh_for(raw)
        end = self.t.end(100 + self.n % 100, 0, tcp=False)
        before = len(self.server.log)
        conn = end.connect(self.t.outside) if self.tcp else None
        end.send(raw, conn or self.t.outside)
        # The answer goes to the source of the request, whatever its Via says.
        deadline = time.monotonic() + (0.4 if silence else 10)
        while time.monotonic() < deadline and not any(m.status and m.status >= 200
                                                      for m in end.log):
            time.sleep(0.005)
        if conn and closes:
            conn.closed.wait(10)
        finals = [m.status for m in end.log if m.status and m.status >= 200]
        forwarded = [m for m in self.server.log[before:] if m.call_id not in self.controls]
        self.control()
        closed = conn.closed.is_set() if conn else None
        end.close()
        return (finals[0] if finals else None), forwarded, closed

    def control(self):
        end = self.t.end(99, 0, tcp=False)
        to = end.connect(self.t.outside) if self.tcp else self.t.outside
        call = ends.Call(end, to)
        self.controls.add(call.call_id)
        equal(call.ask("OPTIONS").status, 200, "control OPTIONS")
        equal(call.invite().final().status, 200, "control INVITE")
        end.close()
        check(self.weir.alive(), "weir lives")


class Forgetful(dict):
    """A server that keeps no answers: torture messages share branches."""

    def __contains__(self, key):
        return False


# What an edge that forwards to a server which answers 200 must do with each message of RFC 4475:
# the statuses that may come back (None: silence), and whether it may be forwarded. Where two are
# listed, the RFC leaves the choice.
FORWARD = {200}
EXPECT = {
    "wsinv": FORWARD, "intmeth": FORWARD, "esc01": FORWARD, "escnull": FORWARD, "esc02": FORWARD,
    "lwsdisp": FORWARD, "longreq": FORWARD, "dblreq": FORWARD, "semiuri": FORWARD,
    "transports": FORWARD, "mpart01": FORWARD, "unreason": {None}, "noreason": {None},
    "badinv01": {400}, "clerr": {400, None}, "ncl": {400}, "scalar02": {400}, "scalarlg": {None},
    "quotbal": {400, 200}, "ltgtruri": {400}, "lwsruri": {400}, "lwsstart": {400, 200},
    "trws": {400, 200}, "escruri": {400, 200}, "baddate": {400, 200}, "regbadct": {400, 200},
    "badaspec": {400, 200}, "baddn": {400, 200, None}, "badvers": {505}, "mismatch01": {400},
    "mismatch02": {400, 501}, "bigcode": {None}, "badbranch": {400, 200}, "insuf": {400},
    "unkscm": {416}, "novelsc": {416}, "unksm2": FORWARD, "bext01": {420}, "invut": FORWARD,
    "regaut01": FORWARD, "multi01": {400}, "mcl01": {400}, "bcast": {None},
    "zeromf": {483}, "cparam01": FORWARD, "cparam02": FORWARD, "regescrt": FORWARD,
    "sdp01": FORWARD, "inv2543": FORWARD,
}
# On a stream some are other messages: clerr and baddn are not whole, so it is waited for the rest;
# what follows dblreq is a second request, out of step, so the connection is closed whether or not
# the first one's answer has come; inv2543 has a body and no Content-Length, which a stream must
# have (RFC 3261 20.14): its body is garbage in the place of the next request.
STREAM = {"clerr": {None}, "baddn": {None}, "dblreq": {200, 400, None}, "inv2543": {200, 400, None}}
CLOSES = {"mcl01", "ncl"}
# Route headers from outside are not ours: refused before the rest of the message matters.
REFUSED_ROUTE = {403}


def judge(name, raw, want, got, forwarded, closed, tcp):
    status = got
    if re.search(rb"\r\nroute[ \t]*:", raw.split(b"\r\n\r\n")[0] + b"\r\n", re.I):
        want = want | REFUSED_ROUTE
    if tcp and name in CLOSES:
        check(closed, f"{name}: the connection is closed")
    if status not in want:
        return f"{name}: answered {status}, wanted {sorted(want, key=str)}"
    if status not in (200, 408, 500, None) and forwarded:
        return f"{name}: answered {status} and forwarded"
    if want == {None} and forwarded:
        return f"{name}: forwarded"
    return None


def judge_own(name, raw, expect, stream, got, forwarded, closed, dropped):
    """By our own manifest: what is expected of the message, and what differs on a stream."""
    response = raw.startswith(b"SIP/2.0")
    if stream == "waits":
        ok = got is None and not forwarded
    elif stream == "fatal":
        # Refused by the framing: an answer when one is safe, and no more from this connection.
        ok = closed and got != 200 and not forwarded
    elif expect == "accept":
        # Hops that are used up, a Route of somebody else: sound messages, refused by the edge.
        ok = got in (200, 403, 483) or (got is None and (response or stream == "bodiless"))
        if name == "datagram-with-more" and closed:
            ok = True  # on a stream the rest is a second message, out of step
    elif expect == "drop":
        ok = got is None and not forwarded
    else:
        # Without a Via that can be read no answer is safe: a counted drop.
        ok = not forwarded and (got == int(expect) or got is None and dropped > 0)
    return None if ok else (f"{name}: {expect}/{stream}, got {got}, closed {closed}, "
                            f"forwarded {forwarded}")


for transport in ("udp", "tcp"):
    @case(f"torture: RFC 4475 over {transport}", timeout=120, shows=have(SHARED))
    def _(t, tcp=transport == "tcp"):
        bench = Bench(t, tcp)
        wrong, count = [], 0
        with open(os.path.join(SHARED, "rfc4475/MANIFEST.tsv"), encoding="utf-8") as f:
            rows = list(csv.DictReader(f, delimiter="\t"))
        for row in rows:
            name = row["name"]
            with open(os.path.join(SHARED, f"rfc4475/{name}.dat"), "rb") as f:
                raw = f.read()
            want = EXPECT[name]
            if tcp and name in STREAM:
                want = STREAM[name]
            got, forwarded, closed = bench.one(raw, None in want, name in CLOSES)
            fault = judge(name, raw, want, got, forwarded, closed, tcp)
            wrong += [fault] if fault else []
            count += 1
        equal((count, wrong), (49, []), "messages that were not treated as they should")

    @case(f"torture: RFC 5118 over {transport}", timeout=60, shows=have(SHARED))
    def _(t, tcp=transport == "tcp"):
        bench = Bench(t, tcp)
        wrong, count = [], 0
        for path in sorted(glob.glob(os.path.join(SHARED, "rfc5118/wire/*"))):
            name = os.path.basename(path)
            with open(path, "rb") as f:
                raw = f.read()
            response = raw.startswith(b"SIP/2.0")
            want = {None} if response else {400} if name == "ipv6-bad" else {200}
            got, forwarded, _ = bench.one(raw, response)
            fault = judge(name, raw, want, got, forwarded, False, False)
            wrong += [fault] if fault else []
            count += 1
        equal((count, wrong), (12, []), "messages that were not treated as they should")

    @case(f"torture: our own messages over {transport}", timeout=120, shows=have(OWN))
    def _(t, tcp=transport == "tcp"):
        bench = Bench(t, tcp)
        wrong = []
        with open(os.path.join(OWN, "MANIFEST.tsv"), encoding="utf-8") as f:
            rows = [line.rstrip("\n").split("\t") for line in f if not line.startswith("#")]
        rows = [r for r in rows if len(r) > 2 and r[0] != "name"]
        check(len(rows) > 50, f"{len(rows)} messages")
        for name, expect, stream, *_ in rows:
            with open(os.path.join(OWN, f"{name}.sip"), "rb") as f:
                raw = f.read()
            bench.fresh_for(raw)
            dropped = bench.drops()
            how = stream if tcp else "same"
            answered = (how == "same" and expect == "accept" and not raw.startswith(b"SIP/2.0") and
                        not (tcp and name == "datagram-with-more"))
            got, forwarded, closed = bench.one(raw, not answered, how == "fatal", fresh=False)
            fault = judge_own(name, raw, expect, how, got, forwarded, closed,
                              bench.drops() - dropped)
            wrong += [fault] if fault else []
        equal(wrong, [], "messages that were not treated as they should")


@case("torture: a datagram of every length of a good INVITE")
def _(t):
    server = t.server()
    weir = t.edge([server])
    end = t.end()
    call = ends.Call(end, t.outside)
    data, _ = call.request("INVITE", body=sip.SDP)
    for n in range(len(data)):
        end.send(data[:n], t.outside)
        if n % 50 == 0:
            time.sleep(0.01)
    t.call(t.end(101)).whole()
    check(weir.alive(), "weir lives")


@case("torture: every byte of a good INVITE changed in turn", timeout=60)
def _(t):
    server = t.server()
    weir = t.edge([server])
    end = t.end()
    for value in (0, 0x0d, 0x20, 0x22, 0x2c, 0x3a, 0xff):
        data, _ = ends.Call(end, t.outside).request("INVITE", body=sip.SDP)
        for n in range(len(data)):
            end.send(data[:n] + bytes([value]) + data[n + 1:], t.outside)
            if n % 20 == 0:
                time.sleep(0.01)
    t.call(t.end(101)).whole()
    check(weir.alive(), "weir lives")
