"""What libraries say of a picture reaches the terminal as one note that names it."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from pathlib import PurePath
from typing import Any

_log = logging.getLogger("atrous")

_LOGGERS = ("PIL", "rasterio")


def name_pictures() -> None:
    """Turn warnings and log lines that come while a picture is read into notes of its name.

    Of each picture the first is said, as what follows is mostly of the same fault, and each fault
    once in a run.
    """
    said: set[str] = set()
    plain = warnings.showwarning

    def say(text: str) -> None:
        name, first = _current(), text.splitlines()[0]
        kind = re.sub(r"\d+", "", first.replace(PurePath(name).name, ""))
        if not said & {name, kind}:
            _log.warning("%s: %s (further messages of this kind are not shown)", name, first)
        said.update((name, kind))

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if _current() and str(message):
            say(str(message))
        else:
            plain(message, category, *where, **more)

    warnings.showwarning = show
    for name in _LOGGERS:
        logging.getLogger(name).handlers = [_Handler(say)]


def _current() -> str:
    """The picture that this thread reads; reading one has imported what knows it."""
    opening = sys.modules.get("atrous.pictures.opening")
    return opening.current() if opening is not None else ""


class _Handler(logging.Handler):
    """Passes on what is said while a picture is read; the rest is for developers."""

    def __init__(self, say: Any) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Say a line."""
        text = record.getMessage().strip()
        if _current() and text:
            self._say(text)
