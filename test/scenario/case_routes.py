# SPDX-License-Identifier: Apache-2.0
"""Whose Route is believed."""
import re

from kit import ends, sip
from kit.case import case
from kit.ends import check, equal


def own_token(t, server, end=None):
    """A dialog through the edge, and its route set."""
    call = t.call(end)
    call.invite().final()
    check(call.routes, "there is a Record-Route")
    server.wait(lambda m: m.method == "ACK" and m.call_id == call.call_id, what="ACK")
    return call


@case("a foreign Route from outside: 403, counted, logged, nothing sent")
def _(t):
    server, victim = t.server(), t.server(20)
    weir = t.edge([server])
    for route in (f"<sip:{victim.hostport};lr>", f"<sip:{victim.hostport}>",
                  f"<sip:{t.ip(1)}:5060;lr>, <sip:{victim.hostport};lr>",
                  f"<sip:{t.ip(2)}:5060;lr>, <sip:{victim.hostport};lr>",
                  "<sip:b2bua-no-14.example.net;lr>, <sip:sip-lb-2.example.net;lr>"):
        call = t.call(t.end(100, 0), extra=[("Route", route)]).invite()
        equal(call.final().status, 403, f"INVITE with {route}")
    equal((server.log, victim.log), ([], []), "nothing is sent anywhere")
    check(weir.counters()["routes_refused"] >= 5, "counted")
    rows = weir.logged(lambda r: r.get("status") == 403, 5)
    equal(rows[0]["end"][0], "P", f"logged as ended by policy: {rows[0]}")


@case("a foreign Route by an ACK, a BYE and an OPTIONS: no way round")
def _(t):
    server, victim = t.server(), t.server(20)
    t.edge([server])
    call = t.call()
    route = [("Route", f"<sip:{victim.hostport};lr>")]
    for method in ("BYE", "OPTIONS", "MESSAGE", "REGISTER"):
        equal(call.ask(method, extra=route).status, 403, method)
    data, _ = call.request("ACK", extra=route, cseq=1)
    call.send(data)
    victim.none(lambda m: True, 0.3, "at the victim")


@case("a foreign Route with `foreign_route: strip` is taken off, and the rules decide")
def _(t):
    server, victim = t.server(), t.server(20)
    weir = t.edge([server], policy={"foreign_route": "strip"})
    call = t.call(extra=[("Route", f"<sip:{victim.hostport};lr>"),
                         ("Route", "<sip:second.example.net;lr>")])
    call.invite().final()
    equal(server.invites()[0].all("route"), [], "Route")
    equal(victim.log, [], "nothing at the victim")
    equal(weir.counters()["routes_stripped"], 1, "counted")


@case("a preloaded Route that is this edge itself is popped")
def _(t):
    server = t.server()
    t.edge([server])
    for route in (f"<sip:{t.ip(1)}:5060;lr>", f"<sip:{t.ip(1)};lr>", f"\"us\" <sip:{t.ip(1)};lr>"):
        call = t.call(t.end(100, 0), extra=[("Route", route)])
        equal(call.invite().final().status, 200, f"INVITE with {route}")
        equal(server.invites()[-1].all("route"), [], "Route")


@case("the loop of the talk: inbound, outbound, inbound by a Route with a mark of our own: 403")
def _(t):
    server = t.server()
    t.edge([server])
    for route in (f"<sip:{t.ip(1)}:5060;lr>, <sip:{t.ip(1)}:5060;lr;side=inside>, "
                  f"<sip:{t.ip(99)};transport=udp;lr>",
                  f"<sip:inbound@{t.ip(1)}:5060;lr>"):
        call = t.call(t.end(100, 0), extra=[("Route", route)]).invite()
        equal(call.final().status, 403, f"INVITE with {route}")
    equal(server.log, [], "nothing goes further")


@case("a token lifted into another dialog: 403")
def _(t):
    server = t.server()
    weir = t.edge([server])
    call = own_token(t, server)
    thief = t.call(t.end(101))
    thief.routes, thief.remote, thief.to_tag = call.routes, call.remote, "stolen"
    before = len(server.log)
    for method in ("BYE", "INFO", "MESSAGE"):
        equal(thief.ask(method).status, 403, method)
    thief.to_tag = None
    thief.last_invite = None
    thief.invite(routes=call.routes)
    equal(thief.final().status, 403, "INVITE")
    equal(len(server.log), before, "nothing goes further")
    check(weir.counters()["tokens_bad"] >= 4, "counted")
    equal(call.bye().status, 200, "the dialog it was stolen from lives")


@case("a token with any one character changed: 403")
def _(t):
    server = t.server()
    t.edge([server])
    call = own_token(t, server)
    good = list(call.routes)
    user = re.search(r"sip:([^@>]+)@", good[0])
    check(user, f"the token is the user part: {good[0]}")
    token = user.group(1)
    step = max(1, len(token) // 24)
    for at in range(0, len(token), step):
        other = "A" if token[at] != "A" else "B"
        bad = token[:at] + other + token[at + 1:]
        call.routes = [good[0].replace(token, bad)] + [
            r.replace(token, bad) for r in good[1:]]
        equal(call.ask("INFO").status, 403, f"character {at} changed")
    for bad in (token + "A", token[:-1], token[1:], token * 2, ""):
        call.routes = [f"<sip:{bad}@{t.ip(1)}:5060;lr>"]
        got = call.ask("INFO").status
        check(got in (400, 403), f"token {bad[:20]}…: {got}")
    call.routes = good
    equal(call.bye().status, 200, "the right one")


@case("a strict router: our URI as Request-URI, the target last in the Route")
def _(t):
    server = t.server()
    t.edge([server])
    call = own_token(t, server)
    uri = sip.uri_of(call.routes[0])
    rest = call.routes[1:] + [f"<{call.remote}>"]
    got = call.ask("INFO", uri=uri, routes=rest)
    equal(got.status, 200, "INFO of a strict router")
    info = server.seen("INFO")[0]
    equal((info.uri, info.all("route")), (call.remote, []), "what the server sees")


@case("a strict router next: the Request-URI is its, ours goes last")
def _(t):
    strict = t.server(30)
    t.edge([t.server()])
    inside = t.end(10 + 1)
    call = ends.Call(inside, (t.ip(2), 5060), uri="sip:carol@192.0.2.7")
    call.extra = [("Route", f"<sip:{t.ip(2)}:5060;lr>"),
                  ("Route", f"<sip:strict@{strict.hostport}>")]
    call.invite()
    invite = strict.wait(lambda m: m.method == "INVITE" and m.status is None, what="INVITE")
    equal(invite.uri, f"sip:strict@{strict.hostport}", "Request-URI")
    equal([sip.uri_of(r) for r in invite.all("route")], ["sip:carol@192.0.2.7"], "Route")


@case("from inside: loose routing as RFC 3261 says, and by the Request-URI")
def _(t):
    out, other = t.server(30), t.server(31)
    t.edge([t.server()])
    inside = t.end(11)
    to = (t.ip(2), 5060)
    call = ends.Call(inside, to, uri=f"sip:dave@{other.hostport}",
                     extra=[("Route", f"<sip:{t.ip(2)}:5060;lr>, <sip:{out.hostport};lr>")])
    equal(call.invite().final().status, 200, "INVITE by Route")
    invite = out.invites()[0]
    equal(len(invite.all("route")), 1, "the next hop's Route stays")
    equal(invite.uri, f"sip:dave@{other.hostport}", "Request-URI")
    call = ends.Call(inside, to, uri=f"sip:dave@{other.hostport}")
    call.whole()
    equal(len(other.invites()), 1, "INVITE by Request-URI")


@case("the same Request-URI trick from outside goes to the pool")
def _(t):
    server, other = t.server(), t.server(31)
    t.edge([server])
    call = t.call(uri=f"sip:dave@{other.hostport}")
    call.invite().final()
    equal((len(server.invites()), len(other.invites())), (1, 0), "INVITEs")


@case("Record-Route is double when sides differ (tcp outside, udp inside): both ends can use it")
def _(t):
    server = t.server()
    t.edge([server])
    end = t.end(100, tcp=True)
    call = t.call(end, tcp=True)
    ok = call.invite().final()
    invite = server.invites()[0]
    routes = [sip.uri_of(r) for r in invite.all("record-route")]
    equal(len(routes), 2, f"Record-Route: {routes}")
    check(t.ip(2) in routes[0] and t.ip(1) in routes[1], f"the server's side first: {routes}")
    check("transport=tcp" in routes[1], f"the caller's is tcp: {routes}")
    back = ends.Call(server, sip.host_port(routes[0]), call_id=call.call_id,
                     from_tag=ok.tag("to"))
    back.to_tag, back.routes = call.from_tag, invite.all("record-route")
    back.remote = invite.contact_uri()
    data, branch = back.request("BYE")
    back.send(data)
    got = end.wait(lambda m: m.method == "BYE" and m.status is None, what="the server's BYE")
    check(got.conn is call.to, "it comes down the caller's own connection")
    end.answer(got, sip.reply(got, 200))
    server.wait(lambda m: m.status == 200 and m.branch == branch, what="its answer")


@case("the caller's connection is gone: 430 at once, and no new one to the phone")
def _(t):
    server = t.server()
    t.edge([server])
    end = t.end(100, tcp=True)
    call = t.call(end, tcp=True)
    ok = call.invite().final()
    server.wait(lambda m: m.method == "ACK", what="ACK")
    invite = server.invites()[0]
    call.to.close()
    ends.until(lambda: True, "")
    back = ends.Call(server, sip.host_port(invite.all("record-route")[0]), call_id=call.call_id,
                     from_tag=ok.tag("to"))
    back.to_tag, back.routes = call.from_tag, invite.all("record-route")
    back.remote = invite.contact_uri()
    import time
    time.sleep(0.2)
    conns = len(end.conns)
    equal(back.bye().status, 430, "BYE to a connection that is gone")
    equal(len(end.conns), conns, "connections to the phone")


@case("a dialog outlives a reload, and with a shared secret a restart")
def _(t):
    import os
    import signal
    secret = os.path.join(t.folder, "tokens")
    with open(secret, "w", encoding="ascii") as f:
        f.write("a secret of this scenario, at least sixteen bytes\n")
    os.chmod(secret, 0o600)
    server = t.server()
    config = t.config([server], secrets={"tokens": secret})
    weir = t.weir(config)
    call = own_token(t, server)
    equal(weir.command("reload")[0], 0, "reload")
    equal(call.ask("INFO").status, 200, "INFO after the reload")
    weir.signal(signal.SIGTERM)
    weir.wait(40)
    t.weir(config)
    equal(call.bye().status, 200, "BYE after the restart")


@case("trusted networks are inside, whatever listener they come in by")
def _(t):
    server, other = t.server(10), t.server(31)
    t.edge([server], trusted=[f"{t.ip(100)}/32"])
    uri = f"sip:dave@{other.hostport}"
    believed, not_believed = t.call(t.end(100), uri=uri), t.call(t.end(101), uri=uri)
    route = [("Route", f"<sip:{other.hostport};lr>")]
    equal(believed.ask("MESSAGE", extra=route).status, 200, "MESSAGE of a trusted host by Route")
    equal(not_believed.ask("MESSAGE", extra=route).status, 403, "MESSAGE of another")
    equal(len(other.seen("MESSAGE")), 1, "at the other server")


@case("from inside to a name: resolved off the message path, or a clear answer (RFC 3263)")
def _(t):
    import socket
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    out = t.keep(ends.Server("127.0.0.1", port))
    t.edge([t.server()])
    inside = t.end(11)
    to = (t.ip(2), 5060)
    call = ends.Call(inside, to, uri=f"sip:dave@localhost:{port};transport=udp")
    equal(call.ask("MESSAGE", timeout=10).status, 200, "MESSAGE to localhost")
    equal(len(out.seen("MESSAGE")), 1, "at the server of that name")
    got = ends.Call(inside, to, uri="sip:dave@no-such-host.invalid").ask("MESSAGE", timeout=30)
    check(got.status in (404, 408, 480, 500, 503), f"MESSAGE to nowhere: {got.start}")
    call = ends.Call(inside, to, uri=f"sip:dave@{out.hostport}")
    equal(call.ask("MESSAGE").status, 200, "and the edge goes on")
