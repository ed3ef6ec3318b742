"""`atrous data`."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path
from typing import Annotated

import typer

data = typer.Typer(
    help="Download data sets, and draw masks from annotations.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


@data.callback()
def _data() -> None:
    """Get data sets."""


@data.command()
def voc(
    download: Annotated[
        Path,
        typer.Option(
            "--download", help="The folder that will hold VOCdevkit (a download of 2 GB)."
        ),
    ],
) -> None:
    """Download PASCAL VOC 2012 from its publisher, verify and unpack it.

    Example: atrous data voc --download data

    The same command resumes an interrupted download. The images are for research use; see the
    publisher's terms.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    from atrous.cli import terminal
    from atrous.data.download import download_voc

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=terminal.console()) as bar:
        task = bar.add_task("", total=None)
        target = download_voc(
            download, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    print(f"{target}: look it over with atrous doctor --data voc:{download}:val")
    print(
        "The archive has no SegmentationClassAug: the split train_aug needs that folder, and its "
        "list in ImageSets/Segmentation; https://github.com/VainF/DeepLabV3Plus-Pytorch says where "
        "they are"
    )


@data.command()
def masks(
    annotations: Annotated[
        Path, typer.Argument(help="A COCO JSON file, or a folder of labelme JSON files.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder for the masks.")],
    classes: Annotated[
        str | None,
        typer.Option(
            help="All classes in order, as road,car. Default: those of own.yaml if it exists, "
            "else those of the annotations."
        ),
    ] = None,
    unlabelled: Annotated[
        str,
        typer.Option(
            help="What pixels outside of all shapes count as: background (class 0) or ignored."
        ),
    ] = "background",
    images: Annotated[
        Path | None,
        typer.Option(help="The folder of the images. Default: searched for near the annotations."),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(help="The file that describes the data set. Default: own.yaml beside DIR."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing masks.")] = False,
) -> None:
    """Draw masks from the outlines of a labelling tool.

    Example: atrous data masks labelled/ -o masks

    Where shapes overlap, the later one in the file is drawn on top. The classes are written to
    own.yaml, which atrous doctor and atrous train read. If it exists, its classes keep their
    numbers, so that several files of annotations can be drawn one after the other.
    """
    from atrous.cli import terminal
    from atrous.data.polygons import draw
    from atrous.errors import ConfigError

    if unlabelled not in ("background", "ignored"):
        raise ConfigError(f"--unlabelled: expected background or ignored, got {unlabelled}")
    background = unlabelled == "background"
    own = write or output.parent / "own.yaml"
    names = _names(classes, own, background)
    drawn = draw(
        annotations, output, classes=names, background=background, images=images, force=force
    )
    for kind, count in drawn.left_out.items():
        terminal.say(f"note: {count} shapes left out, which cover nothing: {kind}")
    for line in drawn.failed:
        terminal.say(f"error: {line}")
    terminal.say(f"{len(drawn.masks)} masks of {', '.join(drawn.labels.names)}: {output}")
    if not own.exists():
        held_out = len(drawn.masks) > 1
        _describe(own, output, drawn.images, list(drawn.labels.names), held_out=held_out)
    if _reads(own, output):
        terminal.say(f"look them over: atrous doctor --data folder:{own}:all")
    else:
        terminal.note(
            f"{own} was there already and names other masks, not {output}: change its `masks`, or "
            "describe these in another file with --write"
        )
    if drawn.failed:
        raise typer.Exit(1)


def _reads(own: Path, output: Path) -> bool:
    """Whether masks in a folder are among those that a description names, in any of its splits."""
    from atrous.data.folder import read_description

    named = read_description(own).masks
    places = named.values() if isinstance(named, dict) else [named]
    whole = [os.path.normpath(own.parent.resolve() / place) for place in places]
    patterns = [escape(place.replace("{split}", "*")).replace("[*]", "*") for place in whole]
    folders = [output.resolve(), *output.resolve().parents]
    return any(fnmatchcase(str(one), pattern) for one in folders for pattern in patterns)


def _names(classes: str | None, own: Path, background: bool) -> list[str]:
    """The classes without the background that stands before them, empty for those of the file.

    Raises:
        ConfigError: the description that is there is wrong, or numbers the classes differently.
    """
    from atrous.data.folder import read_description
    from atrous.data.polygons import BACKGROUND, NOTHING
    from atrous.errors import ConfigError

    described = read_description(own) if own.exists() else None
    known = list(described.classes or ()) if described else []
    names = known if classes is None else [n for n in map(str.strip, classes.split(",")) if n]
    if background and names and names[0] in NOTHING:
        names = names[1:]
    drawn = [BACKGROUND, *names] if background else names
    if described and (key := described.renumbers(len(drawn))):
        raise ConfigError(
            f"{own}: {key}: masks are drawn in the numbers of the classes, which this file "
            "reads otherwise; describe these masks in another file with --write"
        )
    if not known or not names:
        return names
    if drawn != [BACKGROUND if background and name in NOTHING else name for name in known]:
        raise ConfigError(
            f"{own}: its classes are {', '.join(known)}, and the masks would be of "
            f"{', '.join(drawn)}; let both have the same order, with --classes, --unlabelled or in "
            "the file, or describe these masks in another file with --write"
        )
    return names


def _describe(
    own: Path, masks: Path, images: Path | None, names: list[str], *, held_out: bool
) -> None:
    import yaml

    from atrous.cli import terminal
    from atrous.data.splits import VAL_SHARE
    from atrous.files import write_whole

    def below(path: Path) -> str:
        return Path(os.path.relpath(path, own.parent)).as_posix()

    content = {
        "images": below(images) if images else "images",
        "masks": below(masks),
        "classes": names,
        **({"val_share": VAL_SHARE} if held_out else {}),
        "mask_type": "ids",
    }
    write_whole(own, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    where = "" if images else "; the images were not found: write their folder into it"
    terminal.say(f"written: {own}{where}")
