"""Hooks of `mkdocs build`: the README is the first page, and files beside `docs` are no links.

Links inside `docs` are checked by mkdocs; those that lead out of it are checked here, and shown as
the path in the repository that they name.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#:]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The README, with its links as they are from inside `docs`."""
    text = (ROOT / "README.md").read_text()
    text = text.replace("](docs/", "](").replace("](CONTRIBUTING.md)", "](../CONTRIBUTING.md)")
    text = re.sub(r"\]\((?=(benchmarks|examples|recipes)/|NOTICE)", "](../", text)
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the repository that are no pages into their paths."""
    folder = Path("docs", page.file.src_uri).parent

    def outside(match: re.Match[str]) -> str:
        label, link, place = match.groups()
        if not link.startswith("../"):
            return match.group()
        if link == "../README.md":
            return f"[{label}](index.md{place or ''})"
        path = (ROOT / folder / link).resolve()
        if not path.exists():
            raise PluginError(f"{page.file.src_uri} links {link}, which is not there")
        name = f"`{path.relative_to(ROOT)}`"
        return name if label.strip("`") == name.strip("`") else f"{label} ({name})"

    return LINK.sub(outside, markdown)
