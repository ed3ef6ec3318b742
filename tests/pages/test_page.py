"""What holds for every page."""

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from atrous.errors import InputError
from atrous.pages import page as pages


def test_a_name_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        pages.render("evaluation", title="t")


def test_what_a_template_shows_is_escaped() -> None:
    shown = pages._environment().from_string("{{ name }}").render(name="<b>&")
    assert shown == "&lt;b&gt;&amp;"


def test_only_a_page_of_ours_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    pages.check_place(page)
    page.write_text(pages._environment().get_template("base.html").render(title="t"))
    pages.check_place(page)
    page.write_text("<h1>My site</h1>")
    with pytest.raises(InputError, match=r"index\.html: is in the way and kept"):
        pages.check_place(page)


def test_templates_mark_nothing_as_safe() -> None:
    templates = list((Path(pages.__file__).parent / "templates").glob("*.html"))
    assert len(templates) == 7
    for template in templates:
        text = template.read_text()
        assert not re.search(r"\|\s*safe\b", text)
        assert "autoescape" not in text


def test_a_thumbnail_shows_its_picture_whole() -> None:
    # The legend of an overlay lies at its lower edge.
    style = (Path(pages.__file__).parent / "templates/style.css").read_text()
    [rule] = re.findall(r"\.gallery img \{(.*?)\}", style)
    assert "object-fit: contain" in rule
