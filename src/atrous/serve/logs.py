"""What a server says: a line for every request, for people or as JSON."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime

from atrous.formatting import shown
from atrous.serve.settings import LogFormat

log = logging.getLogger("atrous.serve")


@dataclass(slots=True)
class Trace:
    """What is remembered of a request while it is served.

    Attributes:
        request_id: from the client, or made here.
        client: its address.
        method: of the request.
        path: of the request, without the query.
        route: the pattern that it matched; empty if none did.
        model: that it was for.
        status: of the answer; 499 if the client went away before.
        seconds: from its first byte to the last of the answer.
        received: bytes of its body.
        sent: bytes of the answer's body.
        at_end: called when the answer has been sent, or nobody waits for it.
    """

    request_id: str
    client: str
    method: str
    path: str
    route: str = ""
    model: str = ""
    status: int = 499
    seconds: float = 0.0
    received: int = 0
    sent: int = 0
    at_end: list[Callable[[], None]] = field(default_factory=list)

    def public(self) -> dict[str, object]:
        """What the log tells."""
        told = asdict(replace(self, at_end=[]))
        del told["at_end"]
        return told | {"seconds": round(self.seconds, 6)}


def access(trace: Trace) -> None:
    """Log an answered request."""
    log.info(
        "%s %s %s %d %.1f ms%s id=%s",
        trace.client,
        trace.method,
        json.dumps(trace.path)[1:-1],
        trace.status,
        trace.seconds * 1e3,
        f" model={trace.model}" if trace.model else "",
        trace.request_id,
        extra={"trace": trace},
    )


class _Text(logging.Formatter):
    """One line for a message, whatever it holds; what went wrong stands below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return shown(super().formatMessage(record))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {"time": when, "level": record.levelname.lower()}
        trace = getattr(record, "trace", None)
        if isinstance(trace, Trace):
            line |= {"event": "request", **trace.public()}
        else:
            line |= {"event": "message", "message": record.getMessage()}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up(style: LogFormat) -> None:
    """Send what the package and the HTTP server log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    text = _Text("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(_Json() if style == "json" else text)
    for name, level in (("atrous", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
