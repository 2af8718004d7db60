# SPDX-License-Identifier: Apache-2.0
"""Bans for the whole host: what stands in the sets of nftables, and what comes of it.

covers: net/nft.c, net/filter.c
"""
import json
import socket
import subprocess
import time

from kit import netns
from kit.case import case
from kit.ends import check, equal, until

SETS = """\
table inet filter {{
    set {name} {{ type ipv4_addr; flags interval,timeout; }}
    chain input {{
        type filter hook input priority filter
        ip saddr @{name} counter drop
    }}
}}
"""
BANS = "inet filter weir_bans"
GUARD = {"per_source": {"malformed": 1}, "burst": "1s", "ban": {"first": "30s"}, "nftables": BANS}


def make(space, name="weir_bans"):
    space.run("nft", "-f", "-", text=SETS.format(name=name))


def elements(space, name="weir_bans"):
    """What the set holds: {network: seconds left}."""
    with space:
        done = subprocess.run(["nft", "-j", "list", "set", "inet", "filter", name],
                              capture_output=True, text=True, check=True, timeout=20)
    found = next(o["set"] for o in json.loads(done.stdout)["nftables"] if "set" in o)
    held = {}
    for item in (e["elem"] for e in found.get("elem", [])):
        at = item["val"]
        at = f"{at['prefix']['addr']}/{at['prefix']['len']}" if isinstance(at, dict) else at
        held[at] = item["expires"]
    return held


def hears(space, source, to):
    """Does a datagram of `source` reach a program that has nothing to do with Weir?"""
    with space, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as a, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as b:
        a.bind((source, 0))
        b.bind((to, 0))
        b.settimeout(0.5)
        a.sendto(b"hello", b.getsockname())
        try:
            return b.recv(100) == b"hello"
        except OSError:
            return False


def flood(t, end, is_over):
    """Rubbish over connections, again and again, until that."""
    limit = time.monotonic() + 20
    while not is_over():
        check(time.monotonic() < limit, "nothing came of rubbish")
        for _ in range(10):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
                s.settimeout(0.1)
                try:
                    s.bind((end, 0))
                    s.connect(t.outside)
                    s.send(b"\x01\x02 rubbish\r\n\r\n" * 4)
                except OSError:
                    pass


@case("guard.nftables: who floods is in the set and dropped by the rule; after forget it is gone",
      shows=netns.here, timeout=60)
def _(t):
    space = t.keep(netns.Space())
    make(space)
    space.run("nft", "add element " + BANS + " { 192.0.2.1 timeout 1h }")
    with space:
        weir = t.edge([t.server()], guard=GUARD, node={"name": "edge-1", "workers": 2})
        until(lambda: elements(space) == {}, "what a former process left is gone", 10)
        liar, bad, good = t.ip(8), t.ip(9), t.ip(100)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.bind((liar, 0))
            for _ in range(500):
                s.sendto(b"\x01\x02 rubbish", t.outside)
        check(hears(space, bad, good), "before the ban")
        flood(t, bad, lambda: bad in elements(space))
        left = elements(space)
        equal(list(left), [bad], "the set holds whom connections showed, not whom datagrams name")
        check(0 < left[bad] <= 31, f"for as long as the ban lasts: {left}")
        check(not hears(space, bad, good), "the rule drops it, wherever it goes")
        check(hears(space, good, bad), "others are heard")
        t.call(t.end(100), tcp=True).whole()
        equal(weir.command("guard", "forget", bad), (0, "", ""), "forget")
        until(lambda: elements(space) == {}, "it is gone from the set", 10)
        check(hears(space, bad, good), "after it")
        t.call(t.end(9), tcp=True).whole()
        check("notice: bans" not in weir.output(), weir.output())


@case("guard.nftables: a denied network is in the set, until a reload says off",
      shows=netns.here, timeout=60)
def _(t):
    space = t.keep(netns.Space())
    make(space)
    with space:
        guard = {"nftables": BANS, "per_source": {"connects": 5, "malformed": "off"}}
        weir = t.edge([t.server()], guard=guard)
        bad = t.ip(9)
        net = bad.rsplit(".", 1)[0] + ".8/30"
        crowd = t.ip(20)  # it connects too often: it is held off, and banned it is not
        flood(t, crowd, lambda: weir.show("workers")[0]["filters"] > 0)
        equal(weir.command("guard", "deny", net, "--for", "2h"), (0, "", ""), "deny")
        flood(t, bad, lambda: net in elements(space))
        equal(list(elements(space)), [net], "what the set holds")
        check(500 < elements(space)[net] <= 600, f"no longer than ten minutes: {elements(space)}")
        config = dict(weir.config)
        config["guard"] = {}
        weir.write(config)
        equal(weir.command("reload")[0], 0, "reload")
        until(lambda: elements(space) == {}, "nobody takes care of the set any more", 10)
        check(hears(space, bad, t.ip(100)), "it is heard again, elsewhere")
        weir.write({**config, "guard": guard})
        equal(weir.command("reload")[0], 0, "reload")
        until(lambda: net in elements(space), "and back", 10)


@case("guard.nftables: without the set there is one notice, and calls; once it is there it is used",
      shows=netns.here, timeout=60)
def _(t):
    space = t.keep(netns.Space())
    make(space, "others")
    with space:
        weir = t.edge([t.server()], guard=GUARD)
        told = f"weir: notice: bans are not in nftables: {BANS}: No such file or directory\n"
        until(lambda: told in weir.output(), "a notice", 10)
        bad, good = t.ip(9), t.end(100)
        flood(t, bad, lambda: f'"{bad}/32"' in weir.command("show", "guard", "-o", "json")[1])
        t.call(good, tcp=True).whole()
        t.call(good).whole()
        time.sleep(2)  # it has tried again
        equal(weir.output().count("bans are not in nftables"), 1, "notices")
        space.run("nft", "add set " + BANS + " { type ipv4_addr; flags interval,timeout; }")
        again = f"weir: notice: bans are in nftables again: {BANS}\n"
        until(lambda: again in weir.output(), "it works", 20)
        t.call(good).whole()
