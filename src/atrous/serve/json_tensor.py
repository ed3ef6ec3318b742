"""Tensors as JSON: counted before they are built, and read and written in pieces.

What a JSON library does in one call no other thread interrupts, and health is answered in another:
so the pieces. Numbers become Python objects of some 32 bytes each: so the limits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from atrous.serve.body import Body
from atrous.serve.refusal import Refusal

MOST_BYTES: Final = 24 * 2**20
"""Of JSON in a request."""
MOST_VALUES: Final = 2**21
"""That JSON in a request may list."""
MOST_ANSWERED: Final = 2**26
"""Bytes of JSON in an answer, about."""

_PIECE = 2**14
_NO_STRUCTURE = bytes(set(range(256)) - set(b"[],"))
_WHERE = re.compile(r"\$\[(\d+)\]")
_numbers = msgspec.json.Decoder(list[float])


def check_size(text: Body) -> None:
    """Look at JSON before it is parsed.

    Raises:
        Refusal: it is too long, or lists too much.
    """
    if len(text) > MOST_BYTES:
        raise Refusal(413, f"{len(text)} bytes of JSON, the limit is {MOST_BYTES}; {_INSTEAD}")
    if bytes(text).count(b",") > MOST_VALUES + 2**16:
        raise Refusal(413, f"more than {MOST_VALUES} values in JSON, the limit; {_INSTEAD}")


def read(text: bytes, name: str, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A tensor from JSON, flat or nested as its shape is.

    Args:
        text: valid JSON.
        name: of the tensor, in messages.
        shape: every extent is 1 or more.
        dtype: float32 or uint8.

    Raises:
        Refusal: it does not hold that many numbers in that order, or others than fit.
    """
    count = 1
    for extent in shape:
        count *= extent
    if count > MOST_VALUES:
        raise Refusal(
            413, f"{name}: {count} values in JSON, the limit is {MOST_VALUES}; {_INSTEAD}"
        )
    found = text.translate(None, _NO_STRUCTURE)
    if found not in (_nested([count]), _nested(shape)):
        raise Refusal(
            400,
            f"{name}: shape {list(shape)} has {count} values, data has "
            + ("others" if found.count(b",") + 1 == count else str(found.count(b",") + 1))
            + "; expected them in one list, or in lists nested as shape says",
        )
    flat = text.translate(None, b"[]")
    values = np.empty(count, dtype)
    start = done = 0
    while start < len(flat):
        end = flat.find(b",", start + 4 * _PIECE)
        end = len(flat) if end < 0 else end
        piece = _piece(flat[start:end], name, done, dtype)
        values[done : done + len(piece)] = piece
        start, done = end + 1, done + len(piece)
    return values.reshape(tuple(shape))


def write(values: NDArray[Any]) -> bytes:
    """A flat list of the numbers; those that are not finite become null."""
    flat = values.reshape(-1)
    starts = range(0, flat.size, _PIECE)
    pieces = (msgspec.json.encode(flat[at : at + _PIECE].tolist())[1:-1] for at in starts)
    return b"[" + b",".join(pieces) + b"]"


def answered_bytes(count: int, dtype: np.dtype[Any]) -> int:
    """What `count` numbers take as JSON, at most about."""
    return count * (4 if dtype == np.uint8 else 22)


def _piece(text: bytes, name: str, before: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    at = 0
    try:
        numbers = np.array(_numbers.decode(b"[" + text + b"]"), np.float64)
    except (msgspec.DecodeError, RecursionError) as error:
        where = _WHERE.search(str(error))
        at = int(where[1]) if where else 0
    else:
        if dtype != np.uint8:
            with np.errstate(over="ignore"):
                return numbers.astype(dtype)
        wrong = (numbers != np.trunc(numbers)) | (numbers < 0) | (numbers > 255)
        if not wrong.any():
            return numbers.astype(np.uint8)
        at = int(wrong.argmax())
    wanted = "FP32" if dtype != np.uint8 else "UINT8, whole numbers from 0 to 255"
    shown = text.split(b",")[at].strip()[:40].decode("utf-8", "replace")
    raise Refusal(400, f"{name}: data: expected {wanted}; value {before + at} is {shown}")


def _nested(shape: Sequence[int]) -> bytes:
    """Brackets and commas of a list of that shape."""
    result = b""
    for extent in reversed(shape):
        result = b"[" + (result + b",") * (extent - 1) + result + b"]"
    return result


_INSTEAD = "send tensors in binary (binary_data_size), or pictures to /v1/segment"
