"""Around every request: its id, who may ask, one line in the log, and never an answer in HTML."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import time
import uuid
from collections.abc import Collection
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atrous.serve.logs import Trace, access, log
from atrous.serve.metrics import Metrics
from atrous.serve.refusal import ClientGone, Refusal
from atrous.serve.settings import Settings

ABORT = "atrous.abort"
"""In the scope of a request: closes its connection in the middle of its answer."""

HEALTH = frozenset({"/v2/health/live", "/v2/health/ready"})

_ID = re.compile(r"[\w.:@/+=-]{1,128}", re.ASCII)
_ONCE = frozenset(
    {
        b"host",
        b"authorization",
        b"x-api-key",
        b"content-encoding",
        b"content-type",
        b"inference-header-content-length",
    }
)
_LINGER = 2.0
_SMALL = 2**20


class Guard:
    """ASGI middleware, the outermost.

    Args:
        app: what it guards.
        metrics: counts requests.
        settings: the API key, and by which names the server may be called.
        open_paths: paths that need no key; those of `HEALTH` never do.

    Attributes:
        settings: as given.
        busy: requests that are being answered, health and metrics aside.
        closing: whether clients are told to use another connection the next time.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, settings: Settings, open_paths: Collection[str] = ()
    ) -> None:
        self._app, self._metrics, self.settings = app, metrics, settings
        self._key = None if settings.key is None else _digest(settings.key.encode())
        self._open = HEALTH | frozenset(open_paths)
        self.busy = 0
        self.closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        asked = headers.get(b"x-request-id", b"").decode("latin-1")
        client = scope.get("client")
        trace = Trace(
            asked if _ID.fullmatch(asked) else uuid.uuid4().hex,
            client[0] if client else "",
            scope["method"],
            scope["path"],
        )
        scope["atrous.trace"] = trace
        exchange = _Exchange(trace, headers, receive, send, self.settings.send_seconds)
        exchange.last = self.closing
        counts = scope["method"] == "POST"
        self.busy += counts
        try:
            refusal = _twice(scope["headers"]) or self._refusal(scope["path"], headers)
            if refusal is None:
                await self._app(scope, exchange.receive, exchange.send)
            else:
                await exchange.refuse(refusal)
        except ClientGone:
            pass
        except (_NotTaken, asyncio.CancelledError) as error:
            if exchange.started:
                if isinstance(error, _NotTaken):
                    log.warning("request %s: the client did not take its answer", trace.request_id)
                trace.status = 499
                scope.get(ABORT, _nothing)()
            else:
                await exchange.refuse(Refusal(503, "the server is shutting down; try again"))
        except Exception as error:
            log.exception("request %s failed: %s", trace.request_id, error)
            if not exchange.started:
                said = f"internal error, request {trace.request_id} in the server's log"
                await exchange.refuse(Refusal(500, said))
        finally:
            self.busy -= counts
            for release in trace.at_end:
                release()
            trace.at_end.clear()
            route = scope.get("route")
            trace.route = getattr(route, "path", "")
            trace.seconds = time.perf_counter() - began
            method = trace.method if trace.route else "other"
            self._metrics.request(method, trace.route, trace.model, trace.status, trace.seconds)
            access(trace)

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> Refusal | None:
        called = headers.get(b"host", b"localhost").decode("latin-1")
        if not self.settings.is_called(called):
            return Refusal(
                421,
                f"this server is not called {called[:80]!r} but localhost; its operator can "
                "allow that host name, and with an API key any name is accepted",
            )
        if self._has_key(path, headers):
            return None
        return Refusal(
            401,
            "the API key is missing or wrong; send it as Authorization: Bearer KEY or as X-API-Key",
        )

    def _has_key(self, path: str, headers: dict[bytes, bytes]) -> bool:
        if self._key is None or path in self._open:
            return True
        shown = headers.get(b"x-api-key")
        if shown is None:
            scheme, _, shown = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer":
                return False
        # Digests are of one length, so that the time tells nothing of the key.
        return hmac.compare_digest(_digest(shown.strip()), self._key)


class _NotTaken(Exception):
    """A client did not read its answer in time."""


def _twice(headers: list[tuple[bytes, bytes]]) -> Refusal | None:
    """Whether a field occurs twice of which readers take one or the other."""
    found = [name for name, _ in headers if name in _ONCE]
    if len(found) == len(set(found)):
        return None
    often = max(found, key=found.count)
    name = often.decode().title()
    return Refusal(
        400, f"the header field {name} may come once, it came {found.count(often)} times"
    )


class _Exchange:
    """What comes and goes in one request."""

    def __init__(
        self,
        trace: Trace,
        headers: dict[bytes, bytes],
        receive: Receive,
        send: Send,
        patience: float,
    ) -> None:
        self.started = self.last = False
        self._trace, self._headers = trace, headers
        self._receive, self._send_at_once = receive, send
        self._patience = patience
        length = headers.get(b"content-length", b"")
        self._left = int(length) if length.isdigit() and len(length) < 19 else 0
        self._read = not (self._left or b"transfer-encoding" in headers)
        self._closing = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._trace.received += len(message.get("body", b""))
            self._read = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self._trace.status = message["status"]
            headers = list(message.get("headers", []))
            headers.append((b"x-request-id", self._trace.request_id.encode()))
            headers.append((b"x-content-type-options", b"nosniff"))
            unread = self._left - self._trace.received
            chunked = b"transfer-encoding" in self._headers
            # What is left of a small body is thrown away, and the connection may be used again.
            if not self._read and (chunked or unread > _SMALL or b"expect" in self._headers):
                self._closing = True
            if self._closing or self.last:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body":
            self._trace.sent += len(message.get("body", b""))
            if self._closing and not message.get("more_body", False):
                await self._linger(message)
                message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def _send(self, message: Message) -> None:
        """Send; a long body in pieces, each when the client has taken most of those before."""
        body = memoryview(message.get("body", b""))
        if len(body) <= _SMALL:
            await self._send_at_once(message)
            return
        try:
            async with asyncio.timeout(self._patience):
                for start in range(0, len(body), _SMALL):
                    more = message.get("more_body", False) or start + _SMALL < len(body)
                    piece = body[start : start + _SMALL]
                    await self._send_at_once({**message, "body": piece, "more_body": more})
        except TimeoutError:
            raise _NotTaken from None

    async def refuse(self, refusal: Refusal) -> None:
        """Send an error."""
        body = json.dumps({"error": str(refusal)}).encode()
        fields = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            **refusal.headers,
        }
        headers = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
        start: dict[str, Any] = {"status": refusal.status, "headers": headers}
        await self.send({"type": "http.response.start", **start})
        await self.send({"type": "http.response.body", "body": body})

    async def _linger(self, message: Message) -> None:
        """Answer, and read on for a while: who still sends would lose the answer if we closed."""
        await self._send({**message, "more_body": True})
        try:
            async with asyncio.timeout(_LINGER):
                while True:
                    came = await self._receive()
                    if came["type"] == "http.disconnect" or not came.get("more_body", False):
                        return
        except TimeoutError:
            return


def _nothing() -> None:
    """Where there is no connection of ours."""


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
