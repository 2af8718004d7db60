# SPDX-License-Identifier: Apache-2.0
"""A relay for TCP between a phone and an edge, as a NAT is one: the edge sees the relay's address.
It can break its connections as networks do."""
import selectors
import socket
import struct
import threading

RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: close() sends a reset


class Relay:
    def __init__(self, ip, to, port=0, source=None):
        self.to, self.source = to, source
        self.listener = socket.create_server((ip, port), backlog=64)
        self.address = self.listener.getsockname()
        self.pairs, self.lock = {}, threading.Lock()
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.knock, self.door = socket.socketpair()
        self.selector.register(self.door, selectors.EVENT_READ)
        self.deaf = self.shut = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _accept(self):
        near, _ = self.listener.accept()
        try:
            far = socket.create_connection(self.to, timeout=5,
                                           source_address=(self.source, 0) if self.source else None)
        except OSError:
            near.close()
            return
        for s in (near, far):  # packets go on as they come
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.lock:
            self.pairs[near], self.pairs[far] = far, near
        for s in (near, far):
            self.selector.register(s, selectors.EVENT_READ)

    def _drop(self, s, reset=False):
        with self.lock:
            other = self.pairs.pop(s, None)
            if other is None:
                return
            self.pairs.pop(other, None)
        for one in (s, other):
            self.selector.unregister(one)
            if reset:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            one.close()

    def _run(self):
        while not self.shut:
            for key, _ in self.selector.select():
                s = key.fileobj
                if s is self.door:
                    self._ordered(s.recv(1))
                elif s is self.listener:
                    self._accept()
                elif s in self.pairs:
                    self._pass_on(s)

    def _pass_on(self, s):
        try:
            data = s.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._drop(s)
            return
        if not self.deaf:
            try:
                self.pairs[s].sendall(data)
            except OSError:
                self._drop(s)

    def _ordered(self, order):
        if order == b"r":
            for s in list(self.pairs):
                self._drop(s, reset=True)
            self.done.set()

    def reset(self):
        """Every connection dies with a reset, on both sides; new ones are welcome."""
        self.done = threading.Event()
        self.knock.send(b"r")
        self.done.wait(5)

    def close(self):
        self.reset()
        self.shut = True
        self.knock.send(b"x")
        self.thread.join(5)
        self.listener.close()
        self.knock.close()
        self.door.close()
