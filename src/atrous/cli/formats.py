"""`--as` and `--gallery` of `predict`: what it writes for other tools."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from atrous.cli import options
from atrous.errors import ConfigError

if TYPE_CHECKING:
    from atrous.jobs.annotations.job import Kind
    from atrous.jobs.output import ImageResult, Output
    from atrous.jobs.sources import Source
    from atrous.labels import LabelSet

_KNOWN = ("masks", "overlays", "coco", "labelme", "geojson")

AsOption = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="FORMATS",
        help="What to write: some of masks,overlays,coco,labelme,geojson. Masks are always "
        "written, because a stopped run resumes from them. Default: masks,overlays.",
    ),
]
GalleryOption = Annotated[
    bool, typer.Option("--gallery", help="Write index.html, a page of thumbnails.")
]


@dataclass(frozen=True, slots=True)
class Formats:
    """What is written beside masks.

    Attributes:
        named: what `--as` names, `None` without it.
        gallery: whether a page of thumbnails is.
    """

    named: tuple[str, ...] | None
    gallery: bool

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Those for other tools."""
        found = (name for name in self.named or () if name not in ("masks", "overlays"))
        return cast("tuple[Kind, ...]", tuple(found))

    def places(self, output: str) -> list[str]:
        """Where those lie that are not masks or overlays."""
        names = ["coco.json" if kind == "coco" else kind for kind in self.kinds]
        return [str(Path(output, name)) for name in [*names, *["index.html"] * self.gallery]]

    def overlays(self, default: bool) -> bool:
        """Whether overlays are drawn."""
        return default if self.named is None else "overlays" in self.named

    def fitting(self, output: Output) -> Output:
        """The output, which these fit.

        Raises:
            ConfigError: they do not.
        """
        if (self.kinds or self.gallery) and output.single:
            raise ConfigError(f"{output.place} is a file: --as and --gallery need a folder")
        if self.gallery and not output.overlays:
            raise ConfigError("--gallery shows the overlays: add overlays to --as")
        return output

    def of(
        self,
        results: Generator[ImageResult],
        sources: Sequence[Source],
        output: Output,
        labels: LabelSet,
    ) -> Generator[ImageResult]:
        """Results, these written on the way."""
        if not (self.kinds or self.gallery):
            return results
        from atrous.jobs.annotations.job import annotated

        paths = [source.path for source in sources]
        return annotated(results, paths, output, labels, self.kinds, gallery=self.gallery)


def parse(context: typer.Context, text: str | None, gallery: bool) -> Formats:
    """What the options ask for.

    Raises:
        ConfigError: there is no such format, or two options say different things.
    """
    if text is None:
        return Formats(None, gallery)
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in _KNOWN:
            raise ConfigError(f"--as: expected some of {','.join(_KNOWN)}, got {name!r}")
    if "overlays" in options.given(context):
        raise ConfigError("--as says whether overlays are drawn: leave out --overlays")
    return Formats(names, gallery)
