# SPDX-License-Identifier: Apache-2.0
"""Cases: how they are named, and what each is given."""
import contextlib
import os
import socket

from . import ends, procs

CASES = []


def case(name, timeout=30, build="asan", heavy=False, shows=None):
    """Marks a function as a case. `build`: which program it runs against. `heavy`: it measures or
    loads the machine, so it runs alone. `shows` skips it with a word unless it is true."""
    def mark(fn):
        fn.case = (name, timeout, build, heavy, shows)
        CASES.append(fn)
        return fn
    return mark


class Context:
    """What a case works with. Its addresses are its own: 127.<a>.<b>.x, so that cases can run
    side by side with well-known ports."""

    def __init__(self, net, folder, build):
        self.net, self.folder, self.build = net, folder, build
        self.stack = contextlib.ExitStack()
        self.v6_used = set()

    def ip(self, n):
        return f"{self.net}.{n}"

    def free_port(self, ip):
        """For ::1, which all cases share: a port below the ephemeral ones, free for UDP and TCP."""
        first = 10000 + (os.getpid() * 37) % 20000
        for port in range(first, first + 2000):
            if port in self.v6_used:
                continue
            try:
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    with socket.socket(ends.family(ip), kind) as s:
                        s.bind((ip, port))
            except OSError:
                continue
            self.v6_used.add(port)
            return port
        raise ends.Failed("no free port")

    def keep(self, thing):
        """Closed at the end of the case, last first."""
        self.stack.callback(thing.close)
        return thing

    def end(self, n=100, port=5060, **kw):
        return self.keep(ends.End(self.ip(n), port, **kw))

    def server(self, n=10, port=5060, **kw):
        return self.keep(ends.Server(self.ip(n), port, **kw))

    def sipp(self, scenario, ip, port, **kw):
        return self.keep(procs.Sipp(self.folder, scenario, ip, port, **kw))

    def kamailio(self, ip, port, next_hop, **kw):
        return self.keep(procs.Kamailio(self.folder, ip, port, next_hop, **kw))

    def weir(self, config, **kw):
        return self.keep(procs.Weir(self.folder, config, build=kw.pop("build", self.build), **kw))

    # ---- the usual edge --------------------------------------------------------------------

    @property
    def outside(self):
        return (self.ip(1), 5060)

    def config(self, targets, pool=None, **more):
        """An edge with udp and tcp listeners on both sides and one pool."""
        targets = [t.target() if isinstance(t, ends.End) else t for t in targets]
        config = {
            "node": {"name": "edge-1", "workers": 1},
            "listeners": [
                {"bind": f"udp://{self.ip(1)}:5060", "side": "outside"},
                {"bind": f"tcp://{self.ip(1)}:5060", "side": "outside"},
                {"bind": f"udp://{self.ip(2)}:5060", "side": "inside"},
                {"bind": f"tcp://{self.ip(2)}:5060", "side": "inside"},
            ],
            "pools": {"border": {"targets": targets, "health": "off", **(pool or {})}},
            "routes": [{"from": "outside", "to": "border"}],
        }
        config.update(more)
        return config

    def edge(self, targets, pool=None, run=None, **more):
        return self.weir(self.config(targets, pool, **more), **(run or {}))

    def call(self, end=None, tcp=False, **kw):
        end = end or self.end()
        to = end.connect(self.outside) if tcp else self.outside
        return ends.Call(end, to, **kw)
