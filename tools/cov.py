#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the unit tests and corpora of a coverage build and prints line coverage by room.

    cov.py BUILD_FOLDER
"""
import collections
import gzip
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))


def files(folder, suffix=""):
    for at, _, names in os.walk(folder):
        for name in sorted(names):
            if name.endswith(suffix):
                yield os.path.join(at, name)


def run_all(build):
    for path in files(build, ".gcda"):
        os.remove(path)
    for path in files(os.path.join(build, "test")):
        done = subprocess.run([path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if done.returncode != 0:
            print(f"failed: {path}", file=sys.stderr)
    for path in files(os.path.join(build, "replay")):
        corpus = os.path.join(ROOT, "fuzz", "corpus", os.path.basename(path))
        if os.path.isdir(corpus):
            subprocess.run([path, corpus], stdout=subprocess.DEVNULL)


def lines_of(build):
    """{source: {line: count}} summed over all objects."""
    hits = collections.defaultdict(lambda: collections.defaultdict(int))
    data = [os.path.abspath(p) for p in files(os.path.join(build, "obj", "src"), ".gcda")]
    with tempfile.TemporaryDirectory() as out:
        for path in data:
            subprocess.run(["gcov", "--json-format", path], cwd=out, check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for name in os.listdir(out):
                with gzip.open(os.path.join(out, name)) as f:
                    for source in json.load(f)["files"]:
                        for line in source["lines"]:
                            hits[source["file"]][line["line_number"]] += line["count"]
                os.remove(os.path.join(out, name))
    return hits


def main():
    build = sys.argv[1]
    run_all(build)
    rooms = collections.defaultdict(lambda: [0, 0])
    for source, lines in sorted(lines_of(build).items()):
        if not source.startswith("src/"):
            continue
        covered = sum(1 for n in lines.values() if n)
        print(f"  {source:40} {covered:5} / {len(lines):5}  {100 * covered / len(lines):5.1f} %")
        room = rooms[source.split("/")[1]]
        room[0] += covered
        room[1] += len(lines)
    for room, (covered, total) in rooms.items():
        print(f"{room:42} {covered:5} / {total:5}  {100 * covered / total:5.1f} %")


if __name__ == "__main__":
    main()
