# SPDX-License-Identifier: Apache-2.0
"""TLS towards servers: whom Weir believes, what it does when it does not, mutual TLS, and the reuse
of connections that a peer has opened (RFC 5923). Peers: Python's ssl, openssl s_server, Kamailio.

covers: net/stream_tls.c, net/listeners_tls.c, net/tls.c, edge/reuse.c
"""
import glob
import os
import subprocess

from kit import ends, sip, tls
from kit.case import case
from kit.ends import check, equal, until

PBX = "pbx.example.com"
EDGE = "edge.example.com"


def secure_server(t, authority, n=10, name=PBX, names=None, days=30, client_ca=None, **kw):
    """A tls:// target, and how a pool names it: its address, and the name that it must prove."""
    cert, key = authority.sign(f"{name}-{n}", names or [name], days=days)
    context = tls.server_context(cert, key, client_ca)
    return t.keep(tls.Server(t.ip(n), 5061, context=context, **kw))


def named(server, name=PBX):
    return {"uri": server.target(), "name": name}


def secure_edge(t, targets, section, pool=None, inside=None, **more):
    """In front of tls:// targets; `inside`: keys of a tls listener towards them."""
    config = t.config(targets, {"tls": section, **(pool or {})}, **more)
    if inside:
        config["listeners"].append({"bind": f"tls://{t.ip(2)}:5061", "side": "inside", **inside})
    return t.weir(config)


def new_call(t, n=100):
    return ends.Call(t.end(n, 0), t.outside)


def notices(weir, text):
    return [line for line in weir.output().splitlines() if "notice: TLS towards" in line
            and text in line]


@case("tls targets: a server is met by its name, calls and their ends go there and back")
def _(t):
    authority = tls.Authority(t.folder)
    server = secure_server(t, authority)
    weir = secure_edge(t, [named(server)], {"ca": authority.path})
    call = new_call(t)
    call.whole()
    invite = server.invites()[0]
    check(invite.conn is not None and invite.conn.transport == "tls", "over TLS")
    check(invite.all("via")[0].startswith("SIP/2.0/TLS "), invite.all("via")[0])
    check(";alias" not in invite.all("via")[0], "no alias: we have shown no certificate")
    equal(len(server.conns), 1, "connections: BYE and ACK use the same")
    # The server ends one, on the connection that is there.
    second = new_call(t, 101)
    second.invite().final()
    invite = server.invites()[1]
    check(invite.conn is server.conns[0], "the same again")
    equal(weir.counters()["connects"], 1, "connects")


@case("tls targets: probes go over TLS and know a server that does not prove its name")
def _(t):
    authority = tls.Authority(t.folder)
    good = secure_server(t, authority, 10)
    bad = secure_server(t, authority, 11, "other.example.com")
    weir = secure_edge(t, [named(good), named(bad)], {"ca": authority.path},
                       {"health": {"every": "200ms", "timeout": "150ms", "fall": 2, "rise": 1}})
    good.wait(lambda m: m.method == "OPTIONS", 10, "a probe")
    until(lambda: not weir.targets()[bad.target()]["up"], "the other one is down", 10)
    check(weir.targets()[good.target()]["up"], "the good one is up")
    equal(bad.seen("OPTIONS"), [], "nothing was said to it")


def other_authority(t):
    return tls.Authority(t.folder, "other-ca")


DISTRUSTED = {
    "names another": (lambda t, a: secure_server(t, a, 10, "other.example.com"),
                      "hostname mismatch"),
    "has expired": (lambda t, a: secure_server(t, a, 10, days=-3), "certificate has expired"),
    "is signed by nobody whom we know": (lambda t, a: secure_server(t, other_authority(t), 10),
                                         "unable to get local issuer certificate"),
    "has a wildcard of another domain": (
        lambda t, a: secure_server(t, a, 10, "wild", ["*.example.net"]), "hostname mismatch"),
    "wants a certificate of ours that we have not": (
        lambda t, a: secure_server(t, a, 10, client_ca=a.path), "with an alert"),
}
SPEECHLESS = {
    "speaks no TLS": (lambda t, a: t.server(10, 5061, udp=False, tcp=True), "no handshake in time"),
}

for what, (make, why) in [(f"whose certificate {k}", v) for k, v in DISTRUSTED.items()] + [
        (f"that {k}", v) for k, v in SPEECHLESS.items()]:
    @case(f"tls targets: one {what} is passed over, and it is said")
    def _(t, make=make, why=why):
        authority = tls.Authority(t.folder)
        first, second = make(t, authority), secure_server(t, authority, 11)
        uri = f"tls://{first.hostport}"
        weir = secure_edge(t, [{"uri": uri, "name": PBX}, named(second)], {"ca": authority.path},
                           {"balance": "round-robin", "outlier": {"eject_after": "off"}})
        for n in (100, 101, 102):
            new_call(t, n).whole()
        equal(len(second.invites()), 3, "all came to the second one")
        equal(first.invites(), [], "and none to the first")
        check(weir.counters()["failovers"] >= 1, "by failing over")
        until(lambda: any(why in line.lower() for line in notices(weir, uri)),
              f"a notice with {why!r}", 10)


@case("tls targets: a name that is an address, one from a SIP URI, and nobody is asked for one")
def _(t):
    authority = tls.Authority(t.folder)
    by_ip = secure_server(t, authority, 10, "by-ip", [t.ip(10)])
    cert, key = authority.sign("by-uri", ["unrelated.example.net"], uris=["sip:" + PBX])
    by_uri = t.keep(tls.Server(t.ip(11), 5061, context=tls.server_context(cert, key)))
    whoever = secure_server(t, other_authority(t), 12, "whoever")
    config = t.config([by_ip], {"tls": {"ca": authority.path}})
    config["pools"]["uri"] = {"targets": [named(by_uri)], "health": "off",
                              "tls": {"ca": authority.path}}
    config["pools"]["any"] = {"targets": [whoever.target()], "health": "off",
                              "tls": {"verify": False}}
    config["routes"] = [{"from": "outside", "method": "MESSAGE", "to": "uri"},
                        {"from": "outside", "method": "PUBLISH", "to": "any"},
                        {"from": "outside", "to": "border"}]
    t.weir(config)
    new_call(t).whole()
    equal(new_call(t, 101).ask("MESSAGE").status, 200, "by the name of a SIP URI")
    equal(new_call(t, 102).ask("PUBLISH").status, 200, "verify: false")
    equal([len(s.conns) for s in (by_ip, by_uri, whoever)], [1, 1, 1], "connections")


@case("tls targets: two who share an address never share a connection")
def _(t):
    authority = tls.Authority(t.folder)
    server = secure_server(t, authority)
    config = t.config([named(server)], {"tls": {"ca": authority.path}})
    config["pools"]["other"] = {"targets": [named(server, "other.example.com")], "health": "off",
                                "tls": {"ca": authority.path}}
    config["routes"] = [{"from": "outside", "method": "MESSAGE", "to": "other"},
                        {"from": "outside", "to": "border"}]
    weir = t.weir(config)
    new_call(t).whole()
    answer = new_call(t, 101).ask("MESSAGE")
    equal(answer.status, 500, "it has not proven that name")
    equal(server.seen("MESSAGE"), [], "and heard nothing")
    new_call(t, 102).whole()
    until(lambda: notices(weir, "as other.example.com"), "a notice names it")


@case("tls targets: a reload brings another authority and another certificate of ours")
def _(t):
    old, new = tls.Authority(t.folder), other_authority(t)
    server = secure_server(t, new, client_ca=new.path)
    own = {"old": old.sign("own-old", [EDGE]), "new": new.sign("own-new", [EDGE])}
    weir = secure_edge(t, [named(server)], {"ca": old.path, "cert": own["old"][0],
                                            "key": own["old"][1]})
    equal(new_call(t).invite().final().status, 500, "not believed yet")
    pid = weir.pid

    def reload(section):
        weir.config["pools"]["border"]["tls"] = section
        weir.write(weir.config)
        return weir.command("reload")
    status, _, err = reload({"ca": new.path, "cert": own["old"][0], "key": own["new"][1]})
    check(status != 0 and "not the key" in err, f"a wrong key is refused: {err}")
    status, _, err = reload({"ca": os.path.join(t.folder, "none.pem")})
    check(status != 0 and "none.pem" in err, f"and so is a missing file: {err}")
    status, _, err = reload({"ca": new.path, "cert": own["new"][0], "key": own["new"][1]})
    equal(status, 0, err)
    # The connects that failed before may still hold the next one back for a moment.
    until(lambda: new_call(t, 0).invite().final().status == 200, "believed on both sides", 10)
    equal(weir.pid, pid, "without a restart")


@case("tls targets: mutual TLS, and the server calls back on the connection that we opened")
def _(t):
    authority = tls.Authority(t.folder)
    cert, key = authority.sign("edge", [EDGE])
    server = secure_server(t, authority, client_ca=authority.path)
    secure_edge(t, [named(server)], {"ca": authority.path, "cert": cert, "key": key},
                inside={"cert": cert, "key": key})
    call = new_call(t)
    call.invite().final()
    invite = server.invites()[0]
    via = invite.all("via")[0]
    check(";alias" in via and f"{t.ip(2)}:5061" in via, f"Via of ours: {via}")
    check(";alias" not in invite.all("via")[1], "and only of ours")
    # RFC 5923: a request of the server's own, down that connection.
    data, branch = ends.Call(server, invite.conn, uri=f"sip:{t.ip(2)}:5061").request("OPTIONS")
    invite.conn.send(data)
    got = server.wait(lambda m: m.branch == branch and m.status, 5, "an answer")
    equal((got.status, got.conn), (200, invite.conn), "answered on it")


# ---- reuse -------------------------------------------------------------------------------------

def hello(conn, sent_by, alias=True):
    """An OPTIONS that says where its sender listens, answered."""
    branch = sip.fresh("z9hG4bK")
    via = f"SIP/2.0/TLS {sent_by};branch={branch}" + (";alias" if alias else "")
    conn.send(sip.build(f"OPTIONS sip:{conn.remote[0]}:5061 SIP/2.0", [
        ("Via", via), ("Max-Forwards", "70"), ("From", "<sip:pbx@example.com>;tag=1"),
        ("To", "<sip:edge@example.com>"), ("Call-ID", sip.fresh("c")), ("CSeq", "1 OPTIONS")]))
    got = conn.end.wait(lambda m: m.branch == branch and m.status, 10, "an answer")
    equal(got.status, 200, "OPTIONS")


def trunk(t, section=None, listener=None, server_name=PBX, client_name=PBX, signer=None):
    """(weir, the trunk's server at its port, a connection that it has opened to us)."""
    authority = tls.Authority(t.folder)
    cert, key = authority.sign("edge", [EDGE])
    server = secure_server(t, authority, 10, server_name)
    weir = secure_edge(t, [named(server)], section or {"ca": authority.path},
                       inside={"cert": cert, "key": key, "client_ca": authority.path,
                               "client_cert": "optional", **(listener or {})})
    own = (signer or authority).sign("client", [client_name]) if client_name else (None, None)
    conn = tls.connect(server, (t.ip(2), 5061), tls.client_context(authority.path, *own), EDGE)
    return weir, server, conn


@case("tls reuse: a call to a trunk goes down the connection that it opened, until that ends")
def _(t):
    weir, server, conn = trunk(t)
    hello(conn, f"{t.ip(10)}:5061")
    new_call(t).whole()
    check(server.invites()[0].conn is conn, "on its connection")
    check(server.seen("BYE")[0].conn is conn, "and the BYE as well")
    counters = weir.counters()
    equal(counters["connects"], 0, "none was opened")
    check(counters["connections_reused"] >= 2, f"counted: {counters['connections_reused']}")
    conn.close()
    until(lambda: not weir.show("flows"), "it is gone")
    new_call(t, 101).whole()
    second = server.invites()[1].conn
    check(second is not conn, "another connection")
    equal(weir.counters()["connects"], 1, "that we opened")
    # It comes back.
    own = os.path.join(t.folder, "client.pem"), os.path.join(t.folder, "client.key")
    again = tls.connect(server, (t.ip(2), 5061),
                        tls.client_context(os.path.join(t.folder, "ca.pem"), *own), EDGE)
    hello(again, PBX)  # by name, and its default port
    new_call(t, 102).whole()
    check(server.invites()[2].conn is again, "on the new one")


@case("tls reuse: the one that it opened last, when the one before hangs")
def _(t):
    _, server, conn = trunk(t)
    hello(conn, f"{t.ip(10)}:5061")
    own = os.path.join(t.folder, "client.pem"), os.path.join(t.folder, "client.key")
    again = tls.connect(server, (t.ip(2), 5061),
                        tls.client_context(os.path.join(t.folder, "ca.pem"), *own), EDGE)
    hello(again, f"{t.ip(10)}:5061")
    new_call(t).whole()
    check(server.invites()[0].conn is again, "on the newer one")


def not_reused(t, weir, server, conn):
    new_call(t).whole()
    check(server.invites()[0].conn is not conn, "not on that connection")
    counters = weir.counters()
    equal((counters["connects"], counters["connections_reused"]), (1, 0), "connects, reused")


REFUSED = {
    "a certificate for another name": (dict(client_name="mallory.example.com"), {}),
    "no certificate": (dict(client_name=None), {}),
    "no alias in its Via": ({}, dict(alias=False)),
    "another port in its Via": ({}, dict(port=5071)),
    "a name in its Via that it has not proven": ({}, dict(host="other.example.com")),
}

for what, (who, says) in REFUSED.items():
    @case(f"tls reuse: never for a peer with {what}")
    def _(t, who=who, says=says):
        weir, server, conn = trunk(t, **who)
        sent_by = f"{says.get('host', t.ip(10))}:{says.get('port', 5061)}"
        hello(conn, sent_by, says.get("alias", True))
        not_reused(t, weir, server, conn)


@case("tls reuse: never for a certificate that would not do for the target")
def _(t):
    other = tls.Authority(t.folder, "customers")  # signs whom it likes, for our customers
    weir, server, conn = trunk(t, listener={"client_ca": other.path}, signer=other)
    hello(conn, f"{t.ip(10)}:5061")
    not_reused(t, weir, server, conn)


@case("tls reuse: two edges, each with the other's certificate, share one connection both ways")
def _(t):
    authority = tls.Authority(t.folder)
    own = {n: authority.sign(f"e{n}", [f"e{n}.example.com"]) for n in (1, 2)}
    phone, other = t.server(100, 5060), t.server(101, 5060)

    def edge(n, peer, front):
        cert, key = own[n]
        inside = {"cert": cert, "key": key, "client_ca": authority.path}
        return t.weir({
            "node": {"name": f"e{n}", "workers": 1},
            "tls": {"ca": authority.path, "cert": cert, "key": key},
            "listeners": [{"bind": f"udp://{t.ip(n)}:5060", "side": "outside"},
                          {"bind": f"tls://{t.ip(n)}:5061", "side": "inside", **inside}],
            "pools": {"peer": {"health": "off", "targets": [
                          {"uri": f"tls://{t.ip(peer)}:5061", "name": f"e{peer}.example.com"}]},
                      "front": {"targets": [front.target()], "health": "off"}},
            "routes": [{"from": "outside", "to": "peer"}, {"from": "inside", "to": "front"}]})
    first, second = edge(1, 2, phone), edge(2, 1, other)
    ends.Call(t.end(110, 0), (t.ip(1), 5060)).whole()
    equal(len(other.invites()), 1, "through both")
    ends.Call(t.end(111, 0), (t.ip(2), 5060)).whole()
    equal(len(phone.invites()), 1, "and back")
    equal((first.counters()["connects"], second.counters()["connects"]), (1, 0), "connects")
    check(second.counters()["connections_reused"] >= 2, "reused")


# ---- other peers -------------------------------------------------------------------------------

@case("tls targets: openssl s_server proves its name and gets what we send")
def _(t):
    authority = tls.Authority(t.folder)
    cert, key = authority.sign("pbx", [PBX])
    p = subprocess.Popen(["openssl", "s_server", "-accept", f"{t.ip(10)}:5061", "-cert", cert,
                          "-key", key, "-quiet", "-naccept", "1"], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    t.stack.callback(p.kill)
    os.set_blocking(p.stdout.fileno(), False)
    weir = secure_edge(t, [{"uri": f"tls://{t.ip(10)}:5061", "name": PBX}],
                       {"ca": authority.path})
    call = new_call(t)
    call.invite()
    seen = []

    def heard():
        seen.append(p.stdout.read() or b"")
        return b"INVITE sip:bob@example.com SIP/2.0" in b"".join(seen)
    until(heard, "the INVITE, in clear", 10)
    equal(weir.counters()["connects"], 1, "connects")


def have_kamailio_tls():
    return bool(glob.glob("/usr/lib/*/kamailio/modules/tls.so"))


@case("tls targets: Kamailio with mutual TLS as a target, calls through it", timeout=60,
      shows=have_kamailio_tls)
def _(t):
    authority = tls.Authority(t.folder)
    cert, key = authority.sign("kamailio", [PBX])
    own_cert, own_key = authority.sign("edge", [EDGE])
    server = t.server(10)
    t.kamailio(t.ip(20), 5060, (t.ip(10), 5060), memory=64, extra=f"""
enable_tls=yes
listen=tls:{t.ip(20)}:5061
loadmodule "tls.so"
modparam("tls", "certificate", "{cert}")
modparam("tls", "private_key", "{key}")
modparam("tls", "ca_list", "{authority.path}")
modparam("tls", "require_certificate", 1)
modparam("tls", "verify_certificate", 1)
modparam("tls", "tls_method", "TLSv1.2+")
""")
    weir = secure_edge(t, [{"uri": f"tls://{t.ip(20)}:5061", "name": PBX}],
                       {"ca": authority.path, "cert": own_cert, "key": own_key},
                       {"health": {"every": "300ms", "timeout": "200ms", "fall": 2}},
                       inside={"cert": own_cert, "key": own_key, "client_ca": authority.path})
    for n in (100, 101, 102):
        new_call(t, n).whole()
    equal(len(server.invites()), 3, "calls through it")
    via = server.invites()[0].all("via")[1]
    check(via.startswith("SIP/2.0/TLS ") and ";alias" in via, f"by TLS, with alias: {via}")
    check(weir.targets()[f"tls://{t.ip(20)}:5061"]["fit"], "it answers probes")
    equal(weir.counters()["connects"], 1, "connections")
