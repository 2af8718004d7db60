# SPDX-License-Identifier: Apache-2.0
"""SIP over WebSocket and TLS as a phone speaks it, and as somebody speaks who should not; STUN.

covers: wire/ws.c, wire/ws_upgrade.c, wire/stun.c, net/stream_ws.c
"""
import os
import socket
import struct

from kit import ends, tls, ws
from kit.case import case
from kit.ends import check, equal, until

PORTS = {"tcp": 5060, "tls": 5061, "ws": 8080, "wss": 8443}
FIXED = b"GET / HTTP/1.1\r\nHost: edge\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


def edge(t, targets, origins=()):
    """The usual edge, with every transport outside."""
    authority = tls.Authority(t.folder)
    cert, key = authority.sign("edge.example.com", ["edge.example.com", t.ip(1)])
    config = t.config(targets)
    config["listeners"] += [
        {"bind": f"tls://{t.ip(1)}:{PORTS['tls']}", "side": "outside", "cert": cert, "key": key},
        {"bind": f"ws://{t.ip(1)}:{PORTS['ws']}", "side": "outside"},
        {"bind": f"wss://{t.ip(1)}:{PORTS['wss']}", "side": "outside", "cert": cert, "key": key}]
    for listener in config["listeners"]:
        if origins and listener["bind"].startswith("ws"):
            listener["origins"] = list(origins)
    return t.weir(config), tls.client_context(authority.path)


def dial(t, end, transport, context=None, **kw):
    if transport in ("tls", "wss"):
        kw.update(context=context, name="edge.example.com")
    return ws.any_connect(end, (t.ip(1), PORTS[transport]), transport, **kw)


def phone(t, n=100):
    return t.end(n, 0, udp=False, tcp=True)


def options(conn, **kw):
    return ends.Call(conn.end, conn).request("OPTIONS", **kw)


def answer_to(conn, branch):
    return conn.end.wait(lambda m: m.branch == branch and m.status is not None, 10, "an answer")


def works(conn):
    equal(ends.Call(conn.end, conn).ask("OPTIONS", timeout=10).status, 200, "OPTIONS")


def raw(t, port, data):
    """What the edge says to these bytes until it closes."""
    sock = tls.open_socket(t.end(120, 0, udp=False, tcp=True), (t.ip(1), port))
    said = b""
    try:
        sock.sendall(data)
        while got := sock.recv(65536):
            said += got
    except ConnectionError:
        pass
    finally:
        sock.close()
    return said


@case("calls over tcp, tls, ws and wss, each kept on its connection")
def _(t):
    server = t.server()
    _, context = edge(t, [server])
    for n, transport in enumerate(PORTS):
        end = phone(t, 100 + n)
        conn = dial(t, end, transport, context)
        call = ends.Call(end, conn)
        equal(call.invite().final().status, 200, f"INVITE over {transport}")
        invite = [m for m in server.invites() if m.call_id == call.call_id][0]
        check(f"SIP/2.0/{transport.upper()} " in invite.all("via")[1],
              f"the phone's Via: {invite.all('via')}")
        equal(call.bye().status, 200, f"BYE over {transport}")
        equal(len(end.conns), 1, "connections of the phone")


@case("bodies of 60,000 bytes over tls, ws and wss, in small pieces too", timeout=60)
def _(t):
    server = t.server(tcp=True)
    _, context = edge(t, [server.target("tcp")])
    for transport in ("tls", "ws", "wss"):
        conn = dial(t, phone(t), transport, context)
        for size, chop in ((60000, None), (60000, 1009), (700, 1)):
            conn.layer.chop = chop
            body = bytes((i * 7 + size) % 251 for i in range(size))
            data, branch = options(conn, body=body)
            conn.send(data)
            equal(answer_to(conn, branch).status, 200, f"{size} bytes in pieces of {chop}")
            equal(server.seen("OPTIONS")[-1].body, body, f"what came over {transport}")


@case("ws: fragments make one message, with pings between them")
def _(t):
    server = t.server()
    edge(t, [server])
    conn = dial(t, phone(t), "ws")
    for size in (8, 100, 1000):
        data, branch = options(conn, body=b"x" * 900)
        conn.send_parts(data, size)
        equal(answer_to(conn, branch).status, 200, f"fragments of {size}")
    data, branch = options(conn)
    conn.send_raw(ws.frame(data[:50], ws.TEXT, False) + ws.frame(b"one", ws.PING)
                  + ws.frame(b"", ws.CONTINUATION, False) + ws.frame(b"two", ws.PONG)
                  + ws.frame(data[50:], ws.CONTINUATION))
    equal(answer_to(conn, branch).status, 200, "with a ping inside")
    until(lambda: conn.ws_pongs == [b"one"], f"the pong, not {conn.ws_pongs}", 10)


@case("ws: two messages in one segment, text and binary, are two")
def _(t):
    server = t.server()
    edge(t, [server])
    conn = dial(t, phone(t), "ws")
    one, two = options(conn), options(conn)
    conn.send_raw(ws.frame(one[0]) + ws.frame(two[0], ws.BINARY))
    for _, branch in (one, two):
        equal(answer_to(conn, branch).status, 200, "answered")


@case("ws: frames may come with the handshake in one segment")
def _(t):
    edge(t, [t.server()])
    said = raw(t, PORTS["ws"], FIXED + KEY + b"Sec-WebSocket-Version: 13\r\n"
               b"Sec-WebSocket-Protocol: sip\r\n\r\n" + ws.frame(b"hello", ws.PING)
               + ws.frame(b"\x03\xe8", ws.CLOSE))
    check(said.startswith(b"HTTP/1.1 101 "), f"the handshake: {said[:80]}")
    check(said.endswith(b"\r\n\r\n\x8a\x05hello\x88\x02\x03\xe8"), f"pong and close: {said[-40:]}")


@case("ws: keep-alives and close are answered")
def _(t):
    edge(t, [t.server()])
    conn = dial(t, phone(t), "ws")
    for payload in (b"", b"x", b"y" * 125):
        conn.ping(payload)
    until(lambda: conn.ws_pongs == [b"", b"x", b"y" * 125], "three pongs", 10)
    works(conn)
    conn.say_close(1001)
    until(lambda: conn.close_code == 1001, "the close said back", 10)
    check(conn.closed.wait(10), "then the connection ends")


@case("ws: broken frames end with the code of RFC 6455, and nobody else", timeout=60)
def _(t):
    edge(t, [t.server()])
    good = dial(t, phone(t), "ws")
    mask = b"\0\0\0\0"
    for name, data, code in (
            ("no mask", ws.frame(b"abc", masked=False), 1002),
            ("RSV1", ws.frame(b"abc", rsv=4), 1002),
            ("opcode 3", ws.frame(b"abc", 3), 1002),
            ("a ping of 126 bytes", ws.frame(b"a" * 126, ws.PING), 1002),
            ("a ping in fragments", ws.frame(b"a", ws.PING, False), 1002),
            ("a continuation of nothing", ws.frame(b"a", ws.CONTINUATION), 1002),
            ("a text in a text", ws.frame(b"a", ws.TEXT, False) + ws.frame(b"b"), 1002),
            ("a length that could be shorter", b"\x81\xfe\0\5" + mask + b"abcde", 1002),
            ("a close of one byte", ws.frame(b"a", ws.CLOSE), 1002),
            ("too long", b"\x81\xff" + struct.pack(">Q", 1 << 20), 1009),
            ("2^63 - 1", b"\x81\xff\x7f" + b"\xff" * 7, 1009),
            ("too long in fragments", b"".join(ws.frame(b"x" * 30000, ws.CONTINUATION if n else 1,
                                                        False) for n in range(4)), 1009),
            ("too many fragments", b"".join(ws.frame(b"x", ws.CONTINUATION if n else 1, False)
                                            for n in range(300)), 1008)):
        conn = dial(t, phone(t), "ws")
        try:
            conn.send_raw(data)
        except OSError:
            pass  # it may close before all is sent
        until(lambda c=conn: c.close_code or c.closed.is_set(), f"{name}: an end", 10)
        equal(conn.close_code, code, name)
        check(conn.closed.wait(10), f"{name}: the connection ends")
        conn.close()
    works(good)


@case("ws: what is no handshake is refused as HTTP says, at once")
def _(t):
    edge(t, [t.server()])
    for name, data, status in (
            ("SIP", b"REGISTER sip:example.com SIP/2.0\r\n", 400),
            ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
            ("POST", b"POST / HTTP/1.1\r\n", 405),
            ("HTTP/1.0", b"GET / HTTP/1.0\r\n", 505),
            ("a browser that looks", b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n", 426),
            ("version 8", FIXED + KEY + b"Sec-WebSocket-Version: 8\r\n\r\n", 426),
            ("no sip", FIXED + KEY + b"Sec-WebSocket-Version: 13\r\n\r\n", 400),
            ("a head that never ends", FIXED + b"Cookie: " + b"c" * 9000, 431)):
        said = raw(t, PORTS["ws"], data)
        check(said.startswith(f"HTTP/1.1 {status} ".encode()), f"{name}: {said[:60]}")
        check(b"\r\nConnection: close\r\n" in said, f"{name}: {said}")
    conn = dial(t, phone(t), "ws", protocols=("msrp", "sip"))
    works(conn)


@case("ws and wss: only pages of the list may open one")
def _(t):
    _, context = edge(t, [t.server()], ["https://phone.example.com"])
    for transport in ("ws", "wss"):
        works(dial(t, phone(t), transport, context, origin="https://phone.example.com"))
        for origin in ("https://evil.example.com", "http://phone.example.com", "null", None):
            try:
                dial(t, phone(t), transport, context, origin=origin)
            except ws.Refused as no:
                equal(no.status, 403, f"{origin} over {transport}")
            else:
                raise ends.Failed(f"{origin} was let in over {transport}")


@case("each port only speaks its own protocol", timeout=60)
def _(t):
    edge(t, [t.server()])
    http = b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n"
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(501)
    request = b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TLS x;branch=z9hG4bK1\r\n\r\n"
    for name, port, data in (("HTTP on tcp", 5060, http), ("TLS on tcp", 5060, hello),
                             ("HTTP on tls", 5061, http), ("SIP on tls", 5061, request),
                             ("HTTP on wss", 8443, http), ("SIP on wss", 8443, request)):
        said = raw(t, port, data)
        check(b"200 OK" not in said and not said.startswith(b"HTTP/1.1 101"), f"{name}: {said}")


@case("udp: a phone that asks by STUN is told its address, and SIP goes on")
def _(t):
    edge(t, [t.server()])
    end = t.end()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((t.ip(130), 0))
        sock.settimeout(10)
        head = struct.pack(">HHI", 1, 0, 0x2112A442) + b"twelve bytes"
        sock.sendto(head[:8], t.outside)  # no STUN, no SIP: nothing is said
        sock.sendto(b"\0\x11" + head[2:], t.outside)  # an indication: nothing either
        sock.sendto(head, t.outside)
        said, source = sock.recvfrom(2048)
        equal(source, t.outside, "where the answer comes from")
        equal(said[:4] + said[8:28], b"\1\1\0\x0c" + b"twelve bytes" + b"\0\x20\0\x08\0\1"
              + struct.pack(">H", sock.getsockname()[1] ^ 0x2112), "the answer")
        ip = int.from_bytes(socket.inet_aton(t.ip(130)), "big") ^ 0x2112A442
        equal(said[28:], ip.to_bytes(4, "big"), "the address")
    equal(ends.Call(end, t.outside).ask("OPTIONS").status, 200, "OPTIONS")
