# SPDX-License-Identifier: Apache-2.0
"""The door: connections that the guard refuses, floods that the kernel drops for us, sources that a
PROXY header names, and calls that go on meanwhile."""
import ipaddress
import socket
import struct

from kit import ends, sip, tls
from kit.case import case
from kit.ends import check, equal, until

GARBAGE = b"\x01\x02 this is no SIP at all"


def counter(weir, name):
    return sum(row[name] for row in weir.show("workers"))


def closed(conn):
    return conn.closed.wait(5)


def refused(end, dest):
    try:
        return closed(end.connect(dest))
    except ConnectionError:
        return True


def proxy_header(source, dest, command=0x21):
    """A PROXY v2 header: (ip, port) of both ends, and a TLV that says nothing."""
    ips = [ipaddress.ip_address(ip) for ip, _ in (source, dest)]
    body = b"".join(ip.packed for ip in ips) + struct.pack("!HH", source[1], dest[1])
    body += b"\x04\x00\x03pad"
    kind = 0x11 if ips[0].version == 4 else 0x21
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([command, kind]) + struct.pack("!H", len(body)) + body


def flood(sock, dest, count):
    for _ in range(count):
        try:
            sock.sendto(GARBAGE, dest)
        except OSError:
            pass  # an ICMP error of an earlier one


# ---- datagrams -------------------------------------------------------------------------------

@case("door: who floods costs no reads: the kernel drops it, until its ban is over", timeout=60)
def _(t):
    server = t.server()
    weir = t.edge([server], guard={"per_source": {"malformed": 20}, "burst": "1s",
                                   "ban": {"first": "5s"}})
    attacker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    attacker.bind((t.ip(66), 0))
    with attacker:
        def dropped():
            flood(attacker, t.outside, 4000)
            return counter(weir, "filtered") > 0
        try:
            until(dropped, "the kernel has a list, and drops", 20)
        except ends.Failed:
            print(weir.show("guard"))
            raise
        before, filtered = counter(weir, "udp_in"), counter(weir, "filtered")
        flood(attacker, t.outside, 2000)
        t.call().whole()
        check(counter(weir, "udp_in") - before < 60, "none of 2000 was read")
        check(counter(weir, "filtered") - filtered > 1000, "they are counted")
        check(counter(weir, "udp_denied") > 0, "those before were dropped unread")
        equal(counter(weir, "udp_lost"), 0, "that is no loss")
    end = t.end(66)
    until(lambda: answered(end, t.outside), "the ban ends, and so does the list", 30)


def answered(end, to):
    data, branch = ends.Call(end, to).request("OPTIONS")
    end.send(data, to)
    try:
        return end.wait(lambda m: m.branch == branch and m.status, 0.5)
    except ends.Failed:
        return None


@case("door: in report-only mode nothing is dropped, and a call comes through", timeout=40)
def _(t):
    server = t.server()
    weir = t.edge([server], guard={"report_only": True, "per_source": {"malformed": 20},
                                   "burst": "1s"})
    end = t.end(66)
    flood(end.udp, t.outside, 1000)
    until(lambda: counter(weir, "udp_in") >= 1000, "all are read")
    equal((counter(weir, "udp_denied"), counter(weir, "filters")), (0, 0), "none is dropped")
    t.call(end).whole()


# ---- connections -----------------------------------------------------------------------------

@case("door: a source has so many connections, and who is denied has none")
def _(t):
    server = t.server()
    weir = t.edge([server], guard={"connections": {"per_source": 3}})
    end, other = t.end(100, tcp=True), t.end(101, tcp=True)
    held = [end.connect(t.outside) for _ in range(3)]
    check(refused(end, t.outside), "the fourth is refused")
    t.call(other, tcp=True).whole()
    ends.Call(end, held[0]).whole()
    held[1].close()
    until(lambda: counter(weir, "connections") <= 3, "it is gone")
    ends.Call(end, end.connect(t.outside)).whole()
    equal(counter(weir, "accepts_denied"), 1, "counted")
    inside = [t.end(102, 0).connect((t.ip(2), 5060)) for _ in range(6)]
    check(not any(conn.closed.is_set() for conn in inside), "inside there is no such limit")
    equal(weir.command("guard", "deny", t.ip(101))[0], 0, "deny")
    check(refused(other, t.outside), "denied")
    equal(weir.command("guard", "forget", t.ip(101))[0], 0, "forget")
    t.call(other, tcp=True).whole()


@case("door: in report-only mode all come in, and whom it would have hit is counted")
def _(t):
    weir = t.edge([t.server()], guard={"report_only": True, "connections": {"per_source": 3}})
    end = t.end(100, tcp=True)
    held = [end.connect(t.outside) for _ in range(6)]
    for conn in held:
        ends.Call(end, conn).whole()
    equal(counter(weir, "accepts_denied"), 0, "none is refused")


def comes_in(end, to):
    try:
        ends.Call(end, end.connect(to)).ask("OPTIONS", timeout=0.5)
        return True
    except (ends.Failed, OSError):
        return False


@case("door: a full table makes room by who said nothing", timeout=60)
def _(t):
    weir = t.edge([t.server()], limits={"flows": 16})
    talker = t.end(100, tcp=True)
    spoke = talker.connect(t.outside)
    ends.Call(talker, spoke).whole()
    silent = [t.end(101, 0).connect(t.outside) for _ in range(15)]
    until(lambda: counter(weir, "connections") == 16, "full")
    end = t.end(103, tcp=True)
    until(lambda: comes_in(end, t.outside), "the next comes in", 10)
    until(lambda: any(conn.closed.is_set() for conn in silent), "a silent one went for it")
    check(counter(weir, "evicted") >= 1, "counted")
    ends.Call(talker, spoke).whole()


@case("door: a full table makes room by who is idle, never by who has a call", timeout=60)
def _(t):
    weir = t.edge([t.server()], limits={"flows": 16}, keepalive={"every": "off"})
    talker, others, end = t.end(100, tcp=True), t.end(101, tcp=True), t.end(103, tcp=True)
    call = ends.Call(talker, talker.connect(t.outside))
    call.invite()
    call.final()
    idle = [others.connect(t.outside) for _ in range(15)]
    for conn in idle:
        ends.Call(others, conn).ask("OPTIONS")
    check(not comes_in(end, t.outside), "all were heard lately")
    until(lambda: comes_in(end, t.outside), "the next comes in", 30, 0.3)
    until(lambda: any(conn.closed.is_set() for conn in idle), "an idle one went for it")
    check(counter(weir, "evicted") >= 1, "counted")
    equal(call.bye().status, 200, "the call goes on")


@case("door: who is denied and goes on connecting gets no answer from the kernel", timeout=40)
def _(t):
    weir = t.edge([t.server()])
    end, other = t.end(66, 0), t.end(100, tcp=True)
    equal(weir.command("guard", "deny", t.ip(66))[0], 0, "deny")

    def silent():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.bind((end.ip, 0))
            sock.settimeout(0.5)
            try:
                sock.connect(t.outside)
            except TimeoutError:
                return True
            except ConnectionError:
                pass
            return False
    until(silent, "SYNs are dropped", 15, 0)
    before = counter(weir, "accepts_denied")
    check(silent(), "still")
    t.call(other, tcp=True).whole()
    equal(counter(weir, "accepts_denied"), before, "no accept was needed")
    equal(weir.command("guard", "forget", t.ip(66))[0], 0, "forget")
    until(lambda: not silent(), "the list is gone", 10)
    t.call(t.end(66, tcp=True), tcp=True).whole()


@case("door: a backlog that the system does not grant is told at start")
def _(t):
    config = t.config([t.server()])
    config["listeners"][1]["backlog"] = 1 << 20
    weir = t.weir(config)
    check("net.core.somaxconn" in weir.output(), weir.output())
    t.call(tcp=True, end=t.end(100, tcp=True)).whole()


# ---- whose connection it is ------------------------------------------------------------------

def proxied_edge(t, **more):
    """(edge, server): listeners behind a balancer, TCP at 5070 and TLS at 5071."""
    server = t.server()
    cert, key = tls.Authority(t.folder).sign("edge.example.com", [t.ip(1)])
    config = t.config([server], **more)
    config["listeners"] += [
        {"bind": f"tcp://{t.ip(1)}:5070", "side": "outside", "proxy": True},
        {"bind": f"tls://{t.ip(1)}:5071", "side": "outside", "proxy": True, "cert": cert,
         "key": key}]
    return t.weir(config), server


@case("door: a PROXY header names the source of a call over TCP and TLS")
def _(t):
    weir, server = proxied_edge(t)
    for port, source in ((5070, ("203.0.113.7", 40001)), (5071, ("2001:db8::7", 40002))):
        end = t.end(100 + port - 5070, tcp=True)
        dest = (t.ip(1), port)
        head = proxy_header(source, dest if "." in source[0] else ("2001:db8::1", port))
        if port == 5070:
            conn = end.connect(dest)
            conn.send(head[:20])
            conn.send(head[20:])
        else:
            sock = socket.create_connection(dest, 5, (end.ip, 0))
            sock.sendall(head)
            conn = tls.Conn(end, sock, tls.Tls(sock, tls.client_context(), "edge.example.com"))
        ends.Call(end, conn).whole()
        via = server.invites()[-1].all("via")[1]
        check(f"received={sip.uri_host(source[0])}".replace("[", "").replace("]", "") in
              via.replace("[", "").replace("]", ""), via)
        check(f"rport={source[1]}" in via, via)
    equal(counter(weir, "proxy_taken"), 2, "counted")


@case("door: what is no PROXY header is closed, in text, as TLS, or too slow")
def _(t):
    weir, _ = proxied_edge(t, tls={"within": "1s"})
    end = t.end(100, 0)
    for n, bytes_ in enumerate((b"PROXY TCP4 203.0.113.7 203.0.113.8 40001 5070\r\n",
                                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
                                b"OPTIONS sip:a@example.com SIP/2.0\r\n\r\n")):
        for port in (5070, 5071):
            conn = end.connect((t.ip(1), port))
            conn.send(bytes_)
            check(closed(conn), f"{port}: {bytes_[:8]}")
        until(lambda n=n: counter(weir, "proxy_bad") == 2 * n + 2, "counted")
    equal(counter(weir, "proxy_text"), 2, "of version 1")
    slow = [end.connect((t.ip(1), port)) for port in (5070, 5071)]
    slow[0].send(proxy_header(("203.0.113.7", 40001), ("203.0.113.8", 5070))[:20])
    check(all(closed(conn) for conn in slow), "slow ones")


@case("door: limits count whom a PROXY header names")
def _(t):
    weir, _ = proxied_edge(t, guard={"connections": {"per_source": 2}, "exempt": [t.ip(100)]})
    end, dest = t.end(100, tcp=True), (t.ip(1), 5070)

    def connect(ip):
        conn = end.connect(dest)
        conn.send(proxy_header((ip, 40001), dest))
        return conn
    held = [connect("203.0.113.7") for _ in range(2)]
    for conn in held:
        ends.Call(end, conn).whole()
    check(closed(connect("203.0.113.7")), "its third is refused")
    ends.Call(end, connect("203.0.113.8")).whole()
    equal(counter(weir, "accepts_denied"), 1, "counted")
