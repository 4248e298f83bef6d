"""The shared port: taken for certain by the supervisor, listened on by each node with a socket of its own."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from gateway_node.processes import StartError

BACKLOG = 4096  # connections that wait for accept; the kernel lowers it to net.core.somaxconn


class ReservedPort:
    """A port that this server has, on every address of `host`, as long as the object lives.

    The kernel spreads connections over the nodes' sockets by SO_REUSEPORT. That option also lets a second server of the
    same user bind the same port and take half of the connections without a word, so the port is first bound without it.
    The reservation itself does not listen: a node that ended gets no connections, and a port without nodes refuses.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._reserved: list[socket.socket] = []
        self._bindings: list[tuple[int, tuple[Any, ...]]] = []
        addresses = _addresses(host, port)
        # A lone `::` takes IPv4 too; a name with both kinds has a socket for each, which must not collide.
        self._only_ipv6 = len(addresses) > 1
        for family, (where, _, *scope) in addresses:
            address = (where, self.port, *scope)  # port 0: the free one of the first address, on the others too
            self._probe(family, address)
            reserved = self._bound(family, address)
            self.port = reserved.getsockname()[1]
            self._reserved.append(reserved)
            self._bindings.append((family, reserved.getsockname()))

    def listen(self) -> tuple[socket.socket, ...]:
        """Sockets of one node, listening; the reservation need not be open in its process. Raises OSError."""
        result = []
        for family, address in self._bindings:
            own = self._bound(family, address)
            own.listen(BACKLOG)
            own.setblocking(False)
            result.append(own)
        return tuple(result)

    def close(self) -> None:
        for reserved in self._reserved:
            reserved.close()

    def _probe(self, family: int, address: tuple[Any, ...]) -> None:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            self._prepare(probe)
            try:
                probe.bind(address)
                probe.listen(1)
            except OSError as error:
                raise StartError(_why(error, self.host, self.port)) from None

    def _bound(self, family: int, address: tuple[Any, ...]) -> socket.socket:
        result = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._prepare(result)
            result.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            result.bind(address)
        except OSError:
            result.close()
            raise
        return result

    def _prepare(self, new: socket.socket) -> None:
        # Without this, a port would count as used for a minute after its server's end (TIME_WAIT).
        new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if new.family == socket.AF_INET6:
            new.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(self._only_ipv6))


def _addresses(host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise StartError(f"The host {host!r} has no address: set http.host to one that this machine has.") from None
    return list(dict.fromkeys((family, tuple(address)) for family, _, _, _, address in found))


def _why(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"Port {port} on {host} is in use: stop the program that has it, or choose another with --port."
        case errno.EACCES | errno.EPERM:
            return f"Port {port} needs more rights than this user has: choose one above 1023 with --port."
        case errno.EADDRNOTAVAIL:
            return f"The address {host} is not one of this machine: set http.host to one that it has."
        case _:
            return f"Port {port} on {host} cannot be used: {os.strerror(error.errno or 0)}."
