# SPDX-License-Identifier: Apache-2.0
"""TLS connections with clients that are not ours: Python's ssl, openssl s_client, gnutls-cli.

covers: net/stream_tls.c, net/listeners_tls.c, net/tls.c, wire/tls_record.c
"""
import os
import shutil
import socket
import ssl
import subprocess
import time

from kit import ends, sip, tls, ws
from kit.case import case
from kit.ends import check, equal, until

NAME = "edge.example.com"


def secure_config(t, targets, cert, key, listener=None, **more):
    config = t.config(targets, **more)
    for transport, port in (("tls", 5061), ("wss", 8443)):
        config["listeners"].append({"bind": f"{transport}://{t.ip(1)}:{port}", "side": "outside",
                                    "cert": cert, "key": key, **(listener or {})})
    return config


def secure_edge(t, server=None, listener=None, days=30, **more):
    """(edge, authority): with tls and wss listeners, in front of a UDP server."""
    authority = tls.Authority(t.folder)
    cert, key = authority.sign(NAME, [NAME, t.ip(1)], days=days)
    weir = t.weir(secure_config(t, [server or t.server()], cert, key, listener, **more))
    return weir, authority


def dest(t, port=5061):
    return (t.ip(1), port)


def whole(conn):
    ends.Call(conn.end, conn).whole()


def counter(weir, name):
    return sum(row[name] for row in weir.show("workers"))


def ask(conn, timeout=5, **kw):
    """One OPTIONS and its answer."""
    data, branch = ends.Call(conn.end, conn).request("OPTIONS", **kw)
    conn.send(data)
    got = conn.end.wait(lambda m: m.status == 200 and m.branch == branch, timeout, "answer")
    check(got.conn is conn, "on the same connection")
    return got


for version in ("1.2", "1.3"):
    @case(f"tls: calls over TLS {version}, certificate verified by the client")
    def _(t, version=version):
        server = t.server()
        weir, authority = secure_edge(t, server)
        context = tls.client_context(authority.path, version=version, alpn=("sip/2",))
        conn = tls.connect(t.end(100, 0), dest(t), context, NAME)
        with conn.layer.lock:  # while a ticket is taken in, OpenSSL says that no handshake is done
            equal(conn.layer.ssl.version(), f"TLSv{version}", "version")
        whole(conn)
        check("/TLS " in server.invites()[0].all("via")[-1], "the client's own Via")
        check(any(";transport=tls" in r for r in server.invites()[0].all("record-route")),
              "Record-Route leads back to the TLS listener")
        conn.send(b"\r\n\r\n")
        until(lambda: conn.pongs == 1, "a pong")
        for size in (1, 16384, 16385, 60000):
            ask(conn, body=b"x" * size)
        equal(counter(weir, "tls_handshakes"), 1, "counted")


@case("tls: what goes over the wire cut into bytes, both handshake and messages", timeout=60)
def _(t):
    weir, authority = secure_edge(t)
    conn = tls.connect(t.end(100, 0), dest(t), tls.client_context(authority.path), NAME)
    conn.layer.chop = 1
    ask(conn)
    whole(conn)
    equal(counter(weir, "tls_bad"), 0, "bad records")


@case("tls: sessions are resumed, TLS 1.2 and 1.3")
def _(t):
    secret = os.path.join(t.folder, "tokens")
    with open(secret, "w", encoding="ascii") as f:
        f.write("0123456789abcdef0123456789abcdef\n")
    os.chmod(secret, 0o600)
    weir, authority = secure_edge(t, secrets={"tokens": secret})
    for version in ("1.2", "1.3"):
        context = tls.client_context(authority.path, version=version)
        first = tls.connect(t.end(100, 0), dest(t), context, NAME)
        ask(first)
        session = first.layer.ssl.session
        first.close()
        again = tls.connect(t.end(100, 0), dest(t), context, NAME, session=session)
        check(again.layer.ssl.session_reused, f"resumed, TLS {version}")
        ask(again)
    equal(counter(weir, "tls_resumed"), 2, "counted")


@case("tls: close_notify, an end without it, and a reset: the flow is gone at once")
def _(t):
    weir, _ = secure_edge(t)
    for how in ("notify", "end", "reset"):
        conn = tls.connect(t.end(100, 0), dest(t))
        ask(conn)
        equal(len(weir.show("flows")), 1, "flows")
        if how == "notify":
            conn.layer.end()
            check(conn.closed.wait(5), "the edge ends as well")
            check(conn.layer.over, "with a close_notify")
        elif how == "end":
            conn.sock.shutdown(socket.SHUT_RDWR)
        else:
            conn.reset()
        until(lambda: not weir.show("flows"), f"no flow after {how}")


def serial(conn):
    with conn.layer.lock:
        return conn.layer.ssl.getpeercert()["serialNumber"]


def s_client(t, *words):
    command = ["openssl", "s_client", "-connect", f"{t.ip(1)}:5061", *words]
    p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT)
    t.stack.callback(p.kill)
    os.set_blocking(p.stdout.fileno(), False)
    return p


def said(p, want, count=1, timeout=10):
    """What a program wrote, once `want` is in it so many times."""
    def look():
        p.said = getattr(p, "said", b"") + (p.stdout.read() or b"")
        return p.said.count(want) >= count
    try:
        until(look, f"{want!r} {count} times", timeout)
    except ends.Failed:
        print(p.said[-2000:].decode("utf-8", "replace"))
        raise


def raw_options(transport="TLS"):
    return (f"OPTIONS sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/{transport} 192.0.2.1;rport;"
            f"branch={sip.fresh('z9hG4bK')}\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:bob@example.com>"
            f"\r\nCall-ID: {sip.fresh('c')}\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n"
            "Content-Length: 0\r\n\r\n").encode()


@case("tls: openssl s_client changes its keys, and asks for ours")
def _(t):
    weir, _ = secure_edge(t)
    p = s_client(t, "-tls1_3")
    said(p, b"Verif")
    for n, command in enumerate((b"k\n", b"K\n", b"k\n", b"K\n")):
        p.stdin.write(command)
        p.stdin.flush()
        said(p, b"KEYUPDATE", n + 1)
        p.stdin.write(raw_options())
        p.stdin.flush()
        said(p, b"SIP/2.0 200", n + 1)
    equal(counter(weir, "tls_bad"), 0, "bad records")


@case("tls: openssl s_client asks for a renegotiation of TLS 1.2: refused")
def _(t):
    weir, _ = secure_edge(t)
    p = s_client(t, "-tls1_2")
    said(p, b"Verif")
    p.stdin.write(b"R\n")
    p.stdin.flush()
    check(p.wait(10) is not None, "it ends")
    until(lambda: not weir.show("flows"), "the flow is gone")


@case("tls: gnutls-cli calls", shows=lambda: shutil.which("gnutls-cli"))
def _(t):
    weir, authority = secure_edge(t)
    for priority in ("NORMAL:-VERS-ALL:+VERS-TLS1.3", "NORMAL:-VERS-ALL:+VERS-TLS1.2",
                     "NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305"):
        p = subprocess.Popen(["gnutls-cli", "--x509cafile", authority.path, "--sni-hostname", NAME,
                              "--verify-hostname", NAME, "--priority", priority, "-p", "5061",
                              t.ip(1)],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
        t.stack.callback(p.kill)
        os.set_blocking(p.stdout.fileno(), False)
        said(p, b"Simple Client Mode")
        for n in range(3):
            p.stdin.write(raw_options())
            p.stdin.flush()
            said(p, b"SIP/2.0 200", n + 1)
        p.stdin.close()
        p.wait(10)
    until(lambda: not weir.show("flows"), "the flows are gone")
    equal((counter(weir, "tls_bad"), counter(weir, "tls_failed")), (0, 0), "bad, failed")


@case("tls: Node calls", shows=lambda: shutil.which("node"))
def _(t):
    _, authority = secure_edge(t)
    script = """
const tls = require('tls'), fs = require('fs');
const [ip, ca, name, version, request] = process.argv.slice(1);
const s = tls.connect({host: ip, port: 5061, servername: name, ca: fs.readFileSync(ca),
                       minVersion: version, maxVersion: version}, () => s.write(request));
let text = '';
s.on('data', d => { text += d; if (text.includes('SIP/2.0 200')) s.end(); });
s.on('close', () => { console.log(text.split('\\r\\n')[0]); process.exit(0); });
s.on('error', e => { console.log(String(e)); process.exit(1); });
"""
    for version in ("TLSv1.2", "TLSv1.3"):
        done = subprocess.run(["node", "-e", script, t.ip(1), authority.path, NAME, version,
                               raw_options().decode()], capture_output=True, timeout=20,
                              check=False)
        equal(done.stdout.strip(), b"SIP/2.0 200 OK", f"{version} {done.stderr}")


BAD = (
    ("SIP without TLS", raw_options("TCP")),
    ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("garbage", bytes(range(256)) * 20),
    ("a record that is too long", b"\x16\x03\x01\xff\xff" + bytes(100)),
    ("an old hello", b"\x80\x2e\x01\x03\x01" + bytes(50)),
    ("an alert", b"\x15\x03\x01\x00\x02\x02\x28"),
    ("data before a handshake", b"\x17\x03\x03\x00\x20" + bytes(32)),
)


@case("tls: what is no TLS on a TLS port is closed and counted")
def _(t):
    server = t.server()
    weir, _ = secure_edge(t, server)
    for port in (5061, 8443):
        for n, (what, data) in enumerate(BAD):
            conn = t.end(100, 0).connect(dest(t, port))
            conn.send(data)
            check(conn.closed.wait(5), f"closed after {what}")
            until(lambda n=n: counter(weir, "tls_failed") > n, f"{what} is counted")
    equal((server.log, weir.show("flows")), ([], []), "nothing of it goes further")
    whole(tls.connect(t.end(100, 0), dest(t)))


@case("tls: TLS on a plain port, and HTTP: closed at the first line")
def _(t):
    server = t.server(tcp=True)
    weir, _ = secure_edge(t, server)
    end = t.end(100, 0)
    try:
        tls.connect(end, t.outside)
    except OSError:
        pass
    else:
        check(False, "a handshake on a plain port")
    conn = end.connect(t.outside)
    conn.send(b"POST / HTTP/1.1\r\n")
    check(conn.closed.wait(5), "closed")
    equal(server.log, [], "nothing goes further")
    until(lambda: not weir.show("flows"), "no flows")


@case("tls: records changed on their way end the connection, and nothing of them is read")
def _(t):
    server = t.server()
    weir, _ = secure_edge(t, server)
    for n in range(8):
        conn = tls.connect(t.end(100, 0), dest(t))
        ask(conn)
        before = len(server.log)
        with conn.layer.lock:
            conn.layer.ssl.write(raw_options())
            data = bytearray(conn.layer.outgoing.read())
        data[5 + n * (len(data) - 6) // 7] ^= 1 << n
        conn.sock.sendall(data)
        check(conn.closed.wait(5), "closed")
        equal(len(server.log), before, "messages")
        equal(counter(weir, "tls_bad"), n + 1, "counted")


@case("tls: certificates by name, and the first for names that nobody has")
def _(t):
    authority = tls.Authority(t.folder)
    first = authority.sign("first.example.com")
    second = authority.sign("second.example.com", ["second.example.com", "*.example.net"], rsa=True)
    t.weir(secure_config(t, [t.server()], *first,
                         {"certs": [{"cert": second[0], "key": second[1]}]}))
    for name, want in (("first.example.com", True), ("second.example.com", True),
                       ("third.example.net", True), ("nobody.example.org", False)):
        try:
            ask(tls.connect(t.end(100, 0), dest(t), tls.client_context(authority.path), name))
            equal(want, True, name)
        except ssl.SSLCertVerificationError:
            equal(want, False, name)


@case("tls: an expired certificate is told at start and by check; clients refuse it")
def _(t):
    weir, authority = secure_edge(t, days=-3)
    check("expired" in weir.output(), "a notice at start")
    try:
        tls.connect(t.end(100, 0), dest(t), tls.client_context(authority.path), NAME)
        check(False, "the client believes an expired certificate")
    except ssl.SSLCertVerificationError:
        pass
    until(lambda: counter(weir, "tls_failed") == 1 or counter(weir, "tls_alerts") == 1, "counted")


@case("tls: a certificate that cannot be used: no start, check says why, reload keeps the old")
def _(t):
    authority = tls.Authority(t.folder)
    cert, key = authority.sign(NAME)
    other = authority.sign("other.example.com")
    config = secure_config(t, [t.server()], cert, key)
    weir = t.weir(config)
    config["listeners"][-1]["key"] = other[1]
    weir.write(config)
    status, out = weir.command("reload")[:2]
    check(status != 0, f"reload fails: {out}")
    whole(tls.connect(t.end(100, 0), dest(t), tls.client_context(authority.path), NAME))
    whole(ws.connect(t.end(102, 0), dest(t, 8443), "wss", tls.client_context(authority.path), NAME))


@case("tls: reload brings a new certificate; live flows go on with the old one")
def _(t):
    authority = tls.Authority(t.folder)
    cert, key = authority.sign(NAME)
    weir = t.weir(secure_config(t, [t.server()], cert, key))
    old = tls.connect(t.end(100, 0), dest(t), tls.client_context(authority.path), NAME)
    ask(old)
    before = serial(old)
    half = t.end(100, 0).connect(dest(t))  # a handshake that is under way meanwhile
    half.send(b"\x16\x03\x01")
    authority.sign(NAME)
    for _ in range(3):
        equal(weir.command("reload")[0], 0, "reload")
        new = tls.connect(t.end(100, 0), dest(t), tls.client_context(authority.path), NAME)
        check(serial(new) != before, "another certificate")
        ask(new)
        ask(old)
    half.send(b"\x02\x00\x01" + bytes(512))
    check(half.closed.wait(10), "it ends")
    whole(old)


@case("tls: a client's certificate is asked for, verified, and refused when another signed it")
def _(t):
    authority = tls.Authority(t.folder)
    stranger = tls.Authority(t.folder, "stranger")
    cert, key = authority.sign(NAME)
    weir = t.weir(secure_config(t, [t.server()], cert, key, {"client_ca": authority.path}))
    trunk = authority.sign("trunk.example.com", uris=["sip:trunk.example.com"])
    bad = stranger.sign("bad.example.com")
    whole(tls.connect(t.end(100, 0), dest(t), tls.client_context(authority.path, *trunk), NAME))
    whole(ws.connect(t.end(102, 0), dest(t, 8443), "wss",
                     tls.client_context(authority.path, *trunk), NAME))
    for n, pair in enumerate(((), bad)):
        for version in ("1.2", "1.3"):
            try:
                conn = tls.connect(t.end(100, 0), dest(t),
                                   tls.client_context(authority.path, *pair, version=version), NAME)
                check(conn.closed.wait(5), "TLS 1.3 tells it after the handshake")
            except (ssl.SSLError, OSError):
                pass
        until(lambda n=n: counter(weir, "tls_failed") == 2 * n + 2, "counted")


@case("tls: slow handshakes end, and hold up nobody else", timeout=40)
def _(t):
    weir, _ = secure_edge(t, tls={"within": "1s", "handshakes": 8})
    idle = [t.end(100, 0).connect(dest(t)) for _ in range(20)]
    slow = [t.end(100, 0).connect(dest(t)) for _ in range(7)]
    for conn in slow:
        conn.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    whole(tls.connect(t.end(100, 0), dest(t)))
    more = [t.end(100, 0).connect(dest(t)) for _ in range(20)]
    for conn in more:
        conn.send(b"\x16\x03\x01\x02\x00\x01")
    begin = time.monotonic()
    whole(tls.connect(t.end(100, 0), dest(t)))  # waits for those, and comes through
    check(time.monotonic() - begin < 10, "in time")
    for conn in idle + slow + more:
        check(conn.closed.wait(10), "closed")
    check(counter(weir, "handshakes_slow") >= 27, "counted")
    check(counter(weir, "handshakes_waited") >= 1, "who waited is counted")


@case("tls: thousands of connections that never send are gone in time", timeout=90, heavy=True,
      build="release")
def _(t):
    weir, _ = secure_edge(t, tls={"within": "3s"})
    count = 2000
    conns = []
    for n in range(count):
        sock = socket.create_connection(dest(t, 5061 if n % 2 else 8443), timeout=10)
        sock.setblocking(False)
        conns.append(sock)
    begin = time.monotonic()
    whole(tls.connect(t.end(100, 0), dest(t)))
    check(time.monotonic() - begin < 2, "others are served meanwhile")
    until(lambda: counter(weir, "handshakes_slow") >= count, "all are closed", 30, 0.2)
    equal(sum(sock.recv(1) == b"" for sock in conns), count, "closed")
    for sock in conns:
        sock.close()


@case("tls: resets at each step of a handshake leave nothing behind")
def _(t):
    weir, _ = secure_edge(t)
    context = tls.client_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = context.wrap_bio(incoming, outgoing, server_hostname=NAME)
    try:
        hello.do_handshake()
    except ssl.SSLWantReadError:
        pass
    data = outgoing.read()
    for cut in range(0, len(data) + 1, 13):
        sock = socket.create_connection(dest(t))
        sock.sendall(data[:cut])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()
    until(lambda: sum(r["connections"] for r in weir.show("workers")) == 0, "all gone")
    whole(tls.connect(t.end(100, 0), dest(t)))


@case("tls: stun on a UDP listener is answered")
def _(t):
    weir, _ = secure_edge(t)
    end = t.end(100, 0)
    request = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + b"123456789012"
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((t.ip(103), 5555))
    sock.settimeout(5)
    sock.sendto(request, t.outside)
    answer = sock.recv(1000)
    sock.close()
    equal((answer[:2], answer[8:20]), (b"\x01\x01", request[8:20]), "a success of this request")
    at = answer.index(b"\x00\x20\x00\x08")
    port = int.from_bytes(answer[at + 6:at + 8], "big") ^ 0x2112
    ip = bytes(a ^ b for a, b in zip(answer[at + 8:at + 12], b"\x21\x12\xa4\x42"))
    equal((port, socket.inet_ntoa(ip)), (5555, t.ip(103)), "XOR-MAPPED-ADDRESS")
    equal(counter(weir, "stun_answered"), 1, "counted")
    ends.Call(end, t.outside).whole()


@case("tls: a body of 64 KiB in records of one to nine bytes: no quadratic cost", timeout=60,
      heavy=True, build="release")
def _(t):
    server = t.server(tcp=True)
    weir, _ = secure_edge(t, server.target("tcp"))
    for conn in (tls.connect(t.end(100, 0), dest(t)),
                 ws.connect(t.end(101, 0), dest(t, 8443), "wss")):
        data, branch = ends.Call(conn.end, conn).request("MESSAGE", body=b"v" * 65000)
        if conn.transport == "wss":
            data = ws.frame(data)
        before = cpu_s(weir.pid)
        at = 0
        while at < len(data):
            with conn.layer.lock:
                burst = at + 320
                while at < min(len(data), burst):
                    step = 1 + at % 9
                    conn.layer.ssl.write(data[at:at + step])
                    at += step
                conn.layer.flush()
        got = conn.end.wait(lambda m, b=branch: m.branch == b and m.status >= 200, 20, "answer")
        equal(got.status, 200, "MESSAGE")
        used = cpu_s(weir.pid) - before
        check(used < 1.0, f"CPU time of one MESSAGE in {len(data) // 5} records: {used:.2f} s")


def cpu_s(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        cells = f.read().rpartition(")")[2].split()
    return (int(cells[11]) + int(cells[12])) / 100
