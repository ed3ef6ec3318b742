"""What the README and the documents show is run, and their links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)


@pytest.mark.heavy
@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in page.read_text()])
def test_python_blocks_print_what_stands_below_them(page: Path, tmp_path: Path) -> None:
    """One after the other in one process: a later block may use what an earlier one made."""
    blocks = BLOCK.findall(page.read_text())
    script = "\nprint('-- next --')\n".join(code for code, _ in blocks)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("-- next --\n") == [expected for _, expected in blocks]


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
