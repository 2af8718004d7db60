# SPDX-License-Identifier: Apache-2.0
"""Browser phones: SIP.js and JsSIP in a headless Chromium (test/web)."""
import json
import os
import shutil
import subprocess
import threading
import time

from .ends import Failed
from .procs import ROOT

WEB = os.path.join(ROOT, "test/web")


def here():
    return bool(shutil.which("chromium") and shutil.which("node") and
                all(os.path.isdir(os.path.join(WEB, "node_modules", library))
                    for library in ("sip.js", "jssip")))


class Browser:
    """Events are kept in order as dicts, with their time under "at"."""

    def __init__(self, folder):
        self.events = []
        self.errors = open(os.path.join(folder, "browser.out"), "w+", encoding="utf-8")
        self.child = subprocess.Popen(["node", os.path.join(WEB, "browser.mjs")], text=True,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=self.errors)
        self.pid = self.child.pid
        threading.Thread(target=self._read, daemon=True).start()
        self.wait(event="ready", timeout=60)

    def _read(self):
        for line in self.child.stdout:
            event = json.loads(line)
            event["at"] = time.monotonic()
            self.events.append(event)

    def tell(self, **command):
        self.child.stdin.write(json.dumps(command) + "\n")
        self.child.stdin.flush()

    def saw(self, **what):
        return [e for e in self.events if all(e.get(k) == v for k, v in what.items())]

    def wait(self, timeout=30, count=1, **what):
        end = time.monotonic() + timeout
        while len(self.saw(**what)) < count:
            if time.monotonic() > end or self.child.poll() is not None:
                self.errors.seek(0)
                raise Failed(f"the browser never said {what}, but {self.events[-12:]}\n"
                             f"{self.errors.read()[-1500:]}")
            time.sleep(0.01)
        return self.saw(**what)[count - 1]

    def phone(self, name, domain, server, password="", instance=None, **more):
        """Registers a phone and waits until it is. library="jssip": else it is of SIP.js;
        refuses=STATUS: a JsSIP phone takes no call."""
        self.tell(do="start", name=name, domain=domain, server=server, password=password, **more,
                  instance=instance or f"5f3b9a2e-1c2d-4e3f-8a9b-{abs(hash(name)) % 10**12:012d}")
        self.wait(event="registration", name=name, state="Registered")

    def call(self, name, to, domain):
        self.tell(do="call", name=name, to=to, domain=domain)

    def close(self):
        self.child.stdin.close()
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.child.stdout.close()
        self.errors.close()
