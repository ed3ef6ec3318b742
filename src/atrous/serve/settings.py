"""What a server is told: where it listens, whom it lets in, and its limits."""

from __future__ import annotations

import ipaddress
import math
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from PIL import Image

from atrous import texts
from atrous.errors import ConfigError

KEY_VARIABLE = "ATROUS_API_KEY"

MOST_PIXELS = Image.MAX_IMAGE_PIXELS or 2**26
"""Above this Pillow takes an image for a decompression bomb."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where a server listens, whom it lets in, and its limits.

    Attributes:
        host: address to listen on.
        port: TCP port, 0 for a free one.
        key: that a client must show; `None` lets everybody in.
        hosts: by which clients may call a server that is on loopback and has no key, besides
            `localhost` and loopback addresses; as a proxy in front is called.
        batch: images that a network sees at once; `None` for its own number, 1 if it is free.
        wait: seconds to wait for a batch to fill.
        queue: images that one model has under way; 0 for two for each that it works on at once.
        max_body: bytes of a request, after inflating it.
        max_pixels: of one image.
        max_pictures: of one request.
        max_held: bytes of all requests and large answers together.
        body_seconds: within which a request must be in.
        answer_seconds: within which its answer must be ready.
        send_seconds: within which a client must have taken it.
        grace_seconds: to finish in what is under way when the server is told to end.

    Raises:
        ConfigError: a value is out of range.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    key: str | None = None
    hosts: tuple[str, ...] = ()
    batch: int | None = None
    wait: float = 0.005
    queue: int = 0
    max_body: int = 64 * 2**20
    max_pixels: int = 2**26
    max_pictures: int = 32
    max_held: int = 3 * 2**28
    body_seconds: float = 30.0
    answer_seconds: float = 60.0
    send_seconds: float = 60.0
    grace_seconds: float = 30.0

    def __post_init__(self) -> None:
        if not 1 <= self.max_pixels <= MOST_PIXELS:
            raise ConfigError(
                f"`max_pixels`: expected 1 to {MOST_PIXELS}, above which an image counts as a "
                f"decompression bomb, got {self.max_pixels}"
            )
        for name in ("max_body", "max_pictures", "body_seconds", "answer_seconds", "send_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"`{name}`: expected more than 0, got {getattr(self, name)}")
        for name in ("wait", "queue", "grace_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"`{name}`: expected 0 or more, got {getattr(self, name)}")
        for host in self.hosts:
            if not _is_name(host):
                raise ConfigError(
                    f"`allow_host`: expected a host name alone, such as lab.example, got {host!r}: "
                    "what a browser's address has before and behind it is no part of it"
                )

    def is_called(self, field: str) -> bool:
        """Whether a request with this `Host` field may be meant for this server.

        A page from elsewhere can have its own name resolve to this machine, and a browser then lets
        it read what a server on loopback answers. The name is what gives it away.
        """
        if self.key is not None or not is_loopback(self.host):
            return True
        try:
            name = urlsplit(f"//{field}").hostname or ""
        except ValueError:
            return False
        return is_loopback(name) or name in (host.lower() for host in self.hosts)


_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def _is_name(host: str) -> bool:
    """Whether a client may call a server so: any other text is compared in vain."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _NAME.fullmatch(host) is not None
    return True


LogFormat = Literal["text", "json"]


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_key(api_key_file: Path | None, host: str, *, no_api_key: bool = False) -> str | None:
    """The API key from a file or the environment.

    Args:
        api_key_file: holds the key; without one the variable `ATROUS_API_KEY` does.
        host: where the server listens. Elsewhere than on loopback a key is a must.
        no_api_key: none is wanted, wherever it listens.

    Returns:
        the key, `None` for none.

    Raises:
        ConfigError: there is none and there must be, or it is not one.
    """
    if no_api_key:
        if api_key_file is not None:
            raise ConfigError("`no_api_key` and `api_key_file` exclude each other")
        return None
    try:
        text = os.environ.get(KEY_VARIABLE) if api_key_file is None else texts.read(api_key_file)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ConfigError(f"`api_key_file`: cannot read {api_key_file}: {reason}") from None
    if text is None:
        if is_loopback(host):
            return None
        raise ConfigError(
            f"`host` {host} lets other machines in: set {KEY_VARIABLE} or give `api_key_file`; "
            "`no_api_key` serves everybody who reaches it"
        )
    key = text.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(
            f"the API key in {api_key_file or KEY_VARIABLE} is empty or has other than printable "
            "ASCII characters; python -c 'import secrets; print(secrets.token_urlsafe())' makes one"
        )
    return key
