"""Loopback addresses that stand for pod addresses: each node has its own, all use the same port."""

import itertools
import os
import socket
from collections.abc import Iterable, Iterator
from typing import Final

PORT: Final = 6379
BUS_PORT: Final = 16379
NETWORKS: Final = 253 * 256
"""Of 256 addresses each."""
OF_ONE_PROCESS: Final = 64
_next = itertools.count()


class Addresses:
    """Hands out addresses of 127.0.0.0/8 on which the ports are free; never the same one twice.

    Each process has networks of its own and uses another one each time: until a server listens, nothing else tells two
    clusters that start side by side that an address is taken.
    """

    def __init__(self, ports: Iterable[int] = (PORT, BUS_PORT)) -> None:
        self._ports = tuple(ports)
        first = (os.getpid() * OF_ONE_PROCESS + next(_next) % OF_ONE_PROCESS) % NETWORKS
        self._candidates = _loopback_from(1 + first // 256, first % 256)

    def take(self) -> str:
        """An address that was not handed out before."""
        for address in self._candidates:
            if all(_is_free(address, port) for port in self._ports):
                return address
        raise RuntimeError("no free loopback address is left")


def _loopback_from(second: int, third: int) -> Iterator[str]:
    for step in range(256 * 8):
        network = third + step // 254
        yield f"127.{1 + (second + network // 256) % 254}.{network % 256}.{1 + step % 254}"


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True
