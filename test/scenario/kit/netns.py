# SPDX-License-Identifier: Apache-2.0
"""Networks of a case's own: namespaces joined by wires, with real NATs between them.

A namespace here has no name: it is held open by this process, and gone with it, however that ends.
What is made inside of `with space:` (sockets, processes) belongs to it for good."""
import ctypes
import os
import shutil
import socket
import struct
import subprocess

from .ends import Failed

CLONE_NEWNET = 0x40000000
TABLE = """\
add table ip nat
delete table ip nat
table ip nat {{
    chain post {{
        type nat hook postrouting priority 100
        {rule}
    }}
}}
"""
MASQUERADE = 'oifname "wan" masquerade'

_libc = ctypes.CDLL(None, use_errno=True)


def _ask(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno(), what)


def _own():
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


class Space:
    """A network namespace. Its loopback is up."""

    def __init__(self):
        self.outer = []
        outer = _own()
        try:
            _ask(_libc.unshare(CLONE_NEWNET), "unshare")
            self.fd = _own()
        finally:
            _ask(_libc.setns(outer, CLONE_NEWNET), "setns")
            os.close(outer)
        self.ip("link set lo up")

    def __enter__(self):
        self.outer.append(_own())
        _ask(_libc.setns(self.fd, CLONE_NEWNET), "setns")
        return self

    def __exit__(self, *_):
        outer = self.outer.pop()
        _ask(_libc.setns(outer, CLONE_NEWNET), "setns")
        os.close(outer)

    def run(self, *command, text=None):
        with self:
            done = subprocess.run(command, input=text, text=True, capture_output=True, check=False,
                                  timeout=20)
        if done.returncode != 0:
            raise Failed(f"{' '.join(command)}: {done.stderr or done.stdout}")

    def ip(self, words):
        self.run("ip", *words.split())

    def wire(self, name, address, other, other_name, other_address):
        """A cable to another namespace. Addresses with their prefix length."""
        self.ip(f"link add {name} type veth peer name {other_name} "
                f"netns /proc/{os.getpid()}/fd/{other.fd}")
        for space, end, at in ((self, name, address), (other, other_name, other_address)):
            space.ip(f"addr add {at} dev {end}")
            space.ip(f"link set {end} up")

    def sysctl(self, name, value):
        with self, open(f"/proc/sys/net/{name}", "w", encoding="ascii") as f:
            f.write(str(value))

    def nat(self, rule=MASQUERADE):
        """Forwards, and translates by this rule from now on. What is translated already stays."""
        self.sysctl("ipv4/ip_forward", 1)
        self.run("nft", "-f", "-", text=TABLE.format(rule=rule))
        # It never learns a connection from the middle: what it has forgotten is forgotten.
        self.sysctl("netfilter/nf_conntrack_tcp_loose", 0)

    def forget(self):
        """The NAT loses its memory: every connection that it translates is unknown to it."""
        delete = (1 << 8) | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE: without a tuple, all
        with self, socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as s:
            s.settimeout(10)
            s.send(struct.pack("=IHHIIBBH", 20, delete, 1 | 4, 1, 0, 0, 0, 0))
            error = struct.unpack_from("=i", s.recv(4096), 16)[0]
        if error:
            raise OSError(-error, "conntrack")

    def close(self):
        os.close(self.fd)


def here():
    """Can this machine do all of that?"""
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("nft"):
        return False
    spaces = []
    try:
        spaces += [Space(), Space()]
        spaces[0].wire("wan", "192.0.2.1/24", spaces[1], "lan", "192.0.2.2/24")
        spaces[0].nat()
        spaces[0].forget()
        return True
    except (OSError, Failed):
        return False
    finally:
        for space in spaces:
            space.close()
