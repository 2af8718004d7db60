# SPDX-License-Identifier: Apache-2.0
"""SIP over WebSocket (RFC 7118) as a client: connections of an End over ws and wss, which may also
send frames that no client should."""
import base64
import hashlib
import os
import struct

from . import ends, sip, tls

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_of(key):
    return base64.b64encode(hashlib.sha1(key + GUID).digest())


def frame(payload, opcode=TEXT, last=True, rsv=0, mask=None, masked=True):
    """The bytes of one frame. Anything may be wrong about it."""
    head = bytes([(0x80 if last else 0) | rsv << 4 | opcode])
    bit, n = (0x80 if masked else 0), len(payload)
    if n < 126:
        head += bytes([bit | n])
    elif n < 65536:
        head += struct.pack(">BH", bit | 126, n)
    else:
        head += struct.pack(">BQ", bit | 127, n)
    if not masked:
        return head + payload
    mask = mask or os.urandom(4)
    stream = int.from_bytes((mask * (n // 4 + 1))[:n], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ stream).to_bytes(n, "big")


def request(host, key, path="/", origin=None, protocols=("sip",), version="13", extra=()):
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade",
             f"Sec-WebSocket-Key: {key.decode()}", f"Sec-WebSocket-Version: {version}"]
    if protocols:
        lines.append(f"Sec-WebSocket-Protocol: {', '.join(protocols)}")
    if origin:
        lines.append(f"Origin: {origin}")
    return "\r\n".join([*lines, *extra, "", ""]).encode()


class Refused(ends.Failed):
    """The server's answer was not 101. `status` is its number, 0 when it just closed."""

    def __init__(self, answer):
        words = answer.split(b" ", 2)
        self.answer = answer
        self.status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
        super().__init__(f"no WebSocket: {answer[:200]!r}")


def upgrade(layer, host, **kw):
    """The opening handshake over a layer. Returns (head of the answer, bytes behind it)."""
    key = base64.b64encode(os.urandom(16))
    layer.send(request(host, key, **kw))
    data = b""
    while b"\r\n\r\n" not in data:
        got = layer.recv()
        if not got:
            raise Refused(data)
        data += got
    head, _, rest = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        raise Refused(data)
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    ends.equal(fields.get(b"sec-websocket-accept"), accept_of(key).lower(), "Sec-WebSocket-Accept")
    ends.equal(fields.get(b"sec-websocket-protocol"), b"sip", "Sec-WebSocket-Protocol")
    ends.check(b"sec-websocket-extensions" not in fields, "no extension is agreed to")
    return head, rest


class Conn(tls.Conn):
    """One WebSocket. Each message goes in one frame; pings are answered unless `mute`."""

    def __init__(self, end, sock, layer, transport, rest=b""):
        self.transport = transport
        self.parts = b""
        self.pings, self.ws_pongs, self.mute = [], [], False
        self.close_code = None  # what the server closed with; 1005 without a code
        super().__init__(end, sock, layer, rest)

    def send(self, data):
        self.layer.send(frame(data))

    def send_parts(self, data, size):
        """A message in fragments of `size` bytes."""
        for at in range(0, len(data), size):
            last = at + size >= len(data)
            self.layer.send(frame(data[at:at + size], CONTINUATION if at else TEXT, last))

    def send_raw(self, data):
        self.layer.send(data)

    def ping(self, payload=b""):
        self.layer.send(frame(payload, PING))

    def say_close(self, code=1000):
        self.layer.send(frame(struct.pack(">H", code), CLOSE))

    def cut(self, data):
        while len(data) >= 2:
            n, at = data[1] & 127, 2
            ends.check(not data[1] & 0x80, "a server does not mask")
            if n >= 126:
                wide = 2 if n == 126 else 8
                if len(data) < 2 + wide:
                    break
                n, at = int.from_bytes(data[2:2 + wide], "big"), 2 + wide
            if len(data) < at + n:
                break
            self.on_frame(data[0], data[at:at + n])
            data = data[at + n:]
        return data

    def on_frame(self, first, payload):
        opcode = first & 15
        if opcode == PING:
            self.pings.append(payload)
            if not self.mute:
                self.layer.send(frame(payload, PONG))
        elif opcode == PONG:
            self.ws_pongs.append(payload)
        elif opcode == CLOSE:
            self.close_code = int.from_bytes(payload[:2], "big") if payload else 1005
            if not self.mute:
                self.layer.send(frame(payload[:2], CLOSE))
        else:
            self.parts += payload
            if first & 0x80:
                whole, self.parts = self.parts, b""
                self.on_message(whole)
        with self.end.changed:
            self.end.changed.notify_all()

    def on_message(self, whole):
        if whole.strip(b"\r\n"):
            self.end.take(sip.Msg(whole, self.remote, self))
        else:
            self.pongs += 1


def connect(end, dest, transport="ws", context=None, name=None, local_port=0, **kw):
    """A WebSocket from an End, both handshakes done; Refused when the second fails. Further words
    go to request(): origin, protocols, path, version, extra."""
    sock = tls.open_socket(end, dest, local_port)
    try:
        if transport == "wss":
            layer = tls.Tls(sock, context or tls.client_context(), name)
        else:
            layer = tls.Plain(sock)
        host = kw.pop("host", name or f"{sip.uri_host(dest[0])}:{dest[1]}")
        _, rest = upgrade(layer, host, **kw)
    except (OSError, ends.Failed):
        sock.close()
        raise
    sock.settimeout(None)
    conn = Conn(end, sock, layer, transport, rest)
    end.conns.append(conn)
    return conn


def any_connect(end, dest, transport, **kw):
    """A connection over tcp, tls, ws or wss."""
    if transport == "tcp":
        return end.connect(dest, **kw)
    if transport == "tls":
        return tls.connect(end, dest, **kw)
    return connect(end, dest, transport, **kw)
