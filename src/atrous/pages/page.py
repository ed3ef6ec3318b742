"""A page from a template: one file that needs nothing beside it and runs no script."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from atrous import formatting
from atrous.errors import InputError

_TEMPLATES = Path(__file__).parent / "templates"
_MAKER = b'name="generator" content="Atrous"'


def render(template: str, **values: Any) -> str:
    """Lay values out.

    Args:
        template: its name without `.html`.
        values: what the template shows; text is escaped, and a name that is missing is an error.
            `title` stands on every page.
    """
    return _environment().get_template(f"{template}.html").render(values)


def check_place(path: Path) -> None:
    """Find out whether a page may be written: where nothing is, or a page of ours.

    Raises:
        InputError: something else is there.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        if _MAKER not in file.read(1000):
            raise InputError(
                f"{path}: is in the way and kept: Atrous did not make it; move it away, or choose "
                "another folder"
            )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    for show in (
        formatting.as_ms,
        formatting.as_points,
        formatting.as_share,
        formatting.megabytes,
    ):
        environment.filters[show.__name__] = show
    environment.globals["as_change"] = formatting.as_change
    return environment


def _shown(value: Any) -> Any:
    """Text of ours as it is, and none of the control characters that a name may hold."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return formatting.shown(value, lines=True)
    return value
