# SPDX-License-Identifier: Apache-2.0
"""What the registrar keeps on disk: what was answered 200 is there after a restart and after
kill -9; what cannot be stored is not acknowledged; a file that cannot be used is said at start.

covers: net/keeping.c cli/unbind.c cli/token.c"""
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import threading
import time

from kit import procs, sip
from kit.case import case
from kit.ends import Failed, check, equal, until

DOMAIN = "example.com"


def config(t, workers=2, **registrar):
    return {
        "node": {"name": "registrar-1", "workers": workers},
        "secrets": {"tokens": os.path.join(t.folder, "tokens")},
        "listeners": [{"name": "phones", "bind": f"udp://{t.ip(1)}:5060", "side": "outside"},
                      {"name": "more", "bind": f"tcp://{t.ip(1)}:5060", "side": "outside"}],
        "routes": [{"to": "registrar"}],
        "roles": {"registrar": {"domains": [DOMAIN], "auth": "none",
                                "state": os.path.join(t.folder, "state"), **registrar}},
    }


def start(t, *args, **kw):
    path = os.path.join(t.folder, "tokens")
    if not os.path.exists(path):
        with open(path, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)) as f:
            f.write("a secret of this case, long enough\n")
    return t.weir(config(t, *args, **kw))


def register(user, me, transport="UDP", expires=600, cseq=1, call_id=None, contact=None):
    contact = contact or f"<sip:{user}@{me[0]}:{me[1]};transport={transport.lower()}>"
    return (f"REGISTER sip:{DOMAIN} SIP/2.0\r\n"
            f"Via: SIP/2.0/{transport} {me[0]}:{me[1]};branch=z9hG4bK{sip.fresh('b')};rport\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:{user}@{DOMAIN}>;tag={sip.fresh('t')}\r\n"
            f"To: <sip:{user}@{DOMAIN}>\r\nCall-ID: {call_id or sip.fresh('c')}\r\n"
            f"CSeq: {cseq} REGISTER\r\nContact: {contact};expires={expires}\r\n"
            f"Content-Length: 0\r\n\r\n").encode()


class Phones:
    """A socket that registers one user after another."""

    def __init__(self, t, n=100, tcp=False):
        self.tcp = tcp
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.sock.bind((t.ip(n), 0))
        self.sock.settimeout(10)
        self.sock.connect((t.ip(1), 5060))
        self.me = self.sock.getsockname()
        t.keep(self)

    def send(self, user, **kw):
        self.sock.sendall(register(user, self.me, "TCP" if self.tcp else "UDP", **kw))

    def answer(self):
        """(status, whole text) of the next one."""
        text = self.sock.recv(65536).decode()
        return int(text.split()[1]), text

    def register(self, user, **kw):
        self.send(user, **kw)
        return self.answer()

    def close(self):
        self.sock.close()


def bindings(weir, aor=None):
    """{user: row}"""
    words = ["show", "bindings"] + ([aor] if aor else []) + ["-o", "json"]
    status, out, err = weir.command(*words)
    equal((status, err), (0, ""), "weir show bindings")
    return {r["aor"].partition("@")[0]: r for r in procs.json_rows(out)}


def store_counter(weir, name):
    return next(r["value"] for r in weir.show("store") if r["counter"] == name)


# ---- restarts --------------------------------------------------------------------------------

@case("registrar store: bindings outlive a restart")
def _(t):
    weir = start(t)
    udp, tcp = Phones(t), Phones(t, tcp=True)
    for i in range(30):
        equal(udp.register(f"u{i}")[0], 200, f"u{i}")
        equal(tcp.register(f"t{i}")[0], 200, f"t{i}")
    equal(udp.register("u7", expires=0, cseq=2)[0], 200, "removal")
    names = {f"u{i}" for i in range(30)} - {"u7"} | {f"t{i}" for i in range(30)}
    equal(set(bindings(weir)), names, "bindings")
    until(lambda: store_counter(weir, "entries") == 59, "entries")
    check(store_counter(weir, "records") >= 61, "records")
    equal(weir.stop(), 0, "exit status")
    equal(os.stat(os.path.join(t.folder, "state")).st_mode & 0o777, 0o700, "mode of the folder")

    weir = start(t)
    check(": 59 bindings" in weir.output(), f"what it said at start: {weir.output()}")
    rows = bindings(weir)
    equal(set(rows), names, "bindings after the restart")
    check(all(500 < r["expires_s"] <= 600 for r in rows.values()), "their time goes on")
    equal(rows["u3"]["contact"], f"sip:u3@{udp.me[0]}:{udp.me[1]};transport=udp", "contact")
    equal(rows["u3"]["source"], f"{udp.me[0]}:{udp.me[1]}", "source")
    equal(rows["t3"].get("flow"), "lost", "a connection of before")
    equal(list(bindings(weir, f"u3@{DOMAIN}")), ["u3"], "of one AOR")
    equal(bindings(weir, f"nobody@{DOMAIN}"), {}, "of nobody")


@case("registrar store: expired bindings are gone after a restart")
def _(t):
    weir = start(t, expires={"min": "1s", "default": "60s", "max": "3600s"})
    phones = Phones(t)
    equal(phones.register("short", expires=1)[0], 200, "short")
    equal(phones.register("long")[0], 200, "long")
    weir.may_die = True
    weir.kill()
    time.sleep(1.2)
    weir = start(t, expires={"min": "1s", "default": "60s", "max": "3600s"})
    equal(set(bindings(weir)), {"long"}, "bindings")
    until(lambda: store_counter(weir, "entries") == 1, "entries")


# ---- kill -9 ---------------------------------------------------------------------------------

class Load(threading.Thread):
    """Registers new users, and the same ones again, with many under way; notes who got his 200 for
    which contact."""

    def __init__(self, phones, first, names):
        super().__init__(daemon=True)
        self.phones, self.next, self.names = phones, first, names
        self.sent, self.acknowledged, self.refused = {}, {}, []
        self.stop = False

    def send_one(self):
        user, self.next = self.names[self.next % len(self.names)], self.next + 1
        call_id = sip.fresh("c")
        self.sent[call_id] = (user, self.next)
        self.phones.send(user, call_id=call_id, cseq=self.next,
                         contact=f"<sip:{user}@192.0.2.1:{1024 + self.next % 60000}>")

    def run(self):
        open_, sock = 0, self.phones.sock
        while not self.stop:
            try:
                while open_ < 64:
                    self.send_one()
                    open_ += 1
                if not select.select([sock], [], [], 0.2)[0]:
                    open_ = 0  # lost
                    continue
                status, text = self.phones.answer()
            except OSError:
                open_ = 0
                continue
            open_ -= 1
            user, number = self.sent[re.search(r"Call-ID: (\S+)", text).group(1)]
            if status == 200:
                self.acknowledged[user] = max(number, self.acknowledged.get(user, 0))
            else:
                self.refused.append(text)


@case("registrar store: kill -9 under load loses nothing that was acknowledged", timeout=120,
      heavy=True)
def _(t):
    names, total, first = [f"user{i}" for i in range(3000)], 0, 0
    for round_ in range(5):
        weir = start(t)
        weir.may_die = True
        load = Load(Phones(t), first, names)
        load.start()
        until(lambda: len(load.acknowledged) >= 300 + 130 * round_, "REGISTERs answered", 20)
        weir.kill()
        load.stop = True
        load.join()
        equal(load.refused, [], "refused")
        total += len(load.acknowledged)
        first = load.next
        weir = start(t)
        there = {}
        for row in weir.show("bindings"):
            port = int(re.search(r":(\d+)", row["contact"]).group(1))
            there.setdefault(row["aor"].partition("@")[0], set()).add(port)
        for user, number in load.acknowledged.items():
            check(1024 + number % 60000 in there.get(user, ()),
                  f"round {round_}: {user} had its 200 for {number}; there is {there.get(user)}")
        equal(weir.stop(), 0, "exit status")
    check(total >= 5 * 300, f"{total} were acknowledged")


# ---- no room ---------------------------------------------------------------------------------

@case("registrar store: a full file refuses REGISTERs with 500, and keeps what it promised")
def _(t):
    weir = start(t, state_size="1MiB")
    phones, kept = Phones(t), []
    for i in range(20000):
        status, text = phones.register(f"user{i:05d}", contact=f"<sip:u@192.0.2.1;x={'y' * 400}>")
        if status != 200:
            break
        kept.append(f"user{i:05d}")
    else:
        raise Failed("it never became full")
    equal(status, 500, "status")
    check(re.search(r"\r\nRetry-After: \d+\r\n", text), f"Retry-After: {text}")
    check(len(kept) > 300, f"{len(kept)} found room")
    check(f"user{len(kept):05d}" not in bindings(weir), "what is not stored does not count")
    check(store_counter(weir, "refused") > 0, "refused")
    last = next(r for r in weir.show("store") if r["counter"] == "last_error")
    check("No space left" in last["meaning"], f"last error: {last}")
    check("weir: notice: bindings are not kept: " in weir.output(), weir.output())
    # Bindings can still end, and that makes room again.
    for user in kept[:120]:
        equal(weir.command("unbind", f"{user}@{DOMAIN}")[0], 0, f"unbind {user}")
    equal(until(lambda: phones.register("late")[0] == 200, "room again"), True, "late")
    weir.may_die = True
    weir.kill()
    weir = start(t, state_size="1MiB")
    equal(set(bindings(weir)), set(kept[120:]) | {"late"}, "bindings after kill -9")


@case("registrar store: a file that is removed while weir runs is said")
def _(t):
    weir, phones = start(t), Phones(t)
    equal(phones.register("alice")[0], 200, "REGISTER")
    check("data.mdb was removed" not in weir.output(), weir.output())
    shutil.rmtree(os.path.join(t.folder, "state"))
    equal(phones.register("bob")[0], 200, "phones are not refused for it")
    until(lambda: "weir: notice: data.mdb was removed: " in weir.output(), "notice")


# ---- files that cannot be used ---------------------------------------------------------------

def refused(t, status, *words):
    weir = t.keep(procs.Weir(t.folder, config(t), build=t.build, wait=False))
    weir.may_die = True
    equal(weir.wait(15), status, f"exit status; it said {weir.output()}")
    for word in words:
        check(word in weir.output(), f"{word!r} in what it said: {weir.output()}")
    check("weir: ready" not in weir.output(), "it did not start")


@case("registrar store: a file that cannot be used is said at start")
def _(t):
    weir = start(t)
    phones = Phones(t)
    for i in range(300):
        equal(phones.register(f"u{i}")[0], 200, "REGISTER")
    state = os.path.join(t.folder, "state")
    refused(t, 1, f"weir: state {state}: another weir (pid {weir.pid}) has it")
    equal(len(bindings(weir)), 300, "the first goes on")
    equal(weir.stop(), 0, "exit status")
    path = os.path.join(state, "data.mdb")
    with open(path, "rb") as f:
        good = f.read()
    for name, bad in (("cut", good[:len(good) // 2]), ("not ours", b"hello, world\n" * 1000),
                      ("zeros", good[:8192] + bytes(len(good) - 8192)),
                      ("one bit", good.replace(b"<sip:u200@", b"<sip:u300@")
                       .replace(b"sip:u200@", b"sip:u300@"))):
        check(bad != good, f"{name}: nothing changed")
        with open(path, "wb") as f:
            f.write(bad)
        refused(t, 78, f"weir: state {state}: data.mdb is damaged", "move data.mdb and lock.mdb")
    with open(path, "wb") as f:
        f.write(good)
    equal(len(bindings(start(t))), 300, "the good one again")


@case("registrar store: a folder that cannot be made or opened is said at start")
def _(t):
    start(t).stop()
    state = os.path.join(t.folder, "state")
    for name in os.listdir(state):
        os.unlink(os.path.join(state, name))
    os.rmdir(state)
    with open(state, "w", encoding="ascii"):
        pass
    refused(t, 78, "it must be a folder")
    os.unlink(state)
    os.symlink(os.path.join(t.folder, "nowhere", "deep"), state)
    refused(t, 78, f"weir: state {state}: cannot ")


# ---- commands --------------------------------------------------------------------------------

@case("registrar store: weir unbind ends bindings, on disk too")
def _(t):
    weir = start(t)
    phones = Phones(t)
    for user in ("alice", "bob"):
        for port in (5080, 5081):
            equal(phones.register(user, contact=f"<sip:{user}@192.0.2.9:{port}>")[0], 200, user)
    for typed in (f"alice@{DOMAIN}", f"sip:alice@{DOMAIN.upper()}", f"<sip:alice@{DOMAIN};x=y>",
                  f"alice@{DOMAIN.upper()}:5060"):
        out = weir.command("show", "bindings", typed, "-o", "json")[1]
        equal([r["aor"] for r in procs.json_rows(out)], [f"alice@{DOMAIN}"] * 2, typed)
    typed = f"sip:alice@{DOMAIN.upper()}"
    status, out, err = weir.command("unbind", typed)
    equal((status, out), (0, ""), "unbind")
    check(f"2 bindings of {typed} removed" in err, err)
    equal(set(bindings(weir)), {"bob"}, "bindings")
    status, _, err = weir.command("unbind", f"alice@{DOMAIN}")
    equal(status, 1, "nothing to remove")
    check("has no bindings" in err, err)
    for words in (["unbind"], ["unbind", "a b"], ["unbind", "a", "b"],
                  ["show", "bindings", "a", "b"], ["show", "store", "x"]):
        equal(weir.command(*words)[0], 64, f"usage of {words}")
    check(f"by an operator: unbind {typed}" in weir.output(), "on record")
    until(lambda: store_counter(weir, "entries") == 2, "entries")
    weir.may_die = True
    weir.kill()
    equal(set(bindings(start(t))), {"bob"}, "bindings after kill -9")


@case("registrar store: weir show tells how long storing takes")
def _(t):
    weir = start(t)
    phones = Phones(t)
    for i in range(100):
        phones.send(f"u{i}")
    for i in range(100):
        equal(phones.answer()[0], 200, "REGISTER")
    rows = weir.show("workers")
    equal(sum(r["stores"] for r in rows), 100, "stores")
    equal(sum(r["stores_refused"] for r in rows), 0, "refused")
    for row in rows:
        check(0 < row["stored_p50_us"] <= row["stored_p99_us"] <= row["stored_max_us"] < 5e6,
              f"times: {row}")
    check(1 < store_counter(weir, "batch_max"), "many at a time")
    check(store_counter(weir, "commits") < 100, "fewer commits than REGISTERs")
    status, out, _ = weir.command("show", "bindings", f"u7@{DOMAIN}")
    equal(status, 0, "show bindings")
    check(re.search(rf"^AOR +CONTACT.*\nu7@{DOMAIN} +sip:u7@\S+ +udp ", out), out)


@case("registrar store: show flows and show bindings name a connection alike")
def _(t):
    weir = start(t)
    equal(Phones(t, tcp=True).register("alice")[0], 200, "REGISTER")
    flow, row = weir.show("flows")[0], weir.show("bindings")[0]
    equal(row["flow"], f'{flow["worker"]}/{flow["slot"]}/{flow["generation"]}', "JSON")
    for what in ("flows", "bindings"):
        out = weir.command("show", what)[1]
        check(re.search(rf'\b{flow["worker"]}/{flow["slot"]}\b', out), out)


@case("registrar store: a full table is said, of bindings and of connections")
def _(t):
    weir = t.weir({**config(t, 1), "secrets": {}, "limits": {"bindings": 16, "flows": 16}})
    phones = Phones(t)
    for i in range(16):
        equal(phones.register(f"u{i}")[0], 200, "REGISTER")
    equal(phones.register("late")[0], 503, "one too many")
    equal(phones.register("u3")[0], 200, "who is registered goes on")
    until(lambda: "weir: notice: table full: bindings\n" in weir.output(), "notice")
    weir.logged(lambda r: r.get("status") == 503 and r["end"] == "RD")
    for i in range(17):
        t.keep(socket.create_connection((t.ip(1), 5060)))
    until(lambda: "weir: notice: table full: connections from others\n" in weir.output(), "notice")


@case("registrar store: who believes everybody, or nobody, is told")
def _(t):
    weir = start(t)
    check("notice: roles.registrar.auth is none" in weir.output(), weir.output())
    path = os.path.join(t.folder, "users")
    with open(path, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)):
        pass
    weir.write(config(t, auth={"digest": path}))
    status, _, err = weir.command("reload")
    equal(status, 0, err)
    check("notice: the credentials file has no users" in weir.output(), weir.output())
    check("weir: notice: the credentials file has no users: nobody can register\n" in err, err)
    done = subprocess.run([procs.binary(t.build), "check", "-c", weir.config_path], timeout=10,
                          capture_output=True, text=True, check=True)
    check(f"2 listeners, a registrar of {DOMAIN} with 0 users, 1 route, 2 workers" in done.stdout,
          done.stdout)
    check("has no users" in done.stderr, done.stderr)


# ---- tokens ----------------------------------------------------------------------------------

def token(t, weir, *words):
    done = subprocess.run([procs.binary(t.build), "token", "-c", weir.config_path, *words],
                          capture_output=True, text=True, timeout=10, check=False)
    return done.returncode, done.stdout, done.stderr


@case("weir token says what a token means, if it is one")
def _(t):
    server = t.server(other=200)
    path = os.path.join(t.folder, "tokens")
    with open(path, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)) as f:
        f.write("a secret of this case, long enough\n")
    edge = t.edge([server], secrets={"tokens": path})
    call = t.call(tcp=True)
    call.invite().final()
    invite = server.invites()[0]
    route = invite.get("Record-Route")
    status, out, err = token(t, edge, route, "-i", call.call_id)
    equal((status, err), (0, ""), f"a route's token: {route}")
    for line in ("kind +route", "made by +node 0|made by +node 1", "dialog +from outside to",
                 rf"caller +{re.escape(t.ip(100))}:\d+ over tcp", r"connection +generation \d+",
                 rf"listener +1: .*tcp://{re.escape(t.ip(1))}:5060"):
        check(re.search(rf"^(?:{line})", out, re.M), f"{line!r} in {out}")
    status, out, err = token(t, edge, route)
    equal((status, out), (1, ""), "without its Call-ID")
    check("--call-id" in err, err)
    equal(token(t, edge, route, "-i", "another")[0], 1, "of another call")
    user = re.search(r"sip:([^@]+)@", route).group(1)
    changed = user[:-3] + ("AAA" if user[-3:] != "AAA" else "BBB")
    status, _, err = token(t, edge, changed, "-i", call.call_id)
    equal(status, 1, "changed")
    check("does not verify" in err or "has not the form" in err, err)
    status, _, err = token(t, edge, "hello")
    check(status == 1 and "has not the form of a token" in err, f"no token: {err}")
    equal(token(t, edge)[0], 64, "no argument")

    register = t.end(101)
    conn = register.connect(t.outside)
    conn.send(register_(conn))
    request = server.wait(lambda m: m.method == "REGISTER")
    status, out, err = token(t, edge, request.get("Path"))
    equal((status, err), (0, ""), f"a flow's token: {request.get('Path')}")
    for line in ("kind +flow", rf"phone +{re.escape(t.ip(101))}:\d+ over tcp"):
        check(re.search(rf"^{line}", out, re.M), f"{line!r} in {out}")
    with open(path, "w", encoding="ascii") as f:
        f.write("another secret, as long as the first\n")
    status, _, err = token(t, edge, request.get("Path"))
    equal(status, 1, "another secret")
    check("a secret that" in err, err)


def register_(conn):
    return register("carol", conn.local, "TCP")
