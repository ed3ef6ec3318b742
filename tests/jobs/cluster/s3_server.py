"""An S3 server that throttles and loses connections, for `test_cluster.py`; run as a process.

Prints its URL. Of the requests, told apart by method and place, some are answered 503 SlowDown or
cut off before the answer or within it; the third time in a row a request is always answered. Which,
a hash decides: the same in every run. When its input ends, prints how often it did each, as JSON.
"""

import json
import socket
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
PATIENCE = 2
SHARES = {"throttled": 10, "cut": 15, "halved": 20}
"""Percent of the requests, each with those before it."""
done: Counter[str] = Counter()
seen: Counter[str] = Counter()
failed: Counter[str] = Counter()
lock = threading.Lock()
moto = DomainDispatcherApplication(create_backend_app)


def decide(request: str) -> str:
    """What becomes of it."""
    with lock:
        seen[request] += 1
        share = zlib.crc32(f"{request} {seen[request]}".encode()) % 100
        what = next((what for what, below in SHARES.items() if share < below), "answered")
        if what == "answered" or failed[request] == PATIENCE:
            what, failed[request] = "answered", 0
        else:
            failed[request] += 1
        done[what] += 1
        return what


def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """moto's, behind a network that is none of the best."""
    what = decide(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
    link: socket.socket = environ["werkzeug.socket"]
    if what == "throttled":
        start("503 Slow Down", [("Content-Type", "application/xml")])
        return [SLOW_DOWN]
    if what == "cut":
        link.shutdown(socket.SHUT_RDWR)
        return []
    body = b"".join(moto(environ, start))
    if what == "halved":
        return halved(body, link)
    return [body]


def halved(body: bytes, link: socket.socket) -> Iterable[bytes]:
    """The first half, and then nobody is there."""
    yield body[: len(body) // 2]
    link.shutdown(socket.SHUT_RDWR)


server = make_server("127.0.0.1", 0, application, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"http://127.0.0.1:{server.port}", flush=True)  # noqa: T201
sys.stdin.read()
server.shutdown()
print(json.dumps(done), flush=True)  # noqa: T201
