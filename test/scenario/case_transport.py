# SPDX-License-Identifier: Apache-2.0
"""Datagrams and streams: sizes, cuts, connections, answers that find their way.

covers: net/udp.c, net/stream.c, net/stream_write.c, net/os.c
"""
import time

from kit import ends, sip
from kit.case import case
from kit.ends import check, equal, until


def options(t, conn, call_id=None, uri="sip:bob@example.com", **kw):
    """The bytes of an OPTIONS on a connection, and its branch."""
    return ends.Call(conn.end, conn, uri=uri, call_id=call_id).request("OPTIONS", **kw)


@case("a request too large for UDP goes to the target by TCP, a small one does not")
def _(t):
    server = t.server(tcp=True)
    weir = t.edge([server])
    small = t.call(t.end(100))
    small.whole()
    check(server.invites()[0].conn is None, "the small one came by UDP")
    large = t.call(t.end(101), body=b"x" * 1500)
    large.whole()
    got = [m for m in server.invites() if m.call_id == large.call_id][0]
    check(got.conn is not None, "the large one came by TCP")
    check(got.get("via").startswith("SIP/2.0/TCP"), f"Via says so: {got.get('via')}")
    equal(len(got.body), 1500, "body")
    equal(weir.counters()["udp_to_tcp"], 1, "counted")


@case("a request too large for UDP stays on UDP when the target has no TCP")
def _(t):
    server = t.server()
    t.edge([server])
    call = t.call(body=b"y" * 4000)
    call.whole()  # TCP is refused: RFC 3261 18.1.1 falls back
    check(server.invites()[0].conn is None, "it came by UDP")
    t2 = t.server(12)
    config = t.config([{"uri": t2.target(), "tcp": False}])
    for listener, n in zip(config["listeners"], (3, 3, 4, 4)):
        listener["bind"] = f"{listener['bind'][:6]}{t.ip(n)}:5060"
    t.weir(config)
    call = ends.Call(t.end(101), (t.ip(3), 5060), body=b"y" * 4000)
    call.whole()
    check(t2.invites()[0].conn is None, "it came by UDP")


@case("large bodies over UDP and TCP arrive whole (up to 60 KiB)")
def _(t):
    server = t.server(tcp=True)
    t.edge([server.target("tcp")])
    for size in (1, 1299, 1301, 8000, 30000, 60000):
        body = bytes((i * 7 + size) % 251 for i in range(size))
        call = t.call(t.end(100, 0), body=body)
        call.invite().final()
        equal(server.invites()[-1].body, body, f"{size} bytes by udp in, tcp out")
    end = t.end(101, tcp=True)
    for size in (1, 8000, 65536):
        body = bytes((i * 11 + size) % 253 for i in range(size))
        call = t.call(end, tcp=True, body=body)
        call.invite().final()
        equal(server.invites()[-1].body, body, f"{size} bytes by tcp")


@case("a body of 64 KiB in segments of one to nine bytes: no quadratic cost", timeout=60,
      heavy=True, build="release")
def _(t):
    server = t.server(tcp=True)
    weir = t.edge([server.target("tcp")])
    end = t.end(tcp=True)
    call = t.call(end, tcp=True, body=b"v" * 65536)
    data, branch = call.request("INVITE", body=call.body)
    call.last_invite = (data, branch, call.cseq, [])
    before = cpu_s(weir.pid)
    at = 0
    while at < len(data):
        step = 1 + at % 9
        call.to.send(data[at:at + step])
        at += step
    equal(call.final(timeout=20).status, 200, "INVITE")
    equal(server.invites()[0].body, call.body, "body")
    used = cpu_s(weir.pid) - before
    check(used < 1.0, f"CPU time of one INVITE in {len(data) // 5} segments: {used:.2f} s")


def cpu_s(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        cells = f.read().rpartition(")")[2].split()
    return (int(cells[11]) + int(cells[12])) / 100


@case("a stream cut at every byte frames the same", timeout=60)
def _(t):
    server = t.server(tcp=True)
    t.edge([server.target("tcp")])
    end = t.end(tcp=True)
    conn = end.connect(t.outside)
    first, b1 = options(t, conn)
    second, b2 = options(t, conn, body=b"0123456789")
    both = first + b"\r\n\r\n" + second
    for cut in range(1, len(both)):
        one, two = options(t, conn), options(t, conn, body=b"0123456789")
        data = one[0] + b"\r\n\r\n" + two[0]
        conn.send(data[:cut])
        if cut % 8 == 0:
            time.sleep(0.001)
        conn.send(data[cut:])
        for branch in (one[1], two[1]):
            got = end.wait(lambda m, b=branch: m.status and m.status >= 200 and m.branch == b, 5,
                           f"answers with a cut at {cut}")
            equal(got.status, 200, f"OPTIONS with a cut at {cut}")
    equal((b1 is None, b2 is None), (False, False), "branches")
    until(lambda: conn.pongs > 0, "double CRLF is answered")


@case("one byte a segment, and many messages in one segment")
def _(t):
    server = t.server(tcp=True)
    t.edge([server.target("tcp")])
    end = t.end(tcp=True)
    conn = end.connect(t.outside)
    data, branch = options(t, conn)
    for i in range(len(data)):
        conn.send(data[i:i + 1])
    end.wait(lambda m: m.status == 200 and m.branch == branch, 5, "answer")
    many = [options(t, conn) for _ in range(60)]
    conn.send(b"".join(d for d, _ in many))
    for _, branch in many:
        end.wait(lambda m, b=branch: m.status == 200 and m.branch == b, 5, "answers to all")


FAULTS = (
    ("two Content-Lengths that differ", b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd"),
    ("a negative Content-Length", b"Content-Length: -1\r\n\r\n"),
    ("a Content-Length of letters", b"Content-Length: many\r\n\r\n"),
    ("a Content-Length that overflows", b"Content-Length: 18446744073709551620\r\n\r\n"),
    ("a Content-Length above the limit", b"Content-Length: 99999999\r\n\r\n"),
)

for what, tail in FAULTS:
    @case(f"framing fault: {what}: an answer, then the connection is closed")
    def _(t, tail=tail):
        server = t.server(tcp=True)
        weir = t.edge([server.target("tcp")])
        end = t.end(tcp=True)
        conn = end.connect(t.outside)
        data, _ = options(t, conn)
        head = data[:data.index(b"Content-Length")]
        follower, _ = options(t, conn)
        conn.send(head + tail + follower)
        check(conn.closed.wait(3), "the connection is closed")
        got = [m.status for m in end.log]
        check(got in ([400], [413], [513]), f"one answer that says why: {got}")
        equal(server.log, [], "nothing of it, nor what came after, goes further")
        check(weir.counters()["frames_bad"] >= 1, "counted")
        conn = end.connect(t.outside)
        data, branch = options(t, conn)
        conn.send(data)
        end.wait(lambda m: m.branch == branch and m.status == 200, what="a new connection works")


@case("garbage on a stream closes it, in one piece and by drops")
def _(t):
    server = t.server(tcp=True)
    t.edge([server.target("tcp")])
    end = t.end(tcp=True)
    for data in (b"\0" * 100 + b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                 b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
                 b"A" * 40000, b"INVITE sip:x SIP/2.0\r\n" + b"X: y\r\n" * 9000):
        conn = end.connect(t.outside)
        try:
            for at in range(0, len(data), 4096):
                conn.send(data[at:at + 4096])
        except OSError:
            pass
        check(conn.closed.wait(5), f"closed after {data[:20]!r}")
    equal(server.log, [], "nothing goes further")


@case("a datagram may be shorter than its Content-Length says: 400; longer: the rest is ignored")
def _(t):
    server = t.server()
    t.edge([server])
    call = t.call(uri="sip:bob@example.com")
    data, branch = call.request("MESSAGE", body=b"0123456789", extra=[("Content-Length", "50")])
    call.send(data)
    got = call.end.wait(lambda m: m.branch == branch and m.status, what="an answer")
    equal(got.status, 400, "too short")
    data, branch = call.request("MESSAGE", body=b"0123456789", extra=[("Content-Length", "4")])
    call.send(data)
    got = call.end.wait(lambda m: m.branch == branch and m.status >= 200, what="an answer")
    equal((got.status, server.seen("MESSAGE")[0].body), (200, b"0123"), "the rest is no part of it")


@case("answers go where the request came from: rport, and received for a wrong Via host")
def _(t):
    server = t.server(other=200)
    t.edge([server])
    end = t.end()
    for sent_by in ("192.0.2.9:9", "phone.invalid", "192.0.2.9", f"{t.ip(5)}:5060"):
        for rport in (";rport", ""):
            branch = sip.fresh("z9hG4bK")
            data, _ = ends.Call(end, t.outside).request("MESSAGE", branch=branch)
            data = data.replace(f"Via: SIP/2.0/UDP {end.hostport};rport;branch=".encode(),
                                f"Via: SIP/2.0/UDP {sent_by}{rport};branch=".encode())
            end.send(data, t.outside)
            got = end.wait(lambda m, b=branch: m.branch == b and m.status == 200, 3,
                           f"answer to Via {sent_by}{rport}")
            equal(got.param("via", "received"), end.ip, "received")
            equal(got.get("via").split(" ")[1].split(";")[0], sent_by, "sent-by is untouched")


@case("a source port that differs from Via's: the answer goes to the source port")
def _(t):
    server = t.server()
    t.edge([server])
    end = t.end(100, 0)
    other = t.end(100, 5062)
    branch = sip.fresh("z9hG4bK")
    data, _ = ends.Call(other, t.outside).request("MESSAGE", branch=branch)
    end.send(data, t.outside)  # Via says 5062, it comes from elsewhere
    end.wait(lambda m: m.branch == branch and m.status == 200, 3, "the answer")
    equal(other.log, [], "nothing at the port of the Via")


@case("answers use the connection that the request came over")
def _(t):
    server = t.server(tcp=True)
    t.edge([server])
    end = t.end(tcp=True)
    conns = [end.connect(t.outside) for _ in range(5)]
    for conn in conns:
        data, branch = options(t, conn)
        conn.send(data)
        got = end.wait(lambda m, b=branch: m.branch == b and m.status == 200, what="answer")
        check(got.conn is conn, "the same connection")


@case("connections to targets are reused, and opened anew after the target closed them")
def _(t):
    server = t.server(tcp=True)
    weir = t.edge([server.target("tcp")])
    end = t.end()
    for _ in range(30):
        t.call(end).whole()
    used = {m.conn for m in server.log if m.conn}
    check(len(used) <= 4, f"{len(used)} connections for 30 calls")
    for conn in used:
        conn.close()
    time.sleep(0.3)
    for _ in range(5):
        t.call(end).whole()
    check(weir.counters()["connects"] > len(used), "opened anew")


@case("a target that comes back: reconnected within the back-off", timeout=40)
def _(t):
    weir = t.edge([f"tcp://{t.ip(10)}:5060"], {"outlier": {"eject_after": "off"}})
    end = t.end()
    for _ in range(6):
        equal(t.call(end).invite().final().status, 500, "nobody there")
    server = t.server(10, tcp=True)

    def works():
        call = t.call(end).invite()
        got = call.final()
        return got.status == 200
    until(works, "calls go through again", 12, 0.3)
    check(len(server.conns) >= 1 and weir.alive(), "connected")


@case("keep-alives: CRLF CRLF on a stream is answered, CRLF datagrams do no harm")
def _(t):
    server = t.server()
    t.edge([server])
    end = t.end(tcp=True)
    conn = end.connect(t.outside)
    conn.send(b"\r\n\r\n")
    until(lambda: conn.pongs == 1, "a pong")
    conn.send(b"\r\n\r\n\r\n\r\n")
    until(lambda: conn.pongs == 3, "two more")
    for data in (b"\r\n\r\n", b"\r\n", b"\0\0\0\0", b"\0"):
        end.send(data, t.outside)
    t.call(t.end(101)).whole()
    data, branch = options(t, conn)
    conn.send(b"\r\n\r\n" + data)
    end.wait(lambda m: m.branch == branch and m.status == 200, what="answer after a ping")


@case("the client's connection goes while its INVITE is open: the target gets a CANCEL or an end")
def _(t):
    server = t.server(invite=((0, 180),), tcp=True)
    weir = t.edge([server.target("tcp")])
    call = t.call(t.end(tcp=True), tcp=True).invite()
    call.provisional(180)
    call.to.reset()
    server.wait(lambda m: m.method == "CANCEL", 3, "CANCEL to the target")
    row = weir.logged(lambda r: r["method"] == "INVITE")[0]
    equal(row["end"][0], "C", f"the client ended it: {row}")


@case("ten connections that send nothing, or half a message, harm nobody")
def _(t):
    server = t.server(tcp=True)
    t.edge([server])
    end = t.end(tcp=True)
    for n in range(10):
        conn = end.connect(t.outside)
        if n % 2:
            conn.send(b"INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/TC")
    t.call(t.end(101, tcp=True), tcp=True).whole()


@case("a connection outlives its listener, and does not become another's")
def _(t):
    server = t.server(tcp=True)
    weir = t.weir(t.config([server]))
    conn = t.end(tcp=True).connect(t.outside)
    ends.Call(conn.end, conn).whole()
    config = t.config([server])
    config["listeners"] = [one for one in config["listeners"] if not one["bind"].startswith("tcp:")]
    weir.write(config)
    equal(weir.command("reload")[0], 0, "reload without the listener")
    ends.Call(conn.end, conn).whole()
    config["listeners"].append({"bind": f"tcp://{t.ip(3)}:5060", "side": "inside"})
    weir.write(config)
    equal(weir.command("reload")[0], 0, "reload with one of the other side in its place")
    ends.Call(conn.end, conn).whole()
    invites = weir.logged(lambda r: r["method"] == "INVITE", count=3)
    equal([r["side"] for r in invites], ["outside"] * 3, "the sides")
