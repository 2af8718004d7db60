#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Everything that is checked: `make test`.

    run.py [STAGE ...]      build tidy unit replay sim scenario; without words: all

Each case prints "ok" or "FAILED"; the last line is "N passed, N failed".
"""
import concurrent.futures
import glob
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
CORES = max(2, os.cpu_count() or 2)
SIM_SEEDS = int(os.environ.get("SIM_SEEDS", "200"))

# Built before anything runs. The second compiler has no program of its own to run: it is here for
# its warnings.
BUILDS = [
    ("release", ["BUILD=release", "CC=gcc", "everything"]),
    ("asan", ["BUILD=asan", "CC=gcc", "everything"]),
    ("tsan", ["BUILD=tsan", "CC=gcc", "all", "unit"]),
    ("clang", ["BUILD=release", "CC=clang", "everything"]),
    ("planted", ["BUILD=planted", "CC=gcc", "sim-build"]),
]
TSAN_UNITS = ("base/ring", "net/")


class Tally:
    def __init__(self):
        self.passed = self.failed = 0
        self.failures = []

    def case(self, name, ok, detail=""):
        if ok:
            self.passed += 1
        else:
            self.failed += 1
            self.failures.append(name)
        print(f"{'ok' if ok else 'FAILED':6} {name}", flush=True)
        if not ok and detail:
            for line in detail.rstrip().splitlines()[-60:]:
                print(f"       {line}", flush=True)


def run(command, timeout_s, env=None):
    """(exit status, output); whatever it started is gone afterwards."""
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out,
                                 stderr=subprocess.STDOUT, env={**os.environ, **(env or {})},
                                 start_new_session=True)
        try:
            status = child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            status = f"not done after {timeout_s} s"
        finally:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            child.wait()
        out.seek(0)
        text = out.read().decode("utf-8", "replace")
    return status, text


# ---- stages ----------------------------------------------------------------------------------

def stage_build(tally):
    for name, words in BUILDS:
        start = time.monotonic()
        status, text = run(["make", "-k", "-j", str(CORES), "--no-print-directory", *words], 900)
        errors = "\n".join(x for x in text.splitlines()
                           if not re.match(r"  (CC|AR|LINK|COPY) ", x))
        tally.case(f"build {name} ({time.monotonic() - start:.0f} s)", status == 0, errors)


def stage_tidy(tally):
    status, text = run([sys.executable, "tools/tidy.py"], 300)
    cases = re.findall(r"^(ok|FAILED) +(tidy \w+)[^\n]*\n((?: {7}[^\n]*\n)*)", text, re.M)
    for verdict, name, detail in cases:
        tally.case(name, verdict == "ok", detail)
    if not cases:
        tally.case("tidy", False, f"{status}\n{text}")


def unit_programs(build):
    programs = []
    for source in sorted(glob.glob(os.path.join(ROOT, "test/unit/*/*_test.c"))):
        name = os.path.relpath(source, os.path.join(ROOT, "test/unit"))[:-2]
        programs.append((name, os.path.join(ROOT, "build", build, "test/unit", name)))
    return programs


def run_unit(build, name, program):
    start = time.monotonic()
    if not os.path.exists(program):
        return f"{build} {name}", 0, ["was not built"], "", 0
    status, text = run([program], 240, {"CMOCKA_MESSAGE_OUTPUT": "TAP", "LSAN_OPTIONS": "",
                                        "TSAN_OPTIONS": "halt_on_error=1"})
    skip = re.match(r"1\.\.0 # SKIP (.*)", text)
    if skip and status == 0:
        print(f"-      unit {build} {name}: {skip.group(1)}, left out", flush=True)
        return f"{build} {name}", 0, [], text, 0
    passed = len(re.findall(r"^ok \d+", text, re.M))
    failed = [m.strip(" -") for m in re.findall(r"^not ok \d+(.*)", text, re.M)]
    if not failed and (status != 0 or passed == 0):
        failed = [f"exit status {status}, {passed} cases"]
    return f"{build} {name}", passed, failed, text, time.monotonic() - start


def stage_unit(tally):
    work = [("asan", n, p) for n, p in unit_programs("asan")]
    work += [("tsan", n, p) for n, p in unit_programs("tsan") if n.startswith(TSAN_UNITS)]
    with concurrent.futures.ThreadPoolExecutor(CORES) as pool:
        for name, passed, failed, text, took_s in pool.map(lambda w: run_unit(*w), work):
            if passed:
                tally.passed += passed - 1
                tally.case(f"unit {name}: {passed} cases ({took_s:.1f} s)", True)
            for what in failed:
                tally.case(f"unit {name}: {what}", False, text)
    if not work:
        tally.case("unit", False, "there is no unit test")


def stage_replay(tally):
    targets = sorted(glob.glob(os.path.join(ROOT, "fuzz/*_fuzz.c")))

    def one(source):
        name = os.path.basename(source)[:-len("_fuzz.c")]
        corpus = os.path.join(ROOT, "fuzz/corpus", name)
        program = os.path.join(ROOT, "build/asan/replay", name)
        if not os.path.exists(program):
            return name, False, None, "was not built"
        status, text = run([program, corpus], 240)
        m = re.search(r"^(\d+) inputs$", text, re.M)
        return name, status == 0 and m and int(m.group(1)) > 0, m, text
    with concurrent.futures.ThreadPoolExecutor(CORES) as pool:
        for name, ok, m, text in pool.map(one, targets):
            tally.case(f"replay {name}: {m.group(0) if m else 'no inputs'}", ok, text)
    if not targets:
        tally.case("replay", False, "there is no fuzz target")


def stage_sim(tally):
    """The seeds, by as many processes as there are cores; the same seed gives the same trace."""
    program = os.path.join(ROOT, "build/asan/sim")
    if not os.path.exists(program):
        tally.case("sim", False, "was not built")
        return
    share = (SIM_SEEDS + CORES - 1) // CORES

    def one(work):
        first, world = work
        return *work, run([program, "--first", str(first), "--seeds", str(share), *world], 400)
    with concurrent.futures.ThreadPoolExecutor(CORES) as pool:
        for first, world, (status, text) in pool.map(
                one, [(first, world) for world in ([], ["--flows"])
                      for first in range(1, SIM_SEEDS + 1, share)]):
            tally.case(f"sim {''.join(world)} seeds {first} to {first + share - 1}".replace(
                "  ", " "), status == 0, text)
    status, text = run([os.path.join(ROOT, "build/planted/sim"), "--first", "1", "--seeds", "100"],
                       240)
    tally.case("sim finds a bug that was planted", status == 1, text)
    once = run([program, "--seed", "7", "--trace"], 120)
    again = run([program, "--seed", "7", "--trace"], 120)
    tally.case(f"sim seed 7 twice: one trace of {len(once[1])} bytes",
               once[0] == 0 and once == again and len(once[1]) > 1000, once[1])
    for seed in "1", "2", "3":
        once, again = (run([program, "--avalanche", "--phones", "20000", "--seed", seed, "--check"],
                           240) for _ in range(2))
        tally.case(f"sim avalanche seed {seed}: no second wave, and one without admission or "
                   "without a spread Retry-After", once[0] == 0 and once == again, once[1])


def stage_scenario(tally):
    """Black-box scenarios print their own cases; their last line is a count like ours."""
    child = subprocess.Popen([sys.executable, "test/scenario/run.py"], cwd=ROOT, text=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    last = ""
    try:
        for line in child.stdout:
            if re.fullmatch(r"\d+ passed, \d+ failed\n", line):
                last = line
            else:
                print(line, end="", flush=True)
            if line.startswith("FAILED"):
                tally.failures.append(line[7:].strip())
    finally:
        if child.poll() is None:
            child.terminate()
        status = child.wait()
    m = re.match(r"(\d+) passed, (\d+) failed", last)
    if m:
        tally.passed += int(m.group(1))
        tally.failed += int(m.group(2))
    if not m or (status != 0 and m.group(2) == "0"):
        tally.case("scenario", False, f"exit status {status}, said {last!r}")


STAGES = {name[6:]: fn for name, fn in list(globals().items()) if name.startswith("stage_")}


def main():
    wanted = sys.argv[1:] or list(STAGES)
    for word in wanted:
        if word not in STAGES:
            sys.exit(f"{word}: no such stage; there are {' '.join(STAGES)}")
    tally = Tally()
    start = time.monotonic()
    for word in wanted:
        began = time.monotonic()
        print(f"== {word}", flush=True)
        STAGES[word](tally)
        print(f"== {word}: {time.monotonic() - began:.0f} s", flush=True)
    if tally.failures:
        print("== failed:")
        for name in tally.failures:
            print(f"   {name}")
    print(f"== {time.monotonic() - start:.0f} s")
    print(f"{tally.passed} passed, {tally.failed} failed", flush=True)
    return 1 if tally.failed or not tally.passed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *a: sys.exit(1))
    sys.exit(main())
