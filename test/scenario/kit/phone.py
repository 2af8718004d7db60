# SPDX-License-Identifier: Apache-2.0
"""A scripted phone: it registers over one connection, or from one UDP address, and answers what
comes back over it."""
import hashlib
import re

from . import ends, sip, ws


def digest(challenge, method, uri, user, password):
    """The value of Authorization that answers a WWW-Authenticate (RFC 8760, RFC 3261 22.4)."""
    said = {k.lower(): v.strip('"') for k, v in re.findall(r'(\w+)=("[^"]*"|[^",\s]+)', challenge)}
    algorithm = said.get("algorithm", "MD5")
    made = hashlib.sha256 if algorithm == "SHA-256" else hashlib.md5

    def h(*parts):
        return made(":".join(parts).encode()).hexdigest()
    cnonce, count = sip.fresh(), "00000001"
    answer = h(h(user, said["realm"], password), said["nonce"], count, cnonce, "auth",
               h(method, uri))
    return (f'Digest username="{user}", realm="{said["realm"]}", nonce="{said["nonce"]}", '
            f'uri="{uri}", response="{answer}", algorithm={algorithm}, cnonce="{cnonce}", '
            f'nc={count}, qop=auth')


class Phone(ends.Server):
    """`home`: an address that it takes for its own, (host, port). `public`: where the edge sees it,
    by rport (RFC 3581)."""

    def __init__(self, ip, name, domain, transport="udp", port=0, home=None, **kw):
        super().__init__(ip, port, udp=transport == "udp", transport=transport, **kw)
        self.name, self.domain, self.home = name, domain, home
        self.call_id, self.cseq = sip.fresh(name), 0
        self.hop = self.public = None

    @property
    def aor(self):
        return f"sip:{self.name}@{self.domain}"

    def join(self, edge, local_port=0, **kw):
        """Where it registers: an address, over which it connects unless it speaks UDP."""
        self.hop = edge
        if self.transport != "udp":
            self.hop = ws.any_connect(self, edge, self.transport, local_port=local_port, **kw)
        return self

    def uri(self, user="ua", transport=None):
        word = "ws" if self.transport == "wss" else self.transport  # RFC 7118 5.2
        host, port = self.home or (self.hop.local if self.transport != "udp" else
                                   (self.ip, self.port))
        tail = "" if word == "udp" else f";transport={word}"
        return f"sip:{user}@{sip.uri_host(host)}:{port}{tail}"

    def contact(self):
        return self.uri(self.name)

    def ask(self, params="", extra=(), timeout=10):
        """Sends a REGISTER and returns its final answer."""
        self.cseq += 1
        branch = sip.fresh("z9hG4bK")
        host, port = sip.host_port(self.contact())
        self.send(sip.build(f"REGISTER sip:{self.domain} SIP/2.0", [
            ("Via", f"SIP/2.0/{self.transport.upper()} {sip.uri_host(host)}:{port};rport;"
             f"branch={branch}"), ("Max-Forwards", "70"),
            ("From", f"<{self.aor}>;tag={self.call_id}"), ("To", f"<{self.aor}>"),
            ("Call-ID", self.call_id), ("CSeq", f"{self.cseq} REGISTER"),
            ("Contact", f"<{self.contact()}>{params}"), ("Expires", "600"), *extra]), self.hop)
        return self.wait(lambda m: m.branch == branch and m.status and m.status >= 200, timeout,
                         f"an answer to REGISTER of {self.name}")

    def register(self, params="", extra=(), password=None):
        answer = self.ask(params, extra)
        if answer.status == 401 and password is not None:
            mine = digest(answer.get("www-authenticate"), "REGISTER", f"sip:{self.domain}",
                          self.name, password)
            answer = self.ask(params, [*extra, ("Authorization", mine)])
        ends.equal(answer.status, 200, f"REGISTER of {self.name}")
        self.public = answer.param("via", "received"), answer.param("via", "rport")
        self.granted = answer
        return self

    def rang(self, call):
        """The INVITE of this call, if it came."""
        return next((m for m in self.invites() if m.call_id == call.call_id), None)
