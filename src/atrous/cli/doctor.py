"""`atrous doctor`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from atrous.cli import options, terminal
from atrous.errors import ConfigError

if TYPE_CHECKING:
    from atrous.data import Dataset
    from atrous.data.doctor import DataReport


def doctor(
    data: Annotated[
        str | None,
        typer.Option(help="Look a data set over instead, as voc:ROOT:val or folder:X.yaml:val."),
    ] = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="With --data: do not read the other splits.")
    ] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Say which engines work on this machine, or what is wrong with a data set.

    Example: atrous doctor --data voc:VOCdevkit:val

    Every engine that is installed runs the model in the package once; the exit code is 1 if none
    of them works. With --data, images and labels are read, counted and compared with the other
    splits; the exit code is 1 if there is an error.
    """
    if alone and data is None:
        raise ConfigError("--alone belongs to --data SPEC")
    if data is not None:
        _examine(data, alone, as_json)
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
        from rich.console import Console
        from rich.table import Table

        console = Console(markup=False, emoji=False)
        table = Table("engine", "device", "version", "works", "why not", box=None)
        for check in checks:
            works = "yes" if check.works else "no"
            table.add_row(check.engine, check.device, check.version, works, check.reason)
        console.print(table)
        console.print(f"class-map kernel: {kernel}", highlight=False)
    if not any(check.works for check in checks):
        sys.exit(1)


def _examine(spec: str, alone: bool, as_json: bool) -> None:
    from dataclasses import asdict

    from atrous.data import open_dataset

    report = look_over(open_dataset(spec), alone=alone)
    if as_json:
        print(json.dumps(asdict(report) | {"healthy": report.healthy}))
    else:
        _print(report)
    if not report.healthy:
        sys.exit(1)


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
    from rich.console import Console
    from rich.table import Table

    from atrous.formatting import as_percent, shown

    console = Console(markup=False, emoji=False)
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
