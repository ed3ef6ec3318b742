"""`atrous compile`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def compile_model(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="What to compile.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="As backend.dtype=fp16; the later wins."),
    ] = None,
    no_rewrite: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Leave this rewrite out. May be given several times."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option(help="Print the file with every default, and compile nothing.")
    ] = False,
    force: Annotated[bool, typer.Option(help="Replace what an earlier run made.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Compile a network to its fastest exact form, and report what that changed.

    Example: atrous compile deeplab.yaml backend.dtype=fp16

    Writes WORKSPACE/NAME/ with mod.onnx, resolved.yaml, report.json and report.html; other verbs
    take it as -m WORKSPACE/NAME/mod. Files of VastModelZOO work unchanged.
    """
    from atrous.compiler import config as configs

    extra = [f"backend.no_rewrite=[{', '.join(no_rewrite)}]"] if no_rewrite else []
    loaded = configs.load(config, [*(overrides or []), *extra])
    if dry_run:
        print(loaded.to_yaml(), end="")
        for key in loaded.without_effect:
            print(f"note: {key}: no effect here", file=sys.stderr)
        return

    from rich.console import Console

    from atrous.compiler.build import build

    console = Console(stderr=True, markup=False)
    with console.status("reading") as status:
        report = build(loaded, force=force, say=status.update)
    if json_output:
        print(report.model_dump_json(indent=2, exclude_none=True))
        return
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    print("\n".join(report.lines()))
    print(f"written: {loaded.folder}/mod.onnx, report.html")
