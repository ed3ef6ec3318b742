"""`atrous train`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atrous.cli import terminal
from atrous.cli.doctor import look_over
from atrous.errors import ConfigError

if TYPE_CHECKING:
    from atrous.training.config import Recipe


def train(
    recipe: Annotated[
        Path | None,
        typer.Argument(metavar="RECIPE.yaml", help="The recipe: how to train.", show_default=False),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Change single keys, as in train.batch=8; of two the later one holds.",
        ),
    ] = None,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart", help="Start again from the beginning if the output folder holds a run."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the recipe with every default; train nothing.")
    ] = False,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Train nothing; check this data set (voc:ROOT:train or folder:X.yaml:train) "
            "and write a recipe for it.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="RECIPE.yaml", help="The file that --init writes."),
    ] = None,
) -> None:
    """Train a network, and score it on images that it is not trained on.

    Example: atrous train recipes/voc.yaml network=deeplabv3_resnet50 output=runs/resnet50

    The output folder holds last.safetensors, which other verbs take as -m, its score, the best
    checkpoint of the run, the log, TensorBoard's files and a report. The same command resumes a
    run that was interrupted or killed, and ends with the same weights. For several processes:
    torchrun --nproc-per-node 4 -m atrous train RECIPE.yaml

    Example: atrous train --init folder:my.yaml:train -o my-recipe.yaml
    """
    if init is not None:
        if recipe is not None or restart or dry_run:
            raise ConfigError("--init takes DATA and -o RECIPE.yaml, and no recipe or other option")
        if output is None:
            raise ConfigError("--init: expected -o RECIPE.yaml, the file to write")
        _init(init, output)
        return
    if output is not None:
        raise ConfigError("-o belongs to --init; output=DIR says where a run goes")
    if recipe is None:
        raise ConfigError("expected RECIPE.yaml, or --init DATA -o RECIPE.yaml; see --help")

    from atrous.training import config

    loaded = config.load(recipe, overrides or [])
    if dry_run:
        print(loaded.to_yaml(), end="")
        return
    _train(loaded, restart)


def _train(recipe: Recipe, restart: bool) -> None:
    _quiet_threads()

    from atrous import verbs

    verbs.need_training()

    from atrous.training.loop import Interrupted

    try:
        main, result = verbs.run_recipe(recipe, terminal.console(), restart=restart)
    except Interrupted:
        print(
            f"stopped; everything is saved. To continue: atrous train {recipe.folder}/recipe.yaml",
            file=sys.stderr,
        )
        sys.exit(130)
    if not main:
        return
    terminal.say(f"trained: {recipe.folder}/last.safetensors, report.html")
    if result is not None:
        stamp = result.stamp
        print(
            f"mIoU {result.mean_iou:.3f} %, {stamp.protocol}, {stamp.images} images of {stamp.data}"
        )
        if result.health:
            sys.exit(1)


def _init(spec: str, output: Path) -> None:
    from atrous.data import open_dataset
    from atrous.files import check_writable, write_whole
    from atrous.verbs import need_training

    compiling = output.with_name("compile.yaml")
    if compiling.exists():
        compiling = output.with_name(f"{output.stem}-compile.yaml")
    for path in (output, compiling):
        if path.exists():
            raise ConfigError(f"{path}: exists; name another file, or remove it")
        check_writable(path)
    dataset = open_dataset(spec)
    need_training()
    _quiet_threads()

    from atrous.training.estimate import step_seconds
    from atrous.training.init_recipe import init_recipe

    report = look_over(dataset)
    files = init_recipe(dataset, report, output)
    write_whole(output, files.recipe)
    write_whole(compiling, files.compiling)
    for finding in report.findings:
        terminal.say(str(finding))
    own = files.settings
    hundred = 100 * step_seconds(own, dataset)
    whole = hundred * own.train.iterations / 100
    terminal.say(f"written: {output}, {compiling}; read them over")
    terminal.say(
        f"100 iterations take about {_duration(hundred)} on this machine, all "
        f"{own.train.iterations} about {_duration(whole)}; train.iterations=N takes fewer. Then:"
    )
    scored = f" --data {own.data.val}" if own.data.val else ""
    last = f"eval -m {files.folder}{scored}" if scored else f"predict PHOTOGRAPHS -m {files.folder}"
    for command in (f"train {output}", f"compile {compiling}", last):
        print(f"atrous {command}")


def _duration(seconds: float) -> str:
    """As `50 s`, `12 min` or `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _quiet_threads() -> None:
    """Threads of OpenMP that spin while they wait take the cores from those that read the images.

    On two busy cores a step took 2.5 times as long. It is read once, when torch is imported.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
