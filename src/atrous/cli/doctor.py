"""`atrous doctor`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atrous.cli import json_output, terminal
from atrous.errors import ConfigError
from atrous.files import from_home

if TYPE_CHECKING:
    from atrous.data import Dataset
    from atrous.data.doctor import DataReport


def doctor(
    data: Annotated[
        str | None,
        typer.Option(
            help="Check a data set instead: voc:ROOT:val or folder:X.yaml:val, or a folder to "
            "describe."
        ),
    ] = None,
    alone: Annotated[
        bool,
        typer.Option(
            "--alone", help="With --data: check this split without comparing it with the others."
        ),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            help="With --data: write a picture with its mask painted over it into this folder. "
            "Where --data is a bare folder, --write is needed too.",
        ),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            help="With --data FOLDER: write the description that was guessed to this file, such as "
            "own.yaml."
        ),
    ] = None,
    as_json: json_output.JsonOption = False,
) -> None:
    """Check which engines work on this machine, or check a data set.

    Example: atrous doctor --data voc:VOCdevkit:val

    Every installed engine runs the model in the package once; the exit code is 1 if none of them
    works. With --data, images and labels are read, counted and compared with the other splits; the
    exit code is 1 if there is an error. For a plain folder of pictures and masks, doctor guesses
    the file that describes them, gives its reasons, and writes it with --write own.yaml.
    """
    if data is None and (alone or report or write):
        flag = "--alone" if alone else "--report" if report else "--write"
        raise ConfigError(f"{flag} belongs to --data SPEC")
    if data is not None:
        with json_output.only_json(as_json) as emit:
            _data(data, alone, emit, report, write)
        return

    from dataclasses import asdict

    from atrous import upsample
    from atrous.engines.check import check_engines

    checks = check_engines()
    kernel = {
        "c": "compiled",
        "numpy": "NumPy: works, slower; reinstall atrous where a C compiler is present",
    }[upsample.KERNEL]
    if as_json:
        print(json.dumps({"engines": [asdict(c) for c in checks], "kernel": upsample.KERNEL}))
    else:
        from rich.table import Table

        console = terminal.console(output=True)
        table = Table("engine", "device", "version", "works", "why not", box=None)
        for check in checks:
            works = "yes" if check.works else "no"
            table.add_row(check.engine, check.device, check.version, works, check.reason)
        console.print(table)
        console.print(f"class-map kernel: {kernel}", highlight=False)
    if not any(check.works for check in checks):
        sys.exit(1)


def _data(
    data: str, alone: bool, emit: Callable[[str], None], report: Path | None, write: Path | None
) -> None:
    """Look a data set over, or guess what a folder holds."""
    folder = from_home(data)
    spec: str | None = data
    if folder.is_dir():
        if report is not None and write is None:
            raise ConfigError(
                f"--report shows a data set that a file describes, and {data} is a folder: let "
                "--write own.yaml write that file as well"
            )
        spec = _guess(folder, write, emit)
    elif write is not None:
        raise ConfigError(f"--write belongs to --data FOLDER, and {data} is not a folder")
    if spec is not None:
        _examine(spec, alone, emit, report)


def _guess(folder: Path, write: Path | None, emit: Callable[[str], None]) -> str | None:
    """Say what a folder seems to hold; the specification of its first split if that is written."""
    import yaml

    from atrous.data.guess import guess
    from atrous.files import check_writable, write_whole

    target = write or folder / "own.yaml"
    if write is not None:
        if write.exists():
            raise ConfigError(f"{write}: exists; name another file, or remove it")
        check_writable(write)
    found = guess(folder, target.parent)
    for reason in found.reasons:
        terminal.say(f"note: {reason}")
    if write is None:
        emit(json.dumps({"reasons": found.reasons, "file": yaml.safe_load(found.text)}))
        print(found.text, end="")
        terminal.say(f"to write it: atrous doctor --data {folder} --write {target}")
        return None
    write_whole(write, found.text)
    terminal.say(f"written: {write}; read it over")
    return f"folder:{write}:{found.split}"


def _examine(spec: str, alone: bool, emit: Callable[[str], None], pictures: Path | None) -> None:
    from dataclasses import asdict

    from atrous.data import open_dataset
    from atrous.data.splits import meant

    dataset = open_dataset(spec)
    report = look_over(dataset, alone=alone)
    if pictures is not None:
        _show(dataset, report, pictures)
    emit(json.dumps(asdict(report) | {"healthy": report.healthy}))
    _print(report)
    if not report.healthy:
        sys.exit(1)
    if spec.startswith("folder:") and meant(spec.rpartition(":")[2]) == "train":
        terminal.say(f"to train on it: atrous train --init {spec} -o recipe.yaml")


def _show(dataset: Dataset, report: DataReport, folder: Path) -> None:
    """Write one picture under its mask, one that EXIF turns if there is one."""
    from atrous import image
    from atrous.data.doctor import TURNED
    from atrous.errors import InputError

    turned = [name for one in report.findings if one.kind == TURNED for name in one.examples]
    first = sorted(dataset.samples, key=lambda sample: sample.id not in turned)
    for sample in first:
        try:
            pixels, label = dataset.read_image(sample), dataset.read_label(sample)
        except InputError:
            continue
        if pixels.shape[:2] == label.shape:
            path = folder / f"{sample.id.replace('/', '_')}.jpg"
            image.write_overlay(path, pixels, label, dataset.labels)
            what = "as it is shown, turned by EXIF, " if sample.id in turned else ""
            terminal.say(f"written: {path}: {sample.id} {what}under its mask")
            return
    terminal.say("no picture could be shown under its mask")


def look_over(dataset: Dataset, *, alone: bool = False) -> DataReport:
    """Examine a data set behind a bar, and unless `alone` its other splits with it."""
    from atrous.data import other_splits
    from atrous.data.doctor import examine

    others = () if alone else other_splits(dataset)
    with terminal.progress(terminal.console(), transient=True) as bar:
        task = bar.add_task("looking at images", total=None)
        return examine(
            dataset, others, lambda done, total: bar.update(task, completed=done, total=total)
        )


def _print(report: DataReport) -> None:
    from rich.table import Table

    from atrous.formatting import as_percent, shown

    console = terminal.console(output=True)
    table = Table("class", "images", "share of pixels", "suggested weight", box=None)
    for one in report.classes:
        weight = "" if one.weight is None else f"{one.weight:.3f}"
        table.add_row(shown(one.name), str(one.images), as_percent(one.share, 2), weight)
    console.print(table)
    against = ", ".join(report.compared) or "no other split"
    ignored = as_percent(report.ignored)
    terminal.say(f"{report.data}: {report.samples} samples, {ignored} of the pixels ignored")
    terminal.say(f"compared with {against}")
    for finding in report.findings:
        terminal.say(str(finding))
        for example in finding.examples:
            # A data set has no flags: it says in its file how it is read.
            text = str(example).replace(
                "`value_range` LOW,HIGH", "`range: [LOW, HIGH]` in its file"
            )
            terminal.say(f"  {text}")
    print("no error" if report.healthy else "not fit to be used as it is")
