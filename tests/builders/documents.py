"""The fenced blocks of a document, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
WRITTEN_BY_THE_HELP = ROOT / "docs" / "cli.md"
PAGES = [
    page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if page != WRITTEN_BY_THE_HELP
]  # fmt: skip
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """What stands between two fences.

    Attributes:
        page: name of the document.
        language: behind the first fence.
        text: between them.
        printed: what a `text` block right below says that it prints, empty without one.
    """

    page: str
    language: str
    text: str
    printed: str = ""


def blocks(page: Path) -> list[Block]:
    """Every block of a document, in order."""
    text, found = page.read_text(), []
    for match in BLOCK.finditer(text):
        below = re.match(r"\n+```text\n(.*?)^```$", text[match.end() :], re.DOTALL | re.MULTILINE)
        printed = below[1] if below and match[1] == "python" else ""
        found.append(Block(page.name, match[1], match[2], printed))
    return found


def commands(text: str) -> Iterator[str]:
    """The commands of a block for a shell; one that goes on in the next line is one command."""
    open_one = ""
    for line in text.splitlines():
        open_one += line + "\n"
        try:
            words = shlex.split(open_one, comments=True)
        except ValueError:  # a quotation is not closed yet
            continue
        if not line.endswith("\\"):
            if words:
                yield open_one.strip()
            open_one = ""
    assert not open_one, open_one


def words(command: str) -> list[str]:
    """The words of a command."""
    return shlex.split(command.replace("\\\n", " "), comments=True)
