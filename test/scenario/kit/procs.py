# SPDX-License-Identifier: Apache-2.0
"""Processes of a case: Weir itself, SIPp, Kamailio. Each is known by its pid, and killed by it."""
import csv
import glob
import json
import os
import signal
import subprocess
import time

from .ends import Failed, check, until

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))
SIPP_FILES = os.path.join(ROOT, "test/scenario/sipp")
READY = "weir: ready"


def binary(build):
    """The program of a build; WEIR names one for all, BUILDS another folder of builds."""
    folder = os.environ.get("BUILDS") or os.path.join(ROOT, "build")
    return os.environ.get("WEIR") or os.path.join(folder, build, "weir")


class Proc:
    def __init__(self, folder, name, command, env=None):
        self.name = name
        self.out_path = os.path.join(folder, f"{name}.out")
        self.out_file = open(self.out_path, "wb")
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.out_file,
                                      stderr=subprocess.STDOUT, cwd=folder,
                                      env={**os.environ, **(env or {})})
        self.pid = self.child.pid

    def output(self):
        with open(self.out_path, "rb") as f:
            return f.read().decode("utf-8", "replace")

    def alive(self):
        return self.child.poll() is None

    def signal(self, number):
        if self.alive():
            os.kill(self.pid, number)

    def wait(self, timeout):
        try:
            return self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} did not end within {timeout} s") from None

    def kill(self):
        """kill -9"""
        self.signal(signal.SIGKILL)
        self.child.wait()
        self.out_file.close()

    close = kill


class Weir(Proc):
    """`weir run` with a file of its own. `config` is a dict: JSON is YAML."""
    count = 0

    def __init__(self, folder, config, build="asan", wait=True, name=None):
        Weir.count += 1
        name = name or f"weir{Weir.count}"
        self.folder, self.build = folder, build
        self.log_path = os.path.join(folder, f"{name}.log")
        self.control = os.path.join(folder, f"{name}.sock")
        self.config_path = os.path.join(folder, f"{name}.yaml")
        self.write(config)
        env = {"ASAN_OPTIONS": "detect_leaks=1:exitcode=99:abort_on_error=0",
               "UBSAN_OPTIONS": "print_stacktrace=1",
               "TSAN_OPTIONS": "exitcode=99:halt_on_error=0"}
        super().__init__(folder, name, [binary(build), "run", "-c", self.config_path], env)
        if wait:
            self.wait_ready()

    def write(self, config):
        config = dict(config)
        config.setdefault("log", {})
        config["log"] = {"to": self.log_path, "format": "json", **config["log"]}
        # A machine that stalls for half a second sheds nothing, but where a case is about that.
        calm = {"shed": {"delay": "off", "age": "off"}}
        config["guard"] = {**calm, **config.get("guard", {})}
        config.setdefault("control", self.control)
        self.config = config
        with open(self.config_path, "w", encoding="utf-8") as f:
            json.dump(config, f, indent=1)

    def wait_ready(self, timeout=15):
        end = time.monotonic() + timeout
        while READY not in self.output():
            if not self.alive():
                raise Failed(f"weir ended at start ({self.child.returncode}):\n{self.output()}")
            if time.monotonic() > end:
                raise Failed(f"weir was not ready within {timeout} s:\n{self.output()}")
            time.sleep(0.01)

    def command(self, *words, timeout=10):
        """A subcommand against this process: (exit status, stdout, stderr)."""
        done = subprocess.run([binary(self.build), *words, "-s", self.control], timeout=timeout,
                              capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def show(self, what):
        """`weir show WHAT -o json` as a list of objects."""
        status, out, err = self.command("show", what, "-o", "json")
        check(status == 0, f"weir show {what}: {status} {err}")
        return json_rows(out)

    def counters(self):
        rows = self.show("counters")
        total = {}
        for row in rows:
            if "name" in row and "value" in row:
                total[row["name"]] = total.get(row["name"], 0) + row["value"]
            else:
                for k, v in row.items():
                    if isinstance(v, int) and k != "worker":
                        total[k] = total.get(k, 0) + v
        return total

    def targets(self, pool=None):
        """{uri: row} of `weir show pools`."""
        return {r["target"]: r for r in self.show("pools")
                if "target" in r and (pool is None or r.get("pool") == pool)}

    def log(self):
        """The finished transactions so far."""
        if not os.path.exists(self.log_path):
            return []
        with open(self.log_path, encoding="utf-8") as f:
            return [json.loads(line) for line in f if line.endswith("\n")]

    def logged(self, match, count=1, timeout=5.0):
        """Waits for `count` records that match; returns them."""
        def got():
            rows = [r for r in self.log() if match(r)]
            return rows if len(rows) >= count else None
        try:
            return until(got, "log records", timeout)
        except Failed:
            rows = self.log()
            raise Failed(f"{count} log records did not come within {timeout} s; there are "
                         f"{len(rows)}, last: {rows[-2:]}") from None

    def stop(self, timeout=40):
        """TERM and the exit status; a sanitizer's finding fails the case."""
        self.signal(signal.SIGTERM)
        status = self.wait(timeout)
        self.check_clean()
        return status

    def check_clean(self):
        text = self.output()
        for word in ("ERROR: AddressSanitizer", "runtime error:", "WARNING: ThreadSanitizer",
                     "ERROR: LeakSanitizer", ": broken: "):
            if word in text:
                raise Failed(f"{self.name}: {text[max(0, text.index(word) - 200):][:4000]}")

    def close(self):
        """Two TERMs: drain, then stop at once; a crash before this is a failure."""
        died = not self.alive() and self.child.returncode not in (0,)
        expected = getattr(self, "may_die", False)
        if self.alive():
            self.signal(signal.SIGTERM)
            time.sleep(0.05)
            self.signal(signal.SIGTERM)
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
                raise Failed(f"{self.name} did not stop after two TERMs") from None
        self.out_file.close()
        self.check_clean()
        if died and not expected:
            raise Failed(f"{self.name} died ({self.child.returncode}):\n{self.output()[-3000:]}")


def json_rows(text):
    rows = []
    for line in text.splitlines():
        if line.strip():
            row = json.loads(line)
            rows += row if isinstance(row, list) else [row]
    return rows


class Sipp(Proc):
    """A SIPp process with one of the scenario files of test/scenario/sipp."""
    count = 0

    def __init__(self, folder, scenario, ip, port, dest=None, calls=None, rate=None, limit=None,
                 tcp=False, options=()):
        Sipp.count += 1
        name = f"sipp{Sipp.count}-{scenario}"
        self.folder = folder
        self.stats = os.path.join(folder, f"{name}.csv")
        self.errors = os.path.join(folder, f"{name}.errors")
        command = ["sipp", "-sf", os.path.join(SIPP_FILES, f"{scenario}.xml"), "-i", ip,
                   "-p", str(port), "-nostdin", "-trace_stat", "-stf", self.stats, "-fd", "1",
                   "-trace_err", "-error_file", self.errors, "-rtt_freq", "1",
                   "-default_behaviors", "all,-bye", "-buff_size", "4194304"]
        command += ["-t", "t1" if tcp else "u1"]
        if calls is not None:
            command += ["-m", str(calls)]
        if rate is not None:
            command += ["-r", str(rate)]
        if limit is not None:
            command += ["-l", str(limit)]
        command += list(options)
        if scenario.startswith("uas"):
            command.append("-aa")  # answers OPTIONS, as health probes want it
        if dest:
            host, at = dest
            command.append(f"[{host}]:{at}" if ":" in host else f"{host}:{at}")
        super().__init__(folder, name, command, {"TERM": "dumb"})

    def numbers(self):
        """The last line of the statistics: successful, failed, retransmissions, …"""
        try:
            with open(self.stats, encoding="utf-8", errors="replace") as f:
                rows = list(csv.DictReader(f, delimiter=";"))
        except OSError:
            rows = []
        last = rows[-1] if rows else {}

        def number(key):
            return int(last.get(key) or 0)
        return {"ok": number("SuccessfulCall(C)"), "failed": number("FailedCall(C)"),
                "created": number("TotalCallCreated"), "again": number("Retransmissions(C)"),
                "open": number("CurrentCall")}

    def errors_text(self):
        text = ""
        for path in glob.glob(self.errors + "*"):
            with open(path, "rb") as f:
                text += f.read(3000).decode("utf-8", "replace")
        return text

    def done(self, calls, timeout=30):
        """Waits for the end; all calls must have succeeded."""
        status = self.wait(timeout)
        n = self.numbers()
        if status != 0 or n["failed"] or n["ok"] != calls:
            raise Failed(f"{self.name}: exit status {status}, {n}\n{self.errors_text()}\n"
                         f"{self.output()[-1500:]}")
        return n

    def stop(self):
        """USR1: SIPp finishes its calls and ends."""
        self.signal(signal.SIGUSR1)


class Kamailio(Proc):
    """Kamailio with a small stateful configuration that records routes and sends every initial
    request to `next_hop` (an address). `extra`: lines more, before its routes."""

    def __init__(self, folder, ip, port, next_hop, tcp_next=False, memory=32, extra=""):
        with open(os.path.join(ROOT, "test/scenario/kamailio.cfg"), encoding="utf-8") as f:
            text = f.read()
        path = os.path.join(folder, "kamailio.cfg")
        to = f"sip:{next_hop[0]}:{next_hop[1]}" + (";transport=tcp" if tcp_next else "")
        with open(path, "w", encoding="utf-8") as f:
            text = text.replace("@LISTEN@", f"{ip}:{port}").replace("@NEXT@", to)
            f.write(text.replace("\nrequest_route {", f"\n{extra}\nrequest_route {{", 1))
        super().__init__(folder, f"kamailio-{port}", [
            "kamailio", "-f", path, "-DD", "-E", "-m", str(memory), "-M", "8", "-Y", folder,
            "-n", "1", "-N", "1"])  # more would overtake each other: a BYE its ACK
        until(lambda: not self.alive() or listening(ip, port), "kamailio", 15)
        check(self.alive(), f"kamailio ended at start:\n{self.output()[-2000:]}")

    def close(self):
        self.signal(signal.SIGTERM)
        try:
            self.child.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()
        self.out_file.close()


def listening(ip, port):
    """Is a UDP socket bound to this address (IPv4), and does a TCP one listen there?"""
    want = "".join(f"{int(b):02X}" for b in reversed(ip.split("."))) + f":{port:04X}"
    with open("/proc/net/udp", encoding="ascii") as f:
        udp = any(line.split()[1] == want for line in f)
    with open("/proc/net/tcp", encoding="ascii") as f:
        return udp and any(line.split()[1] == want and line.split()[3] == "0A" for line in f)
