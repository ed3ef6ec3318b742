"""`atrous compile`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atrous.cli import json_output, terminal
from atrous.errors import ConfigError
from atrous.formatting import shown

if TYPE_CHECKING:
    from atrous.compiler.config import CompileConfig
    from atrous.compiler.progress import Progress, Tell

SILENT = 10.0
"""Seconds after which a step says once more how far it is, where there is no terminal."""


def compile_model(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="CONFIG.yaml", help="The compile file.", show_default=False),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Change single keys, as in backend.dtype=fp16; of two the later one holds.",
        ),
    ] = None,
    no_rewrite: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Leave this rewrite out. May be given several times."),
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16"] | None,
        typer.Option(
            help="Compute floats in this precision; the same as backend.precision (bf16 needs "
            "openvino)."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            help="Compile nothing: print the file with every default, and what the exact rewrites "
            "would save."
        ),
    ] = False,
    force: Annotated[bool, typer.Option(help="Replace what an earlier run made.")] = False,
    explain: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="BEFORE AFTER",
            help="Compile nothing; compare two models of one network, layer by layer, and write "
            "explain.html and explain.json. The only KEY=VALUE is backend.engine=NAME.",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The images that --explain compares on. Default: the photograph in the package.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="The folder that --explain writes to. Default: that of AFTER.",
        ),
    ] = None,
    as_json: json_output.JsonOption = False,
) -> None:
    """Compile a network to its fastest exact form, or to int8, and report what that changed.

    Example: atrous compile deeplab.yaml backend.dtype=fp16

    Writes WORKSPACE/NAME/ with mod.onnx, resolved.yaml, report.json and report.html (and
    standalone.onnx, with backend.standalone); other verbs take it as -m WORKSPACE/NAME/mod. Files
    of VastModelZOO work unchanged.

    Example: atrous compile --explain float.onnx out/int8/mod --images photographs/
    """
    if explain is not None:
        if no_rewrite or precision or dry_run or force:
            raise ConfigError(
                "--explain compiles nothing: it takes no --no-rewrite, --precision, --dry-run, "
                "--force"
            )
        words = [*([str(config)] if config is not None else []), *(overrides or [])]
        _explain(explain, _engine(words), images, output, as_json)
        return
    if config is None:
        raise ConfigError("expected CONFIG.yaml, or --explain BEFORE AFTER; see --help")
    if images is not None or output is not None:
        raise ConfigError(
            "--images and --output belong to --explain; workspace.path=DIR says where"
        )

    from atrous.compiler import config as configs

    json_output.refuse_file(overrides or (), as_json, "--json > {}")
    extra = [f"backend.no_rewrite=[{', '.join(no_rewrite)}]"] if no_rewrite else []
    extra += [f"backend.precision={precision}"] if precision else []
    loaded = configs.load(config, [*(overrides or []), *extra])
    if dry_run:
        import yaml

        text = loaded.to_yaml()
        print(json.dumps(yaml.safe_load(text), indent=2) if as_json else text.rstrip())
        for key in loaded.without_effect:
            terminal.note(f"{key}: no effect here")
        _outline(loaded)
        return

    from atrous import verbs

    with _progress() as tell:
        report = verbs.compile(loaded, force=force, tell=tell)
    if as_json:
        print(report.model_dump_json(indent=2, exclude_none=True))
        return
    for note in report.notes:
        terminal.note(note)
    print("\n".join(report.lines()))
    terminal.say(f"written: {loaded.folder}/mod.onnx, report.html")


def _outline(loaded: CompileConfig) -> None:
    """Print what the rewrites would do, apart from the file on standard output."""
    from atrous.compiler.build import outline

    changes = outline(loaded)
    for change in changes:
        print(change, file=sys.stderr)
    before, after = changes[0].gmacs_before, changes[-1].gmacs_after
    print(f"multiply-accumulates: {before:.3f} → {after:.3f} GMAC", file=sys.stderr)


def _engine(words: Sequence[str]) -> str:
    """The engine that the words after `--explain BEFORE AFTER` ask for."""
    engine = "auto"
    for word in words:
        key, _, value = word.partition("=")
        if key != "backend.engine" or not value:
            raise ConfigError(f"--explain takes backend.engine=NAME and no file, found {word!r}")
        engine = value
    return engine


def _explain(
    pair: tuple[str, str], engine: str, images: Path | None, output: Path | None, as_json: bool
) -> None:
    from atrous import cache, engines
    from atrous.compiler.explain import page as explain_page
    from atrous.compiler.explain.explain import explain
    from atrous.jobs.sources import find

    before, after = (engines.find_model(name) for name in pair)
    sources = find([images]) if images is not None else []
    # What is not a path is in the package or in the cache, which are not for reports.
    folder = output or (after.parent if cache.given(pair[1]) is not None else Path())
    paths = [source.path for source in sources]
    with _progress() as tell:
        found = explain(before, after, paths, engine=engine, tell=tell)
        explain_page.save(found, folder)
    if as_json:
        print(found.model_dump_json(indent=2))
        return
    for note in found.notes:
        terminal.note(note)
    print("\n".join(found.lines()))
    terminal.say(f"written: {folder / 'explain.html'}")


@contextmanager
def _progress() -> Iterator[Tell]:
    """What shows progress: one line that changes on a terminal, else a line now and then."""
    from rich.progress import Progress as Display
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    console = terminal.console()
    if console.is_terminal:
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False))
        with Display(*columns, TimeElapsedColumn(), console=console, transient=True) as display:
            task = display.add_task("reading")
            yield lambda progress: display.update(task, description=shown(progress))
        return

    last, at = "", 0.0

    def line(progress: Progress) -> None:
        nonlocal last, at
        new, now = progress.step != last, time.monotonic()
        if new or now - at >= SILENT:
            print(progress.step if new else progress, file=sys.stderr, flush=True)
            at = now
        last = progress.step

    yield line
