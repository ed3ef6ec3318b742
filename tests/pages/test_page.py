"""What holds for every page."""

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from atrous.pages import page as pages


def test_a_name_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        pages.render("evaluation", title="t")


def test_what_a_template_shows_is_escaped() -> None:
    shown = pages._environment().from_string("{{ name }}").render(name="<b>&")
    assert shown == "&lt;b&gt;&amp;"


def test_templates_mark_nothing_as_safe() -> None:
    templates = list((Path(pages.__file__).parent / "templates").glob("*.html"))
    assert len(templates) == 6
    for template in templates:
        text = template.read_text()
        assert not re.search(r"\|\s*safe\b", text)
        assert "autoescape" not in text
