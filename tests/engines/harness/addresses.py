"""Loopback addresses that stand for pod addresses: each node has its own, all use the same port."""

import secrets
import socket
from collections.abc import Iterable, Iterator
from typing import Final

PORT: Final = 6379
BUS_PORT: Final = 16379


class Addresses:
    """Hands out addresses of 127.0.0.0/8 on which the ports are free; never the same one twice.

    Starts at a random place, so that test runs side by side do not meet.
    """

    def __init__(self, ports: Iterable[int] = (PORT, BUS_PORT)) -> None:
        self._ports = tuple(ports)
        self._candidates = _loopback_from(1 + secrets.randbelow(253), secrets.randbelow(256))

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
