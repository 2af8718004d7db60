# SPDX-License-Identifier: Apache-2.0
"""The second act of the demo: real phones. baresip registers over TLS with two flows, SIP.js in
Chromium over WSS; they call each other; a flow is cut, and the next call rings all the same."""
import hashlib
import json
import os
import subprocess
import time

from kit import baresip, browser, ends, relay

DOMAIN = "example.com"
EDGE = "127.0.75.1"
PASSWORD = "everybody-knows-it"
DESK = {"alice": "127.0.76.1", "bob": "127.0.76.2", "carol": "127.0.76.3"}
WEB = ("wendy", "walter")


def prepare(folder):
    """Certificate, credentials (HA1 only), the folder of the bindings."""
    cert, key = os.path.join(folder, "phones.pem"), os.path.join(folder, "phones.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={DOMAIN}",
                    "-addext", f"subjectAltName=DNS:{DOMAIN},IP:{EDGE}", "-out", cert, "-keyout",
                    key], check=True, capture_output=True)
    users = os.path.join(folder, "phones.users")
    with open(users, "w", encoding="utf-8") as f:
        for name in (*DESK, *WEB):
            ha1 = hashlib.md5(f"{name}:{DOMAIN}:{PASSWORD}".encode()).hexdigest()
            f.write(f"{name}:{DOMAIN}:{ha1}\n")
    for path in (key, users):
        os.chmod(path, 0o600)
    os.mkdir(os.path.join(folder, "phones.state"))


class Phones:
    def __init__(self, demo):
        self.demo, self.open, self.calls, self.failed = demo, [], [], 0

    def keep(self, thing):
        self.open.append(thing)
        return thing

    def close(self):
        for thing in reversed(self.open):
            thing.close()

    def start(self):
        prepare(self.demo.folder)
        self.edge = self.demo.edge("phones")
        self.relays = [self.keep(relay.Relay(f"127.0.77.{n}", (EDGE, 5061), 5061,
                                             source=f"127.0.78.{n}")) for n in (1, 2)]
        ways = {"alice": [f"{EDGE}:5061"], "carol": [f"{EDGE}:5061"],
                "bob": [f"{r.address[0]}:5061" for r in self.relays]}
        self.desk = {name: self.keep(baresip.Baresip(
            self.demo.folder, ip, name, DOMAIN, [f"{w};transport=tls" for w in ways[name]],
            password=PASSWORD)) for name, ip in DESK.items()}
        for name, phone in self.desk.items():
            phone.wait("REGISTER_OK", count=len(ways[name]))
        self.web = self.keep(browser.Browser(self.demo.folder))
        for name in WEB:
            self.web.phone(name, DOMAIN, f"wss://{EDGE}:8443", password=PASSWORD)

    def bindings(self):
        done = subprocess.run([self.demo.weir, "show", "bindings", "-s",
                               self.demo.path("phones.sock")], capture_output=True, text=True,
                              check=False)
        return done.stdout.rstrip()

    def called(self, what, ms):
        print(f"  {what:58} rang after {ms:4.0f} ms", flush=True)

    def desk_call(self, caller, callee, what):
        a, b = self.desk[caller], self.desk[callee]
        since = time.monotonic()
        a.dial(f"sip:{callee}@{DOMAIN}")
        rang = b.wait("CALL_INCOMING", since=since)["at"] - since
        a.wait("CALL_ESTABLISHED", since=since)
        self.called(what, rang * 1000)
        time.sleep(0.3)  # a word
        a.hangup()
        a.wait("CALL_CLOSED", since=since)
        b.wait("CALL_CLOSED", since=since)

    def web_call(self, caller, callee):
        since = time.monotonic()
        self.web.call(caller, callee, DOMAIN)
        rang = self.web.wait(event="ringing", name=callee)["at"] - since
        for name in (caller, callee):
            self.web.wait(event="session", name=name, state="Established")
        self.called(f"{caller} calls {callee} (browser to browser)", rang * 1000)
        self.web.tell(do="hangup", name=caller)
        for name in (caller, callee):
            self.web.wait(event="session", name=name, state="Terminated")

    def act(self):
        self.desk_call("alice", "bob", "alice calls bob, who has two flows over TLS")
        self.desk_call("carol", "alice", "carol calls alice")
        self.web_call(*WEB)
        self.relays[0].reset()
        self.desk_call("alice", "bob", "bob's first flow is cut with a reset; alice calls bob")

    def log(self):
        with open(self.demo.path("phones.log"), encoding="utf-8") as f:
            return [json.loads(line) for line in f]


def run(demo):
    """The whole act; returns whether it went well."""
    print("\nphones: an edge that is its own registrar (demo/phones.yaml); baresip over TLS, bob\n"
          "with two flows through a relay each, and two browsers (SIP.js in Chromium) over WSS",
          flush=True)
    phones = Phones(demo)
    try:
        phones.start()
        print("\n".join(f"  {line}" for line in phones.bindings().splitlines()))
        phones.act()
        rows = [r for r in phones.log() if r["method"] == "REGISTER"]
        good = [r for r in rows if r.get("status") == 200]
        print(f"  {len(good)} REGISTERs acknowledged once they were on disk, "
              f"{sum(r.get('status') == 401 for r in rows)} challenged; slowest "
              f"{max(r.get('final_us', 0) for r in good) / 1000:.1f} ms")
        return True
    except ends.Failed as e:
        print(f"  that went wrong: {e}")
        return False
    finally:
        phones.close()
        demo.stop()
