# SPDX-License-Identifier: Apache-2.0
"""Clients of others at an edge that is its own registrar, each with digest authentication: sipsak,
OpenSSL and GnuTLS by hand, JsSIP and SIP.js in Node, JsSIP in Chromium, baresip."""
import hashlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time

from kit import baresip, browser, ends, tls
from kit.case import case
from kit.ends import check, equal, until
from kit.phone import Phone

DOMAIN, PASSWORD, USERS = "example.com", "a-secret-word", ("alice", "bob", "carol")
PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 8080, "wss": 8443}


class Edge:
    def __init__(self, t, domains=(DOMAIN,), workers=2, offer=None):
        """`offer`: algorithms in order; then every user has a hash of each."""
        self.t, authority = t, tls.Authority(t.folder)
        cert, key = authority.sign("edge.example.com", ["edge.example.com", t.ip(1)])
        self.ca, self.address = authority.path, t.ip(1)
        users = os.path.join(t.folder, "users")
        with open(users, "w", encoding="ascii") as f:
            for name in USERS:
                secret = f"{name}:{DOMAIN}:{PASSWORD}".encode()
                hashes = [hashlib.md5(secret).hexdigest()]
                if offer:
                    hashes.append(hashlib.sha256(secret).hexdigest())
                f.write(":".join([name, DOMAIN, *hashes]) + "\n")
        os.chmod(users, 0o600)
        auth = {"digest": users, **({"offer": offer} if offer else {})}
        self.weir = t.weir({
            "node": {"name": "edge-1", "workers": workers},
            "listeners": [{"bind": f"{tp}://{t.ip(1)}:{port}", "side": "outside",
                           **({"cert": cert, "key": key} if tp in ("tls", "wss") else {})}
                          for tp, port in PORTS.items()]
            + [{"bind": f"udp://{t.ip(2)}:5060", "side": "inside"}],
            "routes": [{"to": "registrar"}],
            "roles": {"registrar": {"domains": list(domains), "auth": auth,
                                    "state": os.path.join(t.folder, "state")}}})
        self.caller = t.end(90)

    def bound(self, name):
        return [b for b in self.weir.show("bindings") if b["aor"].startswith(f"{name}@")]

    def call(self, name):
        return ends.Call(self.caller, (self.t.ip(2), 5060), uri=f"sip:{name}@{DOMAIN}")

    def phone(self, n, name, transport="tcp"):
        """A scripted one."""
        one = self.t.keep(Phone(self.t.ip(n), name, DOMAIN, transport))
        return one.join((self.address, PORTS[transport])).register(password=PASSWORD)


def program(name):
    return lambda: shutil.which(name) is not None


# ---- sipsak ------------------------------------------------------------------------------------

for transport in ("udp", "tcp", "tls"):
    @case(f"clients: sipsak registers over {transport}", shows=program("sipsak"))
    def _(t, transport=transport):
        edge = Edge(t, (DOMAIN, t.ip(1)))  # it wants a domain that it can resolve
        # GnuTLS in it takes the tickets of TLS 1.3, which come before the answer, for an error.
        old = os.path.join(t.folder, "gnutls")
        with open(old, "w", encoding="ascii") as f:
            f.write("[overrides]\ndisabled-version = tls1.3\n")
        done = subprocess.run(
            ["sipsak", "-U", "-C", f"sip:alice@{t.ip(9)}:5060", "-x", "600", "-s",
             f"sip:alice@{t.ip(1)}:{PORTS[transport]}", "-u", "alice", "-a", PASSWORD, "-v", "-i",
             f"--transport={transport}", f"--local-ip={t.ip(9)}", "--tls-ignore-cert-failure"],
            env={**os.environ, "GNUTLS_SYSTEM_PRIORITY_FILE": old}, capture_output=True,
            timeout=25, check=False)
        equal(done.returncode, 0, done.stdout[-500:] + done.stderr[-500:])
        rows = edge.weir.logged(lambda r: r["method"] == "REGISTER" and r["status"] == 200)
        equal((rows[0]["transport"], len(rows)), (transport, 1), "in the log")
        if transport == "udp":
            equal(edge.bound("alice")[0]["contact"], f"sip:alice@{t.ip(9)}:5060", "its binding")
        else:
            until(lambda: not edge.bound("alice"), "gone with its connection", 10)


@case("clients: sipsak takes the topmost challenge: MD5, of users with both hashes",
      shows=program("sipsak"))
def _(t):
    edge = Edge(t, (DOMAIN, t.ip(1)), offer=["md5", "sha-256"])
    edge.phone(30, "carol", "udp")
    done = subprocess.run(
        ["sipsak", "-U", "-C", f"sip:alice@{t.ip(9)}:5060", "-x", "600", "-s",
         f"sip:alice@{t.ip(1)}:5060", "-u", "alice", "-a", PASSWORD, "-v", "-i",
         f"--local-ip={t.ip(9)}"], capture_output=True, timeout=25, check=False)
    equal(done.returncode, 0, done.stdout[-500:] + done.stderr[-500:])
    equal([len(edge.bound(name)) for name in USERS], [1, 0, 1], "bindings")


@case("clients: baresip gives up at any challenge but MD5, and gets no other", shows=baresip.here,
      timeout=60)
def _(t):
    edge = Edge(t, offer=["md5"])
    bob = t.keep(baresip.Baresip(t.folder, t.ip(21), "bob", DOMAIN,
                                 [f"{t.ip(1)}:5060;transport=udp"], password=PASSWORD))
    bob.wait("REGISTER_OK")
    equal(len(edge.bound("bob")), 1, "its binding")


# ---- TLS by hand -------------------------------------------------------------------------------

class Tool(ends.Conn):
    """A connection that another program makes: its stdin and stdout."""
    transport = "tls"

    def __init__(self, end, command, log):
        mine, its = socket.socketpair()
        with open(log, "wb") as err:
            self.child = subprocess.Popen(command, stdin=its, stdout=its, stderr=err)
        its.close()
        super().__init__(end, mine)
        self.local = (end.ip, 5061)

    def close(self):
        super().close()
        try:
            self.child.wait(1)
        except subprocess.TimeoutExpired:  # s_client goes on without an input
            self.child.kill()
            self.child.wait()


def by_hand(edge, command):
    """Registers over the connection of this command, and is called over it."""
    t = edge.t
    alice = t.keep(Phone(t.ip(100), "alice", DOMAIN, "tls"))
    alice.hop = Tool(alice, command, os.path.join(t.folder, "tool.err"))
    alice.conns.append(alice.hop)
    alice.register(password=PASSWORD)
    bob = edge.phone(101, "bob")
    for call in (edge.call("alice"), ends.Call(bob, bob.hop, uri=alice.aor)):
        equal(call.invite().final(20).status, 200, "a call to it")
        check(alice.rang(call).conn is alice.hop, "over its connection")
        equal(call.bye(20).status, 200, "and its end")
    call = ends.Call(alice, alice.hop, uri=bob.aor)
    call.whole()
    return alice


for version in ("1.2", "1.3"):
    @case(f"clients: openssl s_client over TLS {version}", shows=program("openssl"))
    def _(t, version=version):
        edge = Edge(t)
        alice = by_hand(edge, [
            "openssl", "s_client", "-quiet", "-connect", f"{t.ip(1)}:5061", "-servername",
            "edge.example.com", "-verify_hostname", "edge.example.com", "-CAfile", edge.ca,
            "-verify_return_error", f"-tls{version.replace('.', '_')}"])
        alice.hop.close()
        until(lambda: not edge.bound("alice"), "its binding goes with it", 10)

    @case(f"clients: gnutls-cli over TLS {version}, resumed", shows=program("gnutls-cli"))
    def _(t, version=version):
        edge = Edge(t)
        log = os.path.join(t.folder, "gnutls.log")
        alice = by_hand(edge, [
            "gnutls-cli", "--resume", "--x509cafile", edge.ca, "--logfile", log, "--priority",
            f"NORMAL:-VERS-ALL:+VERS-TLS{version}", "--sni-hostname", "edge.example.com",
            "--verify-hostname", "edge.example.com", "--port", "5061", t.ip(1)])
        alice.hop.close()  # then it writes
        with open(log, encoding="utf-8", errors="replace") as f:
            said = f.read()
        check(f"(TLS{version}-" in said, f"it is TLS {version}: {said[-1500:]}")
        check("*** This is a resumed session" in said, f"and resumed: {said[-1500:]}")


# ---- browsers' libraries in Node ---------------------------------------------------------------

class Node(browser.Browser):
    """A script of test/web, spoken to as the browser is."""

    def __init__(self, edge, script, name, transport):
        t = edge.t
        self.events = []
        self.errors = open(os.path.join(t.folder, f"{name}.err"), "w+", encoding="utf-8")
        self.child = subprocess.Popen(
            ["node", os.path.join(browser.WEB, f"{script}.mjs")], text=True,
            env={**os.environ, "NODE_EXTRA_CA_CERTS": edge.ca}, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.errors)
        self.pid = self.child.pid
        threading.Thread(target=self._read, daemon=True).start()
        self.wait(event="ready")
        self.tell(do="start", name=name, domain=DOMAIN, password=PASSWORD,
                  server=f"{transport}://{t.ip(1)}:{PORTS[transport]}",
                  instance="5f3b9a2e-1c2d-4e3f-8a9b-00000000000a")
        self.wait(event="registered")

    def message(self, to, text):
        self.tell(do="message", to=to, text=text)
        self.wait(event="answered", status=200)


def web(script):
    return lambda: shutil.which("node") is not None and os.path.isdir(
        os.path.join(browser.WEB, "node_modules", script))


for script, package in (("jssip", "jssip"), ("sipjs", "sip.js")):
    for transport in ("ws", "wss"):
        @case(f"clients: {package} in Node over {transport} registers, and has messages",
              shows=web(package), timeout=60)
        def _(t, script=script, transport=transport):
            edge = Edge(t)
            alice = t.keep(Node(edge, script, "alice", transport))
            rows = edge.bound("alice")
            equal((len(rows), rows[0]["transport"]), (1, transport), f"its binding: {rows}")
            bob = edge.phone(101, "bob")
            alice.message("bob", "hello\nyou")
            got = bob.wait(lambda m: m.method == "MESSAGE", 10, "a MESSAGE")
            equal(got.body, b"hello\nyou", "what it said")
            asked = ends.Call(bob, bob.hop, uri=f"sip:alice@{DOMAIN}")
            equal(asked.ask("MESSAGE", 20, body="hi").status, 200, "a MESSAGE to it")
            alice.wait(event="message", text="hi")
            other = t.keep(Node(edge, "sipjs" if script == "jssip" else "jssip", "carol",
                                transport))
            other.message("alice", "from the other")
            alice.wait(event="message", **{"from": "carol", "text": "from the other"})
            alice.tell(do="unregister")
            alice.wait(event="unregistered")
            until(lambda: not edge.bound("alice"), "its binding goes", 10)


# ---- JsSIP in a browser ------------------------------------------------------------------------

@case("clients: JsSIP in Chromium over WSS registers, is called by a phone and refuses one",
      shows=browser.here, heavy=True, timeout=120)
def _(t):
    edge = Edge(t)
    chromium = t.keep(browser.Browser(t.folder))
    server = f"wss://{t.ip(1)}:{PORTS['wss']}"
    chromium.phone("alice", DOMAIN, server, PASSWORD, library="jssip")
    chromium.phone("carol", DOMAIN, server, PASSWORD, library="jssip", refuses=486)
    row = edge.bound("alice")[0]
    equal(row["transport"], "wss", "its binding")
    check(".invalid" in row["contact"], f"a browser has no address to tell: {row}")
    bob = edge.phone(101, "bob")
    # Without SDP: a browser takes no plain RTP, but rings, and makes the offer itself.
    call = ends.Call(bob, bob.hop, uri=f"sip:alice@{DOMAIN}")
    answer = call.invite(body=b"").final(30)
    equal(answer.status, 200, "a call from a phone over TCP")
    check(b"a=fingerprint" in answer.body, "with its offer")
    chromium.wait(event="ringing", name="alice")
    hung_up = bob.wait(lambda m: m.method == "BYE" and m.call_id == call.call_id, 30, "a BYE")
    check(hung_up.conn is bob.hop, "which it sends, as our ACK brought no answer")
    refused = ends.Call(bob, bob.hop, uri=f"sip:carol@{DOMAIN}")
    equal(refused.invite().final(30).status, 486, "who refuses is heard")
    chromium.wait(event="refused", name="carol", by="local")
    chromium.tell(do="stop", name="alice")
    until(lambda: not edge.bound("alice"), "its binding goes", 20)


@case("clients: JsSIP and SIP.js in Chromium call each other over WSS, and either hangs up",
      shows=browser.here, heavy=True, timeout=120)
def _(t):
    edge = Edge(t)
    chromium = t.keep(browser.Browser(t.folder))
    server = f"wss://{t.ip(1)}:{PORTS['wss']}"
    chromium.phone("alice", DOMAIN, server, PASSWORD, library="jssip")
    chromium.phone("bob", DOMAIN, server, PASSWORD)
    both = ("alice", "bob")
    for nth, (caller, callee) in enumerate((both, reversed(both)), 1):
        chromium.call(caller, callee, DOMAIN)
        for name in both:
            chromium.wait(event="session", name=name, state="Established", count=nth)
        chromium.tell(do="hangup", name=caller if nth == 1 else "alice")
        for name in both:
            chromium.wait(event="session", name=name, state="Terminated", count=nth)
    equal(len(edge.bound("alice") + edge.bound("bob")), 2, "both are still bound")


# ---- baresip with one flow ---------------------------------------------------------------------

for transport in ("udp", "tcp", "tls"):
    @case(f"clients: baresip over {transport} registers, is called and calls", shows=baresip.here,
          timeout=60)
    def _(t, transport=transport):
        edge = Edge(t)
        phones = [t.keep(baresip.Baresip(
            t.folder, t.ip(21 + n), name, DOMAIN,
            [f"{t.ip(1)}:{PORTS[transport]};transport={transport}"], password=PASSWORD))
            for n, name in enumerate(("alice", "bob"))]
        for one in phones:
            one.wait("REGISTER_OK")
        for a, b in (phones, reversed(phones)):
            since = time.monotonic()
            a.dial(b.aor)
            for one in (a, b):
                one.wait("CALL_ESTABLISHED", since=since)
            a.hangup()
            for one in (a, b):
                one.wait("CALL_CLOSED", since=since)
        call = edge.call("alice")
        call.invite()
        equal(call.final(20).status, 200, "a call from inside")
        equal(call.bye(20).status, 200, "and its end")
