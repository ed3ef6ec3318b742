"""One connection: limits of size and time around uvicorn's protocol, which has none."""

from __future__ import annotations

import json
from asyncio import TimerHandle, Transport
from functools import partial
from http import HTTPStatus
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from atrous.serve.guard import ABORT, Guard

MOST_FIELDS: Final = 2**16
"""Bytes of a request's first line and header fields together."""

_HEADERS_WITHIN = 15.0
_LINGER = 2.0


class Connection(HttpToolsProtocol):
    """Refuses heads that are too large or too slow, and closes on clients that read nothing.

    Fields behind a chunked body (trailers) are dropped: they would count as header fields.
    """

    _deadline: TimerHandle | None = None
    _reading: TimerHandle | None = None
    _in_head = True
    _refused = False
    _quiet = 0
    """Bytes that came since the last of which something came out: a head, a part of a body."""
    _fields = 0

    @property
    def unsent(self) -> bool:
        """Whether the client has yet to take a part of an answer."""
        return self.transport.get_write_buffer_size() > 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """A client is there."""
        super().connection_made(transport)
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._refused:
            return
        self._quiet += len(data)
        super().data_received(data)
        if self._quiet > MOST_FIELDS:
            self._refuse_fields()
        elif self.cycle is None or self.cycle.response_complete:
            self._expect_headers()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head, self._fields = True, 0

    def on_url(self, url: bytes) -> None:
        """A part of its first line."""
        self._fields += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field, or a trailer."""
        if self._in_head:
            self._fields += len(name) + len(value) + 4
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self._fields > MOST_FIELDS:
            self._refuse_fields()
        if self._refused:
            return
        self._forget()
        self._in_head, self._quiet = False, 0
        super().on_headers_complete()
        cast("dict[str, Any]", self.scope)[ABORT] = partial(self._abort, self.cycle)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if not self._refused:
            self._quiet = 0
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if not self._refused:
            self._in_head, self._quiet = True, 0
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Its answer was handed over."""
        super().on_response_complete()
        if self.unsent:
            self._expect_reading()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._forget()
        super().connection_lost(exc)
        if self._reading is not None:
            self._reading.cancel()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, in the form that every refusal has."""
        self._refuse(400, "this is not an HTTP/1.1 request, or it could be read in two ways")

    def _refuse_fields(self) -> None:
        self._refuse(
            431, f"the request's header fields have more than {MOST_FIELDS} bytes, the limit"
        )

    def _refuse(self, status: int, said: str) -> None:
        """Answer without the application, read on for a while, and close.

        Who still sends would lose the answer if we closed at once.
        """
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._forget()
        begun = False
        if self.cycle is not None and not self.cycle.response_complete:
            begun = self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if not begun:
            body = json.dumps({"error": said}).encode()
            head = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
                "connection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.flow.resume_writing()
        self.flow.resume_reading()
        self.transport.write_eof()
        self.loop.call_later(_LINGER, self.transport.abort)

    def _abort(self, cycle: RequestResponseCycle) -> None:
        cycle.disconnected = True  # or uvicorn says that the application has a fault
        self.transport.abort()

    def _expect_headers(self) -> None:
        if self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(_HEADERS_WITHIN, self._too_late)

    def _too_late(self) -> None:
        self._deadline = None
        if self.cycle is None or self.cycle.response_complete:
            if self._quiet:
                self._refuse(408, f"the header fields were not in within {_HEADERS_WITHIN:g} s")
            else:
                self.transport.close()

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expect_reading(self) -> None:
        guard = self.config.app
        if self._reading is None and isinstance(guard, Guard):
            self._reading = self.loop.call_later(guard.settings.send_seconds, self._not_read)

    def _not_read(self) -> None:
        self._reading = None
        if self.unsent:
            self.transport.abort()
