# SPDX-License-Identifier: Apache-2.0
"""SIP endpoints: sockets with a reading thread, a server that follows a plan, a caller."""
import re
import socket
import threading
import time

from . import sip


class Failed(Exception):
    """What a case expected and did not get."""


def check(ok, what):
    if not ok:
        raise Failed(what)


def equal(got, want, what):
    if got != want:
        raise Failed(f"{what}: got {got!r}, wanted {want!r}")


def until(fn, what, timeout=5.0, pause=0.02):
    """Waits until fn() is true, and returns what it said."""
    end = time.monotonic() + timeout
    while True:
        got = fn()
        if got:
            return got
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {timeout} s")
        time.sleep(pause)


def family(ip):
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


class Conn:
    """One TCP connection: frames what it reads, and remembers how it ended."""
    transport = "tcp"

    def __init__(self, end, sock):
        self.end, self.sock = end, sock
        self.local, self.remote = sock.getsockname()[:2], sock.getpeername()[:2]
        self.closed = threading.Event()
        self.pongs = 0
        threading.Thread(target=self.read, daemon=True).start()

    def send(self, data):
        self.sock.sendall(data)

    def read(self):
        data = b""
        try:
            while True:
                got = self.sock.recv(65536)
                if not got:
                    break
                data = self.cut(data + got)
        except OSError:
            pass
        self.closed.set()
        with self.end.changed:
            self.end.changed.notify_all()

    def cut(self, data):
        while True:
            while data.startswith(b"\r\n"):
                self.pongs += 1
                data = data[2:]
            head, found, rest = data.partition(b"\r\n\r\n")
            if not found:
                return data
            m = re.search(rb"\r\n(?:content-length|l)[ \t]*:[ \t]*(\d+)", head, re.I)
            size = int(m.group(1)) if m else 0
            if len(rest) < size:
                return data
            self.end.take(sip.Msg(head + found + rest[:size], self.remote, self))
            data = rest[size:]

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()

    def reset(self):
        """Closes with RST. The reading thread holds the socket: it is woken first."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        try:
            self.sock.shutdown(socket.SHUT_RD)
        except OSError:
            pass
        self.sock.close()


class End:
    """A SIP endpoint at one address, over UDP and, if asked, TCP on the same port."""

    def __init__(self, ip, port=0, udp=True, tcp=False, transport=None):
        self.ip, self.port = ip, port
        self.transport = transport or ("udp" if udp else "tcp")
        self.changed = threading.Condition()
        self.inbox, self.log, self.conns = [], [], []
        self.udp = self.listener = None
        if udp:
            self.udp = socket.socket(family(ip), socket.SOCK_DGRAM)
            self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            self.udp.bind((ip, port))
            self.port = self.udp.getsockname()[1]
            threading.Thread(target=self.read_udp, daemon=True).start()
        if tcp:
            self.listener = socket.socket(family(ip), socket.SOCK_STREAM)
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind((ip, self.port))
            self.port = self.listener.getsockname()[1]
            self.listener.listen(64)
            threading.Thread(target=self.accept, daemon=True).start()

    @property
    def hostport(self):
        return f"{sip.uri_host(self.ip)}:{self.port}"

    def uri(self, user="ua", transport=None):
        transport = transport or self.transport
        word = "ws" if transport == "wss" else transport  # RFC 7118 5.2 has one for both
        tail = "" if transport == "udp" else f";transport={word}"
        return f"sip:{user}@{self.hostport}{tail}"

    def target(self, transport=None):
        return f"{transport or self.transport}://{self.hostport}"

    def read_udp(self):
        sock = self.udp
        while True:
            try:
                data, peer = sock.recvfrom(65536)
            except OSError:
                if self.udp is None:
                    return
                continue  # an ICMP error of what we sent
            if data.strip(b"\r\n\0"):
                self.take(sip.Msg(data, peer[:2]))

    def accept(self):
        listener = self.listener
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.conns.append(Conn(self, sock))

    def connect(self, dest, local_port=0):
        sock = socket.socket(family(self.ip), socket.SOCK_STREAM)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind((self.ip, local_port))
        sock.settimeout(5)
        sock.connect(dest)
        sock.settimeout(None)
        conn = Conn(self, sock)
        self.conns.append(conn)
        return conn

    def take(self, msg):
        msg.at = time.monotonic()
        with self.changed:
            self.log.append(msg)
            self.inbox.append(msg)
            self.changed.notify_all()

    def send(self, data, to):
        """`to`: an address (UDP) or a Conn."""
        if isinstance(to, Conn):
            to.send(data)
        else:
            self.udp.sendto(data, to)

    def answer(self, msg, data):
        """To where the message came from."""
        self.send(data, msg.conn or msg.peer)

    def wait(self, match, timeout=5.0, what=""):
        """The first unread message for which match(msg); it is read then."""
        end = time.monotonic() + timeout
        with self.changed:
            while True:
                for msg in self.inbox:
                    if match(msg):
                        self.inbox.remove(msg)
                        return msg
                left = end - time.monotonic()
                if left <= 0:
                    raise Failed(f"{what or 'a message'} did not come within {timeout} s; "
                                 f"there are {[m.start for m in self.log[-6:]]}")
                self.changed.wait(left)

    def none(self, match, seconds, what):
        """No message that matches comes in this time."""
        try:
            msg = self.wait(match, seconds)
        except Failed:
            return
        raise Failed(f"{what}: got {msg.start}")

    def seen(self, method=None, status=None):
        """Requests of a method, or answers of a status, without repetitions, in order."""
        out, known = [], set()
        with self.changed:
            for m in self.log:
                if m.status == status and (method is None or m.method == method):
                    key = (m.branch, m.method, m.status, m.call_id)
                    if key not in known:
                        known.add(key)
                        out.append(m)
        return out

    def close(self):
        udp, self.udp = self.udp, None
        for sock in (udp, self.listener):
            if sock is not None:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                sock.close()
        self.listener = None
        for conn in self.conns:
            conn.close()


class Server(End):
    """A scripted target. `invite` is a list of (seconds after the request, status[, headers]);
    an empty one is a black hole. Everything may be changed while it runs."""

    def __init__(self, ip, port=0, invite=((0, 180), (0, 200)), options=200, other=200, **kw):
        self.invite, self.options, self.other = invite, options, other
        self.hook = None             # hook(msg) -> True: dealt with
        self.answered = {}           # (branch, method): last answer, for repetitions
        self.open = {}               # branch of an INVITE without a final answer: the INVITE
        self.tag = sip.fresh("s")
        super().__init__(ip, port, **kw)

    def take(self, msg):
        super().take(msg)
        if msg.status is not None or (self.hook and self.hook(msg)):
            return
        key = (msg.branch, msg.method)
        if key in self.answered:
            if self.answered[key]:
                self.answer(msg, self.answered[key])
            return
        self.answered[key] = None
        if msg.method == "INVITE":
            self.play(msg, self.invite)
        elif msg.method == "CANCEL":
            self.on_cancel(msg)
        elif msg.method == "OPTIONS":
            self.say(msg, self.options)
        elif msg.method != "ACK":
            self.say(msg, self.other)

    def play(self, msg, plan):
        self.open[msg.branch] = msg
        for step in plan:
            delay_s, rest = step[0], step[1:]
            if delay_s:
                timer = threading.Timer(delay_s, self.step, (msg, *rest))
                timer.daemon = True
                timer.start()
            else:
                self.step(msg, *rest)

    def step(self, msg, status, extra=()):
        if self.udp is None and msg.conn is None:
            return  # closed meanwhile
        if msg.branch in self.open:
            if status >= 200:
                del self.open[msg.branch]
            self.say(msg, status, extra)

    def say(self, msg, status, extra=()):
        if not status:
            return
        transport = msg.conn.transport if msg.conn else "udp"
        contact = None
        if msg.method == "INVITE" and 100 < status < 300:
            contact = self.uri("srv", transport)
        data = sip.reply(msg, status, tag=self.tag, contact=contact, extra=extra)
        self.answered[(msg.branch, msg.method)] = data
        try:
            self.answer(msg, data)
        except OSError:
            pass

    def on_cancel(self, msg):
        self.say(msg, 200 if msg.branch in self.open else 481)
        if msg.branch in self.open:
            self.step(self.open[msg.branch], 487)

    def invites(self):
        return self.seen("INVITE")


class Call:
    """One call from a caller's side. `end` is its endpoint, `via` where the first request goes (an
    address, or a Conn)."""

    def __init__(self, end, to, uri="sip:bob@example.com", extra=(), body=sip.SDP, call_id=None,
                 from_tag=None, max_forwards=70):
        self.end, self.to, self.uri = end, to, uri
        self.extra, self.body, self.max_forwards = list(extra), body, max_forwards
        self.call_id = call_id or sip.fresh("call")
        self.from_tag = from_tag or sip.fresh("f")
        self.to_tag, self.cseq = None, 0
        self.routes, self.remote = [], uri
        self.last_invite = None

    def request(self, method, uri=None, extra=(), body=b"", branch=None, cseq=None, routes=None):
        """The bytes of a request of this dialog, and its branch."""
        if cseq is None:
            self.cseq += 1
            cseq = self.cseq
        branch = branch or sip.fresh("z9hG4bK")
        conn = self.to if isinstance(self.to, Conn) else None
        transport = conn.transport if conn else "udp"
        local = f"{sip.uri_host(conn.local[0])}:{conn.local[1]}" if conn else self.end.hostport
        headers = [("Via", f"SIP/2.0/{transport.upper()} {local};rport;branch={branch}"),
                   ("Max-Forwards", str(self.max_forwards)),
                   ("From", f"<sip:alice@example.com>;tag={self.from_tag}"),
                   ("To", "<sip:bob@example.com>" + (f";tag={self.to_tag}" if self.to_tag else "")),
                   ("Call-ID", self.call_id), ("CSeq", f"{cseq} {method}")]
        if self.max_forwards is None:
            del headers[1]
        if method in ("INVITE", "UPDATE", "SUBSCRIBE"):
            headers.append(("Contact", f"<{self.end.uri('alice', transport)}>"))
        headers += [("Route", r) for r in (self.routes if routes is None else routes)]
        headers += list(extra)
        if body:
            headers.append(("Content-Type", "application/sdp"))
        return sip.build(f"{method} {uri or self.remote} SIP/2.0", headers, body), branch

    def send(self, data):
        self.end.send(data, self.next_hop())

    def next_hop(self):
        """Where a request goes now: the connection or address that the call began with, for Weir
        put its own address in the first route."""
        return self.to

    def mine(self, status=None, method=None):
        def match(m):
            return (m.call_id == self.call_id and m.status is not None
                    and (status is None or m.status == status)
                    and (method is None or m.method == method))
        return match

    def invite(self, **kw):
        extra = kw.pop("extra", []) or self.extra
        data, branch = self.request("INVITE", body=kw.pop("body", self.body), extra=extra, **kw)
        self.last_invite = (data, branch, self.cseq, extra)
        self.send(data)
        return self

    def resend(self):
        self.send(self.last_invite[0])

    def provisional(self, status, timeout=5.0):
        return self.end.wait(self.mine(status), timeout, f"{status}")

    def final(self, timeout=10.0, method="INVITE", ack=True):
        """The final answer of the INVITE, acknowledged; a 2xx makes the dialog."""
        msg = self.end.wait(lambda m: self.mine()(m) and m.status >= 200 and m.method == method,
                            timeout, f"a final answer to {method}")
        if method == "INVITE" and ack:
            if msg.status < 300:
                self.establish(msg)
                self.ack()
            else:
                self.ack_failure(msg)
        return msg

    def establish(self, msg):
        self.to_tag = msg.tag("to")
        self.routes = list(reversed(msg.all("record-route")))
        self.remote = msg.contact_uri() or self.remote

    def ack(self):
        data, _ = self.request("ACK", cseq=self.last_invite[2])
        self.send(data)

    def ack_failure(self, msg):
        """RFC 3261 17.1.1.3: the INVITE's branch and Route, the answer's To."""
        _, branch, cseq, extra = self.last_invite
        tag, self.to_tag = self.to_tag, msg.tag("to")
        extra = [h for h in extra if h[0] == "Route"]
        data, _ = self.request("ACK", uri=self.uri if not self.routes else None, branch=branch,
                               cseq=cseq, extra=extra)
        self.to_tag = tag
        self.send(data)

    def cancel(self):
        """RFC 3261 9.1."""
        _, branch, cseq, extra = self.last_invite
        data, _ = self.request("CANCEL", uri=self.uri, branch=branch, cseq=cseq,
                               extra=[h for h in extra if h[0] == "Route"])
        self.send(data)

    def ask(self, method, timeout=5.0, **kw):
        """Sends a request and returns its final answer."""
        data, branch = self.request(method, **kw)
        self.send(data)
        return self.end.wait(lambda m: m.status is not None and m.status >= 200
                             and m.call_id == self.call_id and m.method == method
                             and m.branch == branch, timeout, f"an answer to {method}")

    def bye(self, timeout=5.0):
        return self.ask("BYE", timeout)

    def whole(self):
        """Invite, final 200, BYE, 200."""
        got = self.invite().final()
        equal(got.status, 200, "INVITE")
        equal(self.bye().status, 200, "BYE")
        return got
