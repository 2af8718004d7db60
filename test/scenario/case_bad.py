# SPDX-License-Identifier: Apache-2.0
"""Bad input: what is answered, and what is met with silence."""
import time

from kit import ends, sip
from kit.case import case
from kit.ends import check, equal


def message(t, end, start="OPTIONS sip:bob@example.com SIP/2.0", drop=(), change=None, extra=(),
            body=b"", conn=None):
    """A request with faults, and its branch."""
    branch = sip.fresh("z9hG4bK")
    method = start.split(" ")[0]
    local = end.hostport
    transport = "UDP"
    if conn is not None:
        local, transport = f"{sip.uri_host(conn.local[0])}:{conn.local[1]}", "TCP"
    headers = {"Via": f"SIP/2.0/{transport} {local};rport;branch={branch}", "Max-Forwards": "70",
               "From": "<sip:alice@example.com>;tag=a1", "To": "<sip:bob@example.com>",
               "Call-ID": sip.fresh("bad"), "CSeq": f"1 {method}"}
    headers.update(change or {})
    rows = [(k, v) for k, v in headers.items() if k not in drop]
    return sip.build(start, rows + list(extra), body), branch


# name, status, how
TABLE = (
    ("wrong version", 505, dict(start="OPTIONS sip:bob@example.com SIP/7.0")),
    ("unknown scheme", 416, dict(start="OPTIONS nobodyKnowsThisScheme:totallyopaque SIP/2.0")),
    ("http scheme", 416, dict(start="OPTIONS http://example.com/ SIP/2.0")),
    ("Proxy-Require", 420, dict(extra=[("Proxy-Require", "foo, bar")])),
    ("Max-Forwards 0", 483, dict(change={"Max-Forwards": "0"})),
    ("foreign Route", 403, dict(extra=[("Route", "<sip:192.0.2.1;lr>")])),
    ("no To", 400, dict(drop=("To",))),
    ("no From", 400, dict(drop=("From",))),
    ("no Call-ID", 400, dict(drop=("Call-ID",))),
    ("no CSeq", 400, dict(drop=("CSeq",))),
    ("CSeq of another method", 400, dict(change={"CSeq": "1 INVITE"})),
    ("CSeq of 2^32", 400, dict(change={"CSeq": "4294967296 OPTIONS"})),
    ("CSeq without number", 400, dict(change={"CSeq": "OPTIONS"})),
    ("Max-Forwards of letters", 400, dict(change={"Max-Forwards": "seventy"})),
    ("Max-Forwards negative", 400, dict(change={"Max-Forwards": "-1"})),
    ("two To", 400, dict(extra=[("To", "<sip:carol@example.com>")])),
    ("two Call-ID", 400, dict(extra=[("Call-ID", "other")])),
    ("two CSeq", 400, dict(extra=[("CSeq", "2 OPTIONS")])),
    ("Request-URI in angle brackets", 400, dict(start="OPTIONS <sip:bob@example.com> SIP/2.0")),
    ("Request-URI with a space", 400, dict(start="OPTIONS sip:bob@example.com; x=y SIP/2.0")),
    ("IPv6 without brackets", 400, dict(start="OPTIONS sip:2001:db8::10 SIP/2.0")),
    ("port 99999", 400, dict(start="OPTIONS sip:bob@example.com:99999 SIP/2.0")),
    ("a broken From", 400, dict(change={"From": "\"Alice <sip:alice@example.com>;tag=a1"})),
)

for name, status, how in TABLE:
    @case(f"bad input: {name}: {status}, by UDP and TCP")
    def _(t, status=status, how=how):
        server = t.server(tcp=True)
        t.edge([server])
        end = t.end(tcp=True)
        conn = end.connect(t.outside)
        for to in (t.outside, conn):
            data, branch = message(t, end, conn=to if to is conn else None, **how)
            end.send(data, to)
            got = end.wait(lambda m, b=branch: m.branch == b and m.status, 3, f"{status}")
            equal(got.status, status, "answer")
            check(got.reason, "it has a reason")
            check(got.tag("to") or "To" in how.get("drop", ()), f"a To tag: {got.raw}")
            if status == 420:
                equal(got.all("unsupported"), ["foo", "bar"], "Unsupported")
        equal(server.log, [], "nothing goes further")
        # The control: without the fault it passes, on the same connection where that is right.
        data, branch = message(t, end)
        end.send(data, t.outside)
        got = end.wait(lambda m: m.branch == branch and m.status, 3, "the control")
        equal(got.status, 200, "the control")


@case("bad input: the reason of a 400 names the fault")
def _(t):
    t.edge([t.server()])
    end = t.end()
    for how, word in ((dict(drop=("To",)), "To"), (dict(drop=("From",)), "From"),
                      (dict(drop=("Call-ID",)), "Call-ID"),
                      (dict(change={"CSeq": "1 INVITE"}), "CSeq"),
                      (dict(change={"Max-Forwards": "x"}), "Max-Forwards")):
        data, branch = message(t, end, **how)
        end.send(data, t.outside)
        got = end.wait(lambda m, b=branch: m.branch == b and m.status, 3, "400")
        equal(got.status, 400, "answer")
        check(word.lower() in got.reason.lower(), f"{word}: {got.reason}")


@case("bad input: too long by TCP: 513 and close; too many headers: an answer")
def _(t):
    server = t.server(tcp=True)
    t.edge([server])
    end = t.end(tcp=True)
    conn = end.connect(t.outside)
    data, _ = message(t, end, conn=conn, extra=[("X-Long", "x" * 30000), ("X-Longer", "y" * 9000)])
    conn.send(data)
    got = end.wait(lambda m: m.status, 3, "513")
    check(got.status in (400, 513), f"answer: {got.start}")
    check(conn.closed.wait(3), "the connection is closed")
    data, branch = message(t, end, extra=[(f"X-{n}", "v") for n in range(400)])
    end.send(data, t.outside)
    got = end.wait(lambda m: m.branch == branch and m.status, 3, "an answer")
    check(got.status in (400, 513), f"too many headers: {got.start}")
    data, branch = message(t, end, body=b"z" * 20000, extra=[("X-Long", "x" * 30000)])
    end.send(data, t.outside)
    got = end.wait(lambda m: m.branch == branch and m.status, 3, "within the limits")
    check(got.status in (200, 513), f"20 KB of body and 30 KB of header: {got.start}")


@case("bad input: an ACK, a response, a request without Via: silence, counted")
def _(t):
    server = t.server()
    weir = t.edge([server])
    end = t.end()
    for how in (dict(start="ACK sip:bob@example.com SIP/2.0", drop=("To",)),
                dict(start="SIP/2.0 200 OK", change={"CSeq": "1 INVITE"}),
                dict(start="SIP/2.0 99 Low", change={"CSeq": "1 INVITE"}),
                dict(start="SIP/2.0 4294967301 Big", change={"CSeq": "1 INVITE"}),
                dict(drop=("Via",))):
        data, _ = message(t, end, **how)
        end.send(data, t.outside)
    for data in (b"hello\r\n\r\n", b"\xff" * 200, b"INVITE", b"OPTIONS sip:x SIP/2.0\r\n\r\n"):
        end.send(data, t.outside)
    time.sleep(0.5)
    equal([m.start for m in end.log], [], "answers")
    data, branch = message(t, end)
    end.send(data, t.outside)
    end.wait(lambda m: m.branch == branch and m.status == 200, 3, "the control, after all that")
    equal([m.method for m in server.log], ["OPTIONS"], "only the control goes further")
    equal([r for r in weir.log() if r["method"] == "ACK"], [], "log lines of an ACK")


@case("nothing is sent to broadcast, multicast or the zero address")
def _(t):
    server = t.server()
    weir = t.edge([server])
    end = t.end()
    sent = weir.counters()["messages_out"]
    for host in ("255.255.255.255", "224.0.0.1", "0.0.0.0", "239.1.2.3"):
        # A response whose next Via says so is dropped (RFC 4475 3.3.10).
        data = sip.build("SIP/2.0 200 OK", [
            ("Via", f"SIP/2.0/UDP {t.ip(2)}:5060;branch=z9hG4bKnever"),
            ("Via", f"SIP/2.0/UDP {host};branch=z9hG4bKfar"),
            ("From", "<sip:a@example.com>;tag=1"), ("To", "<sip:b@example.com>;tag=2"),
            ("Call-ID", sip.fresh("b")), ("CSeq", "1 INVITE")])
        end.send(data, t.outside)
        # And a dialog's target from the inside that names one is refused.
        inside = ends.Call(server, (t.ip(2), 5060), uri=f"sip:x@{host}")
        got = inside.ask("MESSAGE")
        check(got.status >= 400, f"MESSAGE to {host}: {got.start}")
    check(weir.counters()["messages_out"] - sent <= 4, "only the answers were sent")


@case("stray responses and unmatched ACKs in thousands: no log line, no harm")
def _(t):
    server = t.server()
    weir = t.edge([server])
    end = t.end()
    for n in range(3000):
        start = "SIP/2.0 200 OK" if n % 2 else "ACK sip:bob@example.com SIP/2.0"
        data, _ = message(t, end, start=start,
                          change={"CSeq": "1 INVITE" if n % 2 else "1 ACK"})
        end.send(data, t.outside)
    time.sleep(0.3)
    t.call(t.end(101)).whole()
    counters = weir.counters()
    check(counters["responses_stray"] > 1000 and counters["acks_unmatched"] > 1000,
          f"counted: {counters}")
    equal(end.log, [], "nothing is answered")
    rows = weir.logged(lambda r: r["method"] in ("INVITE", "BYE"), 2)
    equal(len(weir.log()), len(rows), "no other log lines")


@case("a flood of new INVITEs that are never acknowledged does not stop others")
def _(t):
    server = t.server(invite=((0, 486),))
    t.edge([server])
    end = t.end()
    for _ in range(2000):
        data, _ = message(t, end, start="INVITE sip:bob@example.com SIP/2.0")
        end.send(data, t.outside)
    call = t.call(t.end(101)).invite()
    equal(call.final().status, 486, "another caller is served")


@case("transactions: a full table is answered with 503 and Retry-After, and empties again",
      timeout=60)
def _(t):
    server = t.server(invite=((0, 180),), tcp=True)  # by TCP nothing lingers towards it
    weir = t.edge([server.target("tcp")], limits={"transactions": 64},
                  timers={"t1": "20ms", "t4": "50ms"})
    end = t.end()
    calls = [t.call(end).invite() for _ in range(100)]
    got = end.wait(lambda m: m.status == 503, 3, "503")
    check(got.get("retry-after"), f"Retry-After: {got.raw}")
    check(weir.counters()["transactions_refused"] >= 30, "counted")
    for m in server.invites():
        server.step(m, 486)
    time.sleep(0.3)
    for call in calls:
        call.to_tag = None
    ends.until(lambda: weir.counters()["relays_now"] < 32, "the table empties", 20, 0.2)
    server.invite = ((0, 180), (0, 200))
    t.call(t.end(101)).whole()
