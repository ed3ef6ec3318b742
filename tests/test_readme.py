"""What the README shows is run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.heavy
def test_python_blocks_print_what_stands_below_them() -> None:
    blocks = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == README.count("```python")
    for code, expected in blocks:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout == expected


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"make ([a-z-]+)\b", README)) - {"a"}
    assert {"demo", "test", "bench"} <= named
    for target in named & {"demo", "test", "bench", "docs"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    local = [link for link in links if not link.startswith("http")]
    assert "docs/cli.md" in local
    for link in local:
        assert (ROOT / link).exists(), link


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
