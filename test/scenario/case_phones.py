# SPDX-License-Identifier: Apache-2.0
"""Real phones on an edge with its registrar: baresip with two flows over TLS, SIP.js in Chromium
over WSS. They register, are called, lose a flow and ring all the same."""
import os
import subprocess
import time

from kit import baresip, browser, ends, relay
from kit.case import case
from kit.ends import check, equal, until

DOMAIN = "example.com"


def certificate(folder, name="edge"):
    cert, key = (os.path.join(folder, f"{name}.{end}") for end in ("pem", "key"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", f"/CN={name}",
                    "-addext", f"subjectAltName=DNS:{name},DNS:{DOMAIN},IP:127.0.0.1",
                    "-out", cert, "-keyout", key], check=True, capture_output=True)
    os.chmod(key, 0o600)
    return cert, key


def one_process(t, workers=1, **more):
    """An edge for phones that is its own registrar."""
    cert, key = certificate(t.folder)
    state = os.path.join(t.folder, "state")
    os.makedirs(state, exist_ok=True)
    outside = [{"bind": f"{tp}://{t.ip(1)}:{port}", "side": "outside", **extra}
               for tp, port, extra in (("udp", 5060, {}), ("tcp", 5060, {}),
                                       ("tls", 5061, {"cert": cert, "key": key}),
                                       ("wss", 8443, {"cert": cert, "key": key}))]
    return {
        "node": {"name": "edge-1", "workers": workers},
        "listeners": outside + [{"bind": f"udp://{t.ip(2)}:5060", "side": "inside"}],
        "routes": [{"from": "outside", "method": "REGISTER", "to": "registrar"},
                   {"from": "outside", "to": "registrar"},
                   {"from": "inside", "to": "registrar"}],
        "roles": {"registrar": {"domains": [DOMAIN], "auth": "none", "state": state}},
        **more,
    }


def bindings(weir, name):
    return [b for b in weir.show("bindings") if b["aor"] == f"{name}@{DOMAIN}"]


def talk(caller, callee, uri, hangs_up=None):
    """A call between two baresip phones that is answered and ended."""
    since = time.monotonic()
    caller.dial(uri)
    callee.wait("CALL_INCOMING", since=since)
    caller.wait("CALL_ESTABLISHED", since=since)
    callee.wait("CALL_ESTABLISHED", since=since)
    (hangs_up or caller).hangup()
    caller.wait("CALL_CLOSED", since=since)
    callee.wait("CALL_CLOSED", since=since)


for workers in (1, 2):
    @case(f"phones: baresip over TLS with two flows, and one is cut ({workers} workers)",
          timeout=90, shows=baresip.here)
    def _(t, workers=workers):
        # Phones write their outbound proxy into Route; bob's are the relays.
        weir = t.weir(one_process(t, workers, policy={"foreign_route": "strip"}))
        edge = (t.ip(1), 5061)
        relays = [t.keep(relay.Relay(t.ip(31 + n), edge, 5061, source=t.ip(41 + n)))
                  for n in range(2)]
        alice = t.keep(baresip.Baresip(t.folder, t.ip(21), "alice", DOMAIN,
                                       [f"{t.ip(1)}:5061;transport=tls"]))
        bob = t.keep(baresip.Baresip(t.folder, t.ip(22), "bob", DOMAIN,
                                     [f"{r.address[0]}:5061;transport=tls" for r in relays]))
        alice.wait("REGISTER_OK")
        bob.wait("REGISTER_OK", count=2)
        rows = bindings(weir, "bob")
        equal(sorted(b["reg_id"] for b in rows), [1, 2], f"bob's flows {rows}")
        equal(len({b["instance"] for b in rows}), 1, f"one phone {rows}")
        talk(alice, bob, f"sip:bob@{DOMAIN}")
        talk(bob, alice, f"sip:alice@{DOMAIN}", hangs_up=alice)
        since = time.monotonic()
        relays[1].reset()
        until(lambda: len(bindings(weir, "bob")) == 1 or
              len(bob.saw("REGISTER_OK", since)) > 0, "the dead flow's binding vanishes", 5)
        talk(alice, bob, f"sip:bob@{DOMAIN}")
        equal(len(bob.saw("CALL_INCOMING", since)), 1, "it rang once")
        check(weir.alive(), "weir lives")


@case("phones: two browsers call each other over WSS, and a SIP caller rings one", timeout=120,
      shows=browser.here, heavy=True)
def _(t):
    weir = t.weir(one_process(t))
    chromium = t.keep(browser.Browser(t.folder))
    server = f"wss://{t.ip(1)}:8443"
    for name in ("web", "webby"):
        chromium.phone(name, DOMAIN, server)
    equal(bindings(weir, "web")[0]["transport"], "wss", "over WSS")
    chromium.call("web", "webby", DOMAIN)
    for name in ("web", "webby"):
        chromium.wait(event="session", name=name, state="Established")
    chromium.tell(do="hangup", name="webby")
    for name in ("web", "webby"):
        chromium.wait(event="session", name=name, state="Terminated")
    # Without SDP: a browser takes no plain RTP, but rings, and makes the offer itself.
    end = t.end(60)
    call = ends.Call(end, t.outside, uri=f"sip:web@{DOMAIN}")
    call.invite(body=b"")
    chromium.wait(event="ringing", name="web")
    equal(call.final().status, 200, "the browser answers")
    check(weir.alive(), "weir lives")
