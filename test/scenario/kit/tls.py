# SPDX-License-Identifier: Apache-2.0
"""Certificates made for a case, and TLS connections of an End.

The TLS engine works on memory, between our own reads and writes of the socket: one thread may read
while another writes, and a test may cut what goes over the wire as it likes (`chop`)."""
import os
import socket
import ssl
import subprocess
import threading
import time

from . import ends


def openssl(*words, text=None):
    subprocess.run(["openssl", *words], check=True, capture_output=True,
                   input=text.encode() if text else None)


class Authority:
    """Signs certificates. Its own is `path`. A second one in the same folder needs a name."""

    def __init__(self, folder, name="ca"):
        self.folder, self.name = folder, name
        self.path, self.key = self.paths(name)
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-days", "30", "-subj", f"/CN=Test {name}", "-out", self.path, "-keyout", self.key,
                "-addext", "basicConstraints=critical,CA:TRUE")

    def paths(self, name):
        return [os.path.join(self.folder, f"{name}.{kind}") for kind in ("pem", "key")]

    def sign(self, name, names=None, days=30, rsa=False, uris=()):
        """(certificate, key): paths. `names`: DNS names and IP addresses of it; otherwise `name`.
        Negative `days`: it has expired that long ago."""
        cert, key = self.paths(name)
        kind = ["rsa:2048"] if rsa else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        request = os.path.join(self.folder, f"{name}.csr")
        openssl("req", "-newkey", *kind, "-nodes", "-subj", f"/CN={name}", "-out", request,
                "-keyout", key)
        alternatives = [f"IP:{n}" if n.replace(".", "").isdigit() or ":" in n else f"DNS:{n}"
                        for n in names or [name]] + [f"URI:{u}" for u in uris]
        extensions = os.path.join(self.folder, f"{name}.ext")
        with open(extensions, "w", encoding="ascii") as f:
            f.write(f"subjectAltName={','.join(alternatives)}\nbasicConstraints=CA:FALSE\n")
        if days > 0:
            openssl("x509", "-req", "-in", request, "-CA", self.path, "-CAkey", self.key,
                    "-CAcreateserial", "-days", str(days), "-extfile", extensions, "-out", cert)
        else:
            self.sign_expired(request, extensions, cert, days)
        os.chmod(key, 0o600)
        return cert, key

    def sign_expired(self, request, extensions, cert, days):
        """`openssl x509` only knows certificates that begin now; `openssl ca` knows others."""
        index = os.path.join(self.folder, f"{self.name}.index")
        open(index, "a", encoding="ascii").close()
        config = os.path.join(self.folder, f"{self.name}.cnf")
        with open(config, "w", encoding="ascii") as f:
            f.write(f"[ca]\ndefault_ca=x\n[x]\ndatabase={index}\nnew_certs_dir={self.folder}\n"
                    "default_md=sha256\npolicy=any\nrand_serial=yes\nunique_subject=no\n"
                    "[any]\ncommonName=supplied\n")

        def day(n):
            return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + n * 86400))
        openssl("ca", "-batch", "-notext", "-config", config, "-in", request, "-out", cert,
                "-cert", self.path, "-keyfile", self.key, "-extfile", extensions,
                "-startdate", day(days - 30), "-enddate", day(days))


def client_context(ca=None, cert=None, key=None, version=None, alpn=()):
    """Verifies the server against `ca` (a path); without one, not at all. `version`: "1.2" or
    "1.3" and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca:
        context.load_verify_locations(ca)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert:
        context.load_cert_chain(cert, key)
    if version:
        context.minimum_version = context.maximum_version = {
            "1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def server_context(cert, key, ca=None):
    """With `ca`, a client needs a certificate that it signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    if ca:
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class Plain:
    """The bytes of a socket, as they are. `chop`: how many bytes go into one segment, at most."""

    def __init__(self, sock):
        self.sock, self.chop = sock, None

    def send(self, data):
        step = self.chop or len(data) or 1
        for at in range(0, len(data), step):
            self.sock.sendall(data[at:at + step])
            if self.chop:
                time.sleep(0.001)

    def recv(self):
        """Some bytes; none at the end."""
        return self.sock.recv(65536)

    def end(self):
        pass


class Tls(Plain):
    """The bytes inside of TLS. `ssl` is the SSLObject: version(), cipher(), session_reused ..."""

    def __init__(self, sock, context, name=None, server=False, session=None):
        super().__init__(sock)
        self.lock = threading.Lock()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = context.wrap_bio(self.incoming, self.outgoing, server_side=server,
                                    server_hostname=name, session=session)
        self.over = False
        while True:
            try:
                self.ssl.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.flush()
                self.more()
            except ssl.SSLError:
                self.flush()  # the alert
                raise
        self.flush()

    def flush(self):
        super().send(self.outgoing.read())

    def more(self):
        got = self.sock.recv(65536)
        if got:
            self.incoming.write(got)
        else:
            self.incoming.write_eof()

    def send(self, data):
        with self.lock:
            while data:
                data = data[self.ssl.write(data):]
            self.flush()

    def recv(self):
        while True:
            with self.lock:
                try:
                    got = self.ssl.read(65536)
                    self.flush()  # an answer to a KeyUpdate
                    self.over |= not got  # close_notify
                    return got
                except ssl.SSLWantReadError:
                    self.flush()
                except ssl.SSLZeroReturnError:
                    self.over = True
                    return b""
            got = self.sock.recv(65536)
            with self.lock:
                if got:
                    self.incoming.write(got)
                else:
                    self.incoming.write_eof()

    def end(self):
        """Says close_notify."""
        with self.lock:
            try:
                self.ssl.unwrap()
            except (ssl.SSLError, OSError):
                pass
            self.flush()


class Conn(ends.Conn):
    """A connection of an End over TLS, or whatever `layer` makes of its socket."""
    transport = "tls"

    def __init__(self, end, sock, layer, rest=b""):
        """`rest`: what was read of it before."""
        self.layer, self.rest, self.error = layer, rest, None
        super().__init__(end, sock)

    def send(self, data):
        self.layer.send(data)

    def read(self):
        try:
            data = self.cut(self.rest)
            while True:
                got = self.layer.recv()
                if not got:
                    break
                data = self.cut(data + got)
        except (OSError, ends.Failed) as error:  # ssl.SSLError is an OSError
            self.error = error
        self.closed.set()
        with self.end.changed:
            self.end.changed.notify_all()

    def close(self):
        try:
            self.layer.end()
        except OSError:
            pass
        super().close()


def open_socket(end, dest, local_port=0, timeout=10):
    sock = socket.socket(ends.family(end.ip), socket.SOCK_STREAM)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.bind((end.ip, local_port))
    sock.settimeout(timeout)
    sock.connect(dest)
    return sock


def connect(end, dest, context=None, name=None, session=None, local_port=0):
    """A TLS connection from an End, its handshake done; ssl.SSLError when that fails. `name` is
    asked for (SNI), and verified when the context verifies."""
    sock = open_socket(end, dest, local_port)
    try:
        layer = Tls(sock, context or client_context(), name, session=session)
    except OSError:
        sock.close()
        raise
    sock.settimeout(None)
    conn = Conn(end, sock, layer)
    end.conns.append(conn)
    return conn


class Server(ends.Server):
    """A scripted target over TLS. Handshakes that fail are kept in `failures`."""

    def __init__(self, ip, port=0, context=None, **kw):
        self.context, self.failures = context, []
        super().__init__(ip, port, udp=False, tcp=True, transport="tls", **kw)

    def accept(self):
        listener = self.listener
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.welcome, args=(sock,), daemon=True).start()

    def welcome(self, sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(10)
        try:
            layer = Tls(sock, self.context, server=True)
        except OSError as error:
            self.failures.append(error)
            sock.close()
            return
        sock.settimeout(None)
        self.conns.append(Conn(self, sock, layer))
