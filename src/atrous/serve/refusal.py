"""Why a request is not served."""

from __future__ import annotations

from atrous.errors import AtrousError


class Refusal(AtrousError):
    """A request is not served; the message goes to the client.

    Args:
        status: of the HTTP answer.
        message: what was expected, what was found and the next step.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def headers(self) -> dict[str, str]:
        """Header fields that go with the status."""
        if self.status == 503:
            return {"Retry-After": "1"}
        return {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}


class ClientGone(Exception):
    """Nobody waits for the answer any more."""
