"""Numbers and lists as a report says them, in the terminal and on its page."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

# Control characters, what breaks lines or turns the direction of text, and bytes that are no UTF-8.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def shown(text: object, lines: bool = False) -> str:
    """A text as it may be shown: a name may hold line breaks, escape codes of a terminal and bytes
    that are no UTF-8, which become `\\n`, `\\x1b` and `\\xff`.

    Args:
        text: or what has one.
        lines: whether it may have several lines.
    """

    def escaped(found: re.Match[str]) -> str:
        if lines and found[0] in "\n\t":
            return found[0]
        code = ord(found[0])
        if 0xDC80 <= code <= 0xDCFF:  # how Python writes such a byte
            code -= 0xDC00
        return _NAMED.get(found[0]) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")

    return _UNSEEN.sub(escaped, str(text))


def escaped(json: str) -> str:
    """JSON that says the same, and of which nothing speaks to the terminal."""
    return _UNSEEN.sub(
        lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", json
    )


def as_ms(milliseconds: float) -> str:
    """Milliseconds with three digits."""
    digits = 1 if milliseconds >= 10 else 2 if milliseconds >= 1 else 3
    return f"{milliseconds:.{digits}f} ms"


def as_points(points: float) -> str:
    """A difference in points, and no sign before zero."""
    return f"{points:+.2f}" if abs(points) >= 0.005 else "0.00"


def as_change(before: float, after: float) -> str:
    """By how much something grew."""
    if before == after:
        return "unchanged"
    return f"{100 * (after / before - 1):+.1f} %" if before else "new"


def as_share(share: float) -> str:
    """A share in percent that says 100 only if it is all."""
    return f"{math.floor(share * 1e6) / 1e4:.4f} %" if share < 1 else "100 %"


def as_percent(share: float, digits: int = 1) -> str:
    """A share in percent that says 0 only if it is none of all, and 100 only if it is all."""
    least = 10.0**-digits
    if 0 < 100 * share < least / 2:
        return f"< {least:.{digits}f} %"
    if 100 - least / 2 <= 100 * share < 100:
        return f"> {100 - least:.{digits}f} %"
    return f"{100 * share:.{digits}f} %"


def megabytes(size: int) -> str:
    """Bytes in MB."""
    return f"{size / 1e6:.1f} MB"


def shortened(texts: Sequence[str], most: int, separator: str = "; ") -> str:
    """The first texts and how many more there are."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return separator.join(texts[:most]) + more
