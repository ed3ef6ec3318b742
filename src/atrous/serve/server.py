"""The process: a socket, uvicorn, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn

from atrous.errors import ConfigError
from atrous.serve.app import make_app
from atrous.serve.connection import Connection
from atrous.serve.guard import Guard
from atrous.serve.logs import log
from atrous.serve.service import Service
from atrous.serve.settings import Settings

_KEEP_ALIVE = 20
_CUT_OFF = 2
_QUIET_LOOKS = 5


def listen(settings: Settings) -> socket.socket:
    """Take the address, before anything that takes long is done.

    Raises:
        ConfigError: it cannot be had.
    """
    try:
        [(family, *_, address), *_] = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        bound = socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.host}, port {settings.port}: {_reason(error)}; "
            "`host` and `port` take another address"
        ) from None
    bound.setblocking(False)
    # Inherited by connections; asyncio does it only for sockets made otherwise, and without it an
    # answer's body waits 40 ms for the client to acknowledge its head.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound


def _reason(error: OSError) -> str:
    """What the system says; Python adds the address to it, which is named already."""
    known = error.errno in errno.errorcode and not isinstance(error, socket.gaierror)
    return os.strerror(error.errno or 0) if known else error.strerror or str(error)


def url_of(bound: socket.socket) -> str:
    """Where a browser finds the server."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(service: Service, bound: socket.socket, ready: Callable[[Server], None]) -> bool:
    """Serve until SIGTERM or SIGINT.

    From then on the server says that it is not ready and takes nothing more in; what is under way
    is finished, for the grace period at most, and a second signal ends it at once.

    Args:
        service: the models; closed at the end.
        bound: from `listen`.
        ready: called when requests are answered.

    Returns:
        whether all that was under way was finished.
    """
    guard = make_app(service)
    server = Server(service, guard, ready)
    try:
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            runner.run(server.serve(sockets=[bound]))
    finally:
        finished = not guard.busy and not server.cut_off
        service.close(wait=finished)
    return finished


class Server(uvicorn.Server):
    """uvicorn with an end of our own.

    Args:
        service: asked whether it is draining, and told to.
        guard: the application.
        ready: called when requests are answered.

    Attributes:
        cut_off: whether requests were given up.
    """

    def __init__(
        self, service: Service, guard: Guard, ready: Callable[[Server], None] | None = None
    ) -> None:
        super().__init__(
            uvicorn.Config(
                guard,
                http=Connection,
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=_CUT_OFF,
            )
        )
        self._service, self._guard, self._ready = service, guard, ready
        self._ending: asyncio.Task[None] | None = None
        self.cut_off = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `startup`: uvicorn would end by the signal, and not with 0."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, self.stop)
        if self._ready is not None:
            self._ready(self)

    def stop(self) -> None:
        """End after what is under way, or at once if called again."""
        if self._service.draining:
            self.cut_off = bool(self._left)
            self.should_exit = self.force_exit = True
            return
        self._service.draining = self._guard.closing = True
        self._ending = asyncio.get_running_loop().create_task(self._drain())

    @property
    def _left(self) -> int:
        """Requests that are worked on, and answers that clients have not taken whole."""
        unsent = sum(
            isinstance(one, Connection) and one.unsent for one in self.server_state.connections
        )
        return max(self._guard.busy, unsent)

    async def _drain(self) -> None:
        log.info("shutting down: %d requests under way", self._guard.busy)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._service.settings.grace_seconds):
                # For a moment more: who has just had an answer may have sent the next request.
                quiet = 0
                while quiet < _QUIET_LOOKS:
                    quiet = 0 if self._left else quiet + 1
                    await asyncio.sleep(0.02)
        if left := self._left:
            self.cut_off = True
            log.error("%d requests given up: the grace period is over", left)
        self.should_exit = True
