"""The running server: where it listens, how it stops, and what it does on a signal."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from tillerman.core.errors import TillermanError, UsageError
from tillerman.core.files import system_words
from tillerman.serving.door import Door
from tillerman.serving.http.app import create_app
from tillerman.serving.http.tls import ensure_pair
from tillerman.serving.settings import Settings

_LOG = logging.getLogger(__name__)
_STOP_SECONDS = 30
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Address:
    """Where a server listens. ``UsageError`` for TLS files that are no pair."""

    host: str = "127.0.0.1"
    port: int = 8000
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def __post_init__(self) -> None:
        ensure_pair(self.tls_cert, self.tls_key)

    @property
    def is_loopback(self) -> bool:
        with suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return self.host == "localhost"

    def url(self, port: int) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self.tls_cert is None else 'https'}://{host}:{port}"

    def ensure_guarded(self, settings: Settings) -> None:
        """``UsageError`` for an address that others reach without a key."""
        if not self.is_loopback and not settings.keys:
            raise UsageError(
                f"--host {self.host}: others can reach it, and no keys are set; 'tillerman keys new --name NAME' makes "
                "one for the [[keys]] of a file that --config names"
            )


def bound(address: Address) -> socket.socket:
    """A socket that has its port, and takes no connection yet."""
    try:
        (family, kind, _, _, where), *_ = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        made = socket.socket(family, kind)
    except OSError as error:
        raise UsageError(f"--host {address.host}: {error.strerror or error}") from None
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(where)
    except OSError as error:
        made.close()
        why = "the port is taken; give another one" if error.errno == 98 else system_words(error)
        raise UsageError(f"--port {address.port}: {why}") from None
    return made


def served_hosts(door: Door, host: str) -> tuple[str, ...] | None:
    """The names under which it may be called; None, any, where keys guard it."""
    return None if door.rules.settings.keys else tuple(dict.fromkeys((*_LOOPBACK, host)))


async def run(
    door: Door,
    address: Address,
    listening: socket.socket,
    ready: Callable[[], None],
    told: Callable[[str], None] = _LOG.warning,
) -> None:
    """Serve until SIGTERM or Ctrl-C: requests that run are answered first, for up to half a minute; a second signal
    ends them. SIGHUP reads artefacts, keys and policy anew. ``ready`` is called when requests may come, ``told``
    with what a reload has taken in."""
    config = uvicorn.Config(
        create_app(door, served_hosts(door, address.host)),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        ssl_certfile=address.tls_cert,
        ssl_keyfile=address.tls_key,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    server = _Server(config)

    def stop() -> None:
        server.force_exit, server.should_exit, door.stopping = server.should_exit, True, True

    loop = asyncio.get_running_loop()
    renewals: set[asyncio.Task[None]] = set()

    def renew() -> None:
        task = asyncio.ensure_future(_renewed(door, told))
        renewals.add(task)
        task.add_done_callback(renewals.discard)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, renew)
    beside = [asyncio.ensure_future(_sync(door))]
    if door.canary is not None:
        beside.append(asyncio.ensure_future(door.canary()))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        if server.started:
            ready()
        await serving
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """They are ours: ``run`` hears them."""
        yield


async def _renewed(door: Door, told: Callable[[str], None]) -> None:
    try:
        await door.renew()
        told(f"read anew: {', '.join(sorted(door.rules.library))}")
        for name, why in door.rules.left_out.items():
            told(f"left out: {name}: {why}")
    except TillermanError as error:
        _LOG.error("not read anew, all stays as it was: %s", error)


async def _sync(door: Door) -> None:
    while door.audit is not None:
        await asyncio.sleep(1)
        await asyncio.to_thread(door.audit.sync)
