# SPDX-License-Identifier: Apache-2.0
"""SIP messages as a test sees them: text in, a list of headers out. Not a parser to trust: it reads
what Weir and these tests write."""
import itertools
import re
import secrets

COMPACT = {"v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact",
           "l": "content-length", "c": "content-type", "k": "supported",
           "e": "content-encoding", "s": "subject"}
LISTS = ("via", "route", "record-route", "contact", "supported", "unsupported", "warning")

_serial = itertools.count(1)


def fresh(prefix=""):
    """A word that was never used in this process, nor likely in another."""
    return f"{prefix}{next(_serial)}-{secrets.token_hex(6)}"


def split_list(value):
    """Comma-separated values; commas in quotes and angle brackets do not count."""
    out, depth, quoted, start = [], 0, False, 0
    for at, c in enumerate(value):
        if c == '"' and value[at - 1:at] != "\\":
            quoted = not quoted
        elif not quoted and c == "<":
            depth += 1
        elif not quoted and c == ">":
            depth -= 1
        elif c == "," and not quoted and not depth:
            out.append(value[start:at].strip())
            start = at + 1
    out.append(value[start:].strip())
    return [v for v in out if v]


class Msg:
    """One message. `peer` and `conn` say where it came from when an endpoint received it."""

    def __init__(self, raw, peer=None, conn=None):
        self.raw, self.peer, self.conn = raw, peer, conn
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = re.sub(r"\r\n[ \t]+", " ", head.decode("utf-8", "replace")).split("\r\n")
        self.start = lines[0]
        self.headers = []
        for line in lines[1:]:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            self.headers.append((COMPACT.get(name, name), value.strip()))
        words = (self.start.split(" ", 2) + ["", ""])[:3]
        answer = words[0] == "SIP/2.0" and words[1].isdigit()
        self.status = int(words[1]) if answer else None
        self.reason = words[2] if answer else ""
        self.method = words[0] if self.status is None else self.cseq[1]
        self.uri = words[1] if self.status is None else None

    def all(self, name):
        name = name.lower()
        values = [v for n, v in self.headers if n == name]
        if name in LISTS:
            return [one for v in values for one in split_list(v)]
        return values

    def get(self, name, default=None):
        values = self.all(name)
        return values[0] if values else default

    @property
    def cseq(self):
        words = (self.get("cseq") or "0 ?").split()
        return int(words[0]) if words[0].isdigit() else 0, words[-1]

    @property
    def call_id(self):
        return self.get("call-id")

    @property
    def branch(self):
        m = re.search(r";\s*branch=([^;,\s]+)", self.get("via") or "")
        return m.group(1) if m else None

    def param(self, header, name):
        m = re.search(rf";\s*{name}(?:=([^;,\s>]*))?(?=[;,\s>]|$)", self.get(header) or "")
        return None if not m else m.group(1) or ""

    def tag(self, header):
        after = (self.get(header) or "").rpartition(">")[2] or self.get(header) or ""
        m = re.search(r";\s*tag=([^;\s]+)", after)
        return m.group(1) if m else None

    def contact_uri(self):
        return uri_of(self.get("contact") or "")

    def __repr__(self):
        return f"<{self.start}>"


def uri_of(value):
    m = re.search(r"<([^>]*)>", value)
    return m.group(1) if m else value.split(";")[0].strip()


def host_port(uri, default=5060):
    """(ip, port) of a numeric URI."""
    rest = re.sub(r"^sips?:", "", uri_of(uri) if "<" in uri else uri)
    rest = rest.split("?")[0].rpartition("@")[2].split(";")[0]
    m = re.match(r"\[([^\]]+)\](?::(\d+))?$|([^:]+)(?::(\d+))?$", rest)
    host, port = m.group(1) or m.group(3), m.group(2) or m.group(4)
    return host, int(port or default)


def uri_host(ip):
    return f"[{ip}]" if ":" in ip else ip


def build(start, headers, body=b""):
    """Headers: a list of (name, value); Content-Length is added unless it is there."""
    if isinstance(body, str):
        body = body.encode()
    lines = [start] + [f"{n}: {v}" for n, v in headers]
    if not any(n.lower() in ("content-length", "l") for n, _ in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def reply(request, status, reason=None, tag=None, contact=None, extra=(), body=b""):
    """An answer with what RFC 3261 8.2.6.2 copies from the request."""
    headers = [("Via", v) for v in request.all("via")]
    if 100 < status < 300:
        headers += [("Record-Route", v) for v in request.all("record-route")]
    to = request.get("to")
    if status > 100 and tag and request.tag("to") is None:
        to = f"{to};tag={tag}"
    headers += [("From", request.get("from")), ("To", to), ("Call-ID", request.call_id),
                ("CSeq", request.get("cseq"))]
    if contact:
        headers.append(("Contact", f"<{contact}>"))
    headers += list(extra)
    if body:
        headers.append(("Content-Type", "application/sdp"))
    return build(f"SIP/2.0 {status} {reason or REASONS.get(status, 'Said')}", headers, body)


REASONS = {100: "Trying", 180: "Ringing", 183: "Session Progress", 200: "OK", 302: "Moved",
           404: "Not Found", 408: "Request Timeout", 430: "Flow Failed", 480: "Unavailable",
           481: "Call/Transaction Does Not Exist", 486: "Busy Here", 487: "Request Terminated",
           500: "Server Error", 503: "Service Unavailable", 603: "Decline"}

SDP = ("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
       "m=audio 49170 RTP/AVP 0\r\n")
