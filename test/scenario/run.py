#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the black-box scenarios against built programs.

    run.py [-k WORD] [-j N] [-v] [--list]

WORD: only cases whose name holds it (comma: any of several). WEIR=path: this program instead of
build/<build>/weir. Each case is a process of its own with its own loopback addresses; whatever a
case started is gone when the case is.
"""
import argparse
import glob
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from kit import case as kit_case  # noqa: E402
from kit import ends, procs  # noqa: E402


def load():
    for path in sorted(glob.glob(os.path.join(HERE, "case_*.py"))):
        importlib.import_module(os.path.basename(path)[:-3])
    return kit_case.CASES


def inside(fn, net, folder, out_fd):
    """Runs one case in this (forked) process; never returns."""
    os.setpgid(0, 0)
    os.dup2(out_fd, 1)
    os.dup2(out_fd, 2)
    status = 0
    context = kit_case.Context(net, folder, fn.case[2])
    try:
        try:
            with context.stack:
                fn(context)
        except BaseException as e:
            print(f"{type(e).__name__}: {e}")  # first: what follows may be long
            for path in sorted(glob.glob(os.path.join(folder, "weir*.out"))):
                with open(path, "rb") as f:
                    text = f.read()[-300:].decode("utf-8", "replace")
                print(f"-- {os.path.basename(path)}:\n{text}")
            raise
    except ends.Failed as e:
        at = [f for f in traceback.extract_tb(e.__traceback__) if "case_" in f.filename]
        print(f"{at[-1].filename.rsplit('/', 1)[-1]}:{at[-1].lineno}: {e}" if at else e)
        status = 1
    except BaseException:
        traceback.print_exc(file=sys.stdout)
        status = 1
    sys.stdout.flush()
    os._exit(status)


class Running:
    def __init__(self, fn, index, base):
        self.fn = fn
        self.name, timeout, _, self.heavy, _ = fn.case
        self.folder = tempfile.mkdtemp(prefix="weir-case-")
        self.out = tempfile.TemporaryFile()
        self.start = time.monotonic()
        self.end = self.start + timeout * float(os.environ.get("SLOW", "1"))
        net = f"127.{base}.{index % 250 + 1}"
        self.pid = os.fork()
        if self.pid == 0:
            inside(fn, net, self.folder, self.out.fileno())

    def poll(self):
        """None, or (ok, text)."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0 and time.monotonic() < self.end:
            return None
        text = ""
        if pid == 0:
            text = f"not done after {self.end - self.start:.0f} s\n"
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        if pid == 0:
            os.waitpid(self.pid, 0)
            status = 1
        self.out.seek(0)
        text += self.out.read().decode("utf-8", "replace")
        ok = os.waitstatus_to_exitcode(status) == 0 if pid else False
        if ok or not os.environ.get("KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            text += f"kept: {self.folder}\n"
        return ok, text


def stop_all(running):
    for r in running:
        try:
            os.killpg(r.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        shutil.rmtree(r.folder, ignore_errors=True)


def run_all(cases, jobs, verbose):
    waiting, running = list(enumerate(cases)), []
    base = 64 + os.getpid() % 150
    passed, failed = 0, []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                index, fn = waiting[0]
                if running and (fn.case[3] or running[0].heavy):
                    break
                waiting.pop(0)
                running.append(Running(fn, index, base))
            for r in list(running):
                done = r.poll()
                if done is None:
                    continue
                running.remove(r)
                ok, text = done
                took_s = time.monotonic() - r.start
                print(f"{'ok' if ok else 'FAILED':6} scenario {r.name} ({took_s:.1f} s)",
                      flush=True)
                if not ok or verbose:
                    lines = text.rstrip().splitlines()
                    for line in lines[:20] + lines[max(20, len(lines) - 40):]:
                        print(f"       {line}", flush=True)
                if ok:
                    passed += 1
                else:
                    failed.append(r.name)
            time.sleep(0.01)
    finally:
        stop_all(running)
    return passed, failed


def main():
    words = argparse.ArgumentParser(description=__doc__,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("-k", default="")
    words.add_argument("-j", type=int, default=4)
    words.add_argument("-v", action="store_true")
    words.add_argument("--list", action="store_true")
    args = words.parse_args()
    cases = [c for c in load() if not args.k or any(w in c.case[0] for w in args.k.split(","))]
    if args.list:
        print("\n".join(c.case[0] for c in cases))
        return 0
    for c in [c for c in cases if c.case[4] is not None and not c.case[4]()]:
        print(f"-      scenario {c.case[0]}: not here, left out")
        cases.remove(c)
    for build in sorted({c.case[2] for c in cases}):
        if not os.path.exists(procs.binary(build)):
            sys.exit(f"{procs.binary(build)} is not there: make BUILD={build}")
    cases.sort(key=lambda c: c.case[3])  # those that want the machine for themselves come last
    passed, failed = run_all(cases, args.j, args.v)
    print(f"{passed} passed, {len(failed)} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *a: sys.exit(1))
    sys.exit(main())
