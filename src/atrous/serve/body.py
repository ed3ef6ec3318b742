"""Request bodies: read within a time, a size and a common amount of memory; inflated; forms."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import numpy as np
from python_multipart import FormParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, parse_options_header
from starlette.requests import Request

from atrous.serve.logs import Trace
from atrous.serve.refusal import ClientGone, Refusal
from atrous.serve.settings import Settings

Body = bytes | bytearray | memoryview
"""Of a request."""

MOST_FIELDS: Final = 100
"""Of a form."""

_ALIGNMENT = 64
_ANY_ZLIB = 32 + zlib.MAX_WBITS
"""Says to zlib: gzip or zlib, whichever the data begins with."""


class Intake:
    """Reads request bodies.

    Args:
        settings: its limits.

    Attributes:
        held: bytes of all bodies that are being read or worked on.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.held = 0

    @asynccontextmanager
    async def body(
        self, request: Request, aligned_at: int = 0, most: int | None = None
    ) -> AsyncIterator[Body]:
        """The body of a request, inflated; it counts as held until the context ends.

        Args:
            request: not read yet.
            aligned_at: the byte of the body which computing begins at, and which is put where it is
                quick to work with if the client says how long the body is.
            most: bytes, inflated, where fewer are taken than the settings allow.

        Raises:
            Refusal: it is too large, too slow or damaged, or too much is held.
            ClientGone: the client went away.
        """
        before = [0]
        limit = min(self._settings.max_body, most or self._settings.max_body)
        try:
            try:
                async with asyncio.timeout(self._settings.body_seconds):
                    data = await self._read(request, aligned_at, before, limit)
            except TimeoutError:
                raise Refusal(
                    408, f"the request was not in within {self._settings.body_seconds:g} s"
                ) from None
            encoding = request.headers.get("content-encoding", "identity").strip().lower()
            if encoding not in ("", "identity"):
                if encoding not in ("gzip", "x-gzip", "deflate"):
                    raise Refusal(
                        415, f"Content-Encoding: expected gzip or deflate, got {encoding[:40]!r}"
                    )
                # As large as it may get, before it does.
                self._hold(limit, before)
                data = await asyncio.to_thread(inflate, data, limit)
            yield data
        finally:
            self.held -= before[0]

    def hold_answer(self, request: Request, count: int) -> None:
        """Count `count` bytes of an answer as held until it has been sent.

        Raises:
            Refusal: too much is held.
        """
        mine = [0]
        self._hold(count, mine)
        trace: Trace = request.scope["atrous.trace"]
        trace.at_end.append(lambda: self._release(mine))

    def _release(self, mine: list[int]) -> None:
        self.held -= mine[0]

    async def _read(self, request: Request, aligned_at: int, mine: list[int], limit: int) -> Body:
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            raise Refusal(413, f"the request has {declared} bytes, the limit is {limit}")
        room = None
        if declared.isdecimal():
            limit = int(declared)
            room = aligned(limit, aligned_at)
        grown = bytearray()
        end, more = 0, True
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            more = message.get("more_body", False)
            if end + len(chunk) > limit:
                raise Refusal(413, f"the request has more than {limit} bytes, the limit")
            self._hold(len(chunk), mine)
            if room is None:
                grown += chunk
            else:
                room[end : end + len(chunk)] = chunk
            end += len(chunk)
        return grown if room is None else room[:end]

    def _hold(self, count: int, mine: list[int]) -> None:
        if self.held + count > self._settings.max_held:
            raise Refusal(503, "the server holds as many requests as its memory allows; try again")
        self.held += count
        mine[0] += count


def aligned(size: int, at: int) -> memoryview:
    """Memory for `size` bytes, uninitialised; byte `at` lies at a multiple of 64."""
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -(memory.ctypes.data + at) % _ALIGNMENT
    return memory[start : start + size].data


def inflate(data: Body, limit: int) -> bytes:
    """Undo gzip or deflate.

    Args:
        data: as gzip, as zlib, or as a bare deflate stream.
        limit: bytes that may come out.

    Raises:
        Refusal: more would come out, or it is damaged or cut off.
    """
    for wbits in (_ANY_ZLIB, -zlib.MAX_WBITS):
        stream = zlib.decompressobj(wbits)
        try:
            result = stream.decompress(data, limit + 1)
        except zlib.error:
            continue
        if len(result) > limit:
            raise Refusal(413, f"the request inflates to more than {limit} bytes, the limit")
        if stream.eof:
            return result
        break
    raise Refusal(400, "the request's compressed body is damaged or cut off")


def form_file(data: Body, content_type: str, field: str) -> bytes:
    """The content of one field of a multipart form.

    Args:
        data: the body.
        content_type: with the boundary.
        field: its name.

    Raises:
        Refusal: the form is damaged or does not have the field.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    content = bytes(data)
    if boundary and (count := content.count(b"--" + boundary)) > MOST_FIELDS + 1:
        raise Refusal(413, f"a form of {count - 1} fields, the limit is {MOST_FIELDS}")
    found: list[bytes] = []

    def on_field(part: Field) -> None:
        if part.field_name == field.encode():
            found.append(part.value or b"")

    def on_file(part: File) -> None:
        if part.field_name == field.encode():
            part.file_object.seek(0)
            found.append(part.file_object.read())

    in_memory = {"MAX_MEMORY_FILE_SIZE": len(data) + 1, "MAX_FIELD_SIZE": len(data) + 1}
    try:
        parser = FormParser(
            "multipart/form-data",
            on_field,
            on_file,
            boundary=boundary,
            config=in_memory,
        )
        parser.write(content)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise Refusal(400, f"the form cannot be read: {error}") from None
    if len(found) != 1:
        raise Refusal(400, f"expected one form field {field!r} with a picture, got {len(found)}")
    return found[0]
