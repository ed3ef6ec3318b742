"""Numbers and lists as a report says them, in the terminal and on its page."""

from __future__ import annotations

import math
from collections.abc import Sequence


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
