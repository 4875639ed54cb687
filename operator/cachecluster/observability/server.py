"""Tiny HTTP endpoints: health for the kubelet, metrics for Prometheus."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Page:
    """What one path answers."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


def check(ok: bool, text: str) -> Page:
    """Answer of a probe: 200, or 503 with what is missing."""
    return Page(200 if ok else 503, f"{text}\n".encode())


@asynccontextmanager
async def serve(port: int, pages: Mapping[str, Callable[[], Page]], *, host: str | None = None) -> AsyncIterator[int]:
    """Serve ``pages`` by path on all addresses, or on ``host``; yields the port (0 asks for a free one).

    Connections are not kept open: Kopf waits at its end for every task that was started under it.
    """
    app = web.Application()
    for path, page in pages.items():
        app.router.add_get(path, _handler(page))
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=0, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _handler(page: Callable[[], Page]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_: web.Request) -> web.StreamResponse:
        found = page()
        response = web.Response(body=found.body, status=found.status, headers={"Content-Type": found.content_type})
        response.force_close()
        return response

    return answer
