"""The README is short and complete, and links lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"make ([a-z-]+)\b", README)) - {"a"}
    assert {"demo", "test", "bench"} <= named
    for target in named & {"demo", "test", "bench", "docs"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"])
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", page.read_text())
    for link in links:
        if not link.startswith("http"):
            name, _, place = link.partition("#")
            target = (page.parent / name) if name else page
            assert target.exists(), link
            assert not place or place in anchors(target), link


def anchors(page: Path) -> set[str]:
    """What the headings of a page can be linked as."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 155


def test_every_verb_is_in_the_readme() -> None:
    cli = (ROOT / "docs" / "cli.md").read_text()
    commands = cli.split("**Commands**:")[1].split("##")[0]
    verbs = re.findall(r"^\* `([a-z]+)`:", commands, re.MULTILINE)
    assert len(verbs) > 5
    for verb in verbs:
        assert f"atrous {verb}" in README


def test_nothing_is_left_to_fill_in() -> None:
    for page in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")):
        assert not re.search(r"@[A-Z]+@|TODO|FIXME|XXX", page.read_text()), page
