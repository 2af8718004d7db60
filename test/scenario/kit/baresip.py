# SPDX-License-Identifier: Apache-2.0
"""A real phone: baresip without a screen or a sound card, told what to do over its control socket
(netstrings of JSON)."""
import json
import os
import socket
import threading
import time

from .ends import Failed
from .procs import Proc

MODULES = "/usr/lib/baresip/modules"
CONFIG = """\
module_path {modules}
module g711.so
module aubridge.so
module_tmp uuid.so
module_tmp account.so
module_app ctrl_tcp.so
module_app menu.so
sip_listen {ip}:{port}
sip_verify_server no
call_max_calls 8
audio_player aubridge,nowhere
audio_source aubridge,nowhere
audio_alert aubridge,nowhere
ring_aufile none
ctrl_tcp_listen {ip}:{control}
rtp_ports {rtp}-{rtp_end}
rtp_timeout 0
"""


def here():
    return os.path.exists(os.path.join(MODULES, "ctrl_tcp.so"))


class Baresip:
    """`edges`: one or two "host:port;transport=tls"; two make two flows (RFC 5626). Events are
    kept as dicts with their time under "at"."""

    def __init__(self, folder, ip, name, domain, edges, password="", expires=600, answer=True,
                 keepalive=False):
        self.name, self.aor = name, f"sip:{name}@{domain}"
        home = os.path.join(folder, f"baresip-{name}")
        os.mkdir(home)
        with open(os.path.join(home, "config"), "w", encoding="utf-8") as f:
            f.write(CONFIG.format(modules=MODULES, ip=ip, port=5062, control=4444, rtp=20000,
                                  rtp_end=20100))
        transport = edges[0].partition(";")[2]
        account = f"<{self.aor}{';' + transport if transport else ''}>"
        account += f";auth_user={name};auth_pass={password}" if password else ";auth_pass=none"
        for n, edge in enumerate(edges):
            account += f";outbound{n + 1}=\"sip:{edge}\""
        account += f";regint={expires};answermode=manual"
        account += ";sipnat=outbound" if len(edges) > 1 or keepalive else ""
        for empty in ("accounts", "contacts"):
            open(os.path.join(home, empty), "w", encoding="utf-8").close()
        self.answer = answer
        self.events, self.replies = [], []
        self.proc = Proc(folder, f"baresip-{name}", ["baresip", "-f", home, "-v"])
        self.pid = self.proc.pid
        self.control = self._connect((ip, 4444))
        threading.Thread(target=self._read, daemon=True).start()
        self.tell("uanew", account)  # only now, so that no event is missed

    def _connect(self, address):
        end = time.monotonic() + 15
        while True:
            try:
                return socket.create_connection(address, timeout=15)
            except OSError:
                if time.monotonic() > end or not self.proc.alive():
                    raise Failed(f"{self.proc.name} did not start:\n{self.proc.output()}") from None
                time.sleep(0.05)

    def _read(self):
        rest = b""
        self.control.settimeout(None)
        while True:
            try:
                more = self.control.recv(65536)
            except OSError:
                return
            if not more:
                return
            rest += more
            while b":" in rest:
                size, _, tail = rest.partition(b":")
                if len(tail) < int(size) + 1:
                    break
                message = json.loads(tail[:int(size)])
                message["at"] = time.monotonic()
                (self.events if message.get("event") else self.replies).append(message)
                if self.answer and message.get("type") == "CALL_INCOMING":
                    self.tell("accept")  # by itself, baresip answers without an event
                rest = tail[int(size) + 1:]

    def tell(self, command, params=""):
        text = json.dumps({"command": command, "params": params}).encode()
        self.control.sendall(b"%d:%s," % (len(text), text))

    def saw(self, kind, since=0.0):
        return [e for e in self.events if e.get("type") == kind and e["at"] >= since]

    def wait(self, kind, count=1, since=0.0, timeout=20):
        end = time.monotonic() + timeout
        while len(self.saw(kind, since)) < count:
            if time.monotonic() > end or not self.proc.alive():
                seen = [e.get("type") for e in self.events]
                raise Failed(f"{self.proc.name}: no {count} × {kind} within {timeout} s, but {seen}"
                             f"\n{self.proc.output()[-2000:]}")
            time.sleep(0.01)
        return self.saw(kind, since)[count - 1]

    def dial(self, uri):
        self.tell("dial", uri)

    def hangup(self):
        self.tell("hangup")

    def close(self):
        self.control.close()
        self.proc.close()
