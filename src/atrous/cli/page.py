"""`atrous page`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atrous.cli import options, terminal
from atrous.cli.export import Told, standalone_of
from atrous.errors import ConfigError


def page(
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to make.")],
    model: Annotated[
        str, typer.Option("-m", "--model", help="A model, as of atrous predict, no checkpoint.")
    ] = "default",
    runtime: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="npm's package onnxruntime-web. Default: downloaded once from npm's registry "
            "(33 MB), and checked.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the model is called on it.")] = None,
    size: options.SizeOption = None,
    labels: options.LabelsOption = None,
    vdsp_params: options.VdspOption = None,
) -> None:
    """Write a static page that segments photographs inside the browser.

    Example: atrous page -m fast -o site

    Any web server of files can hand the folder out; pictures never leave the browser. It computes
    with WebGPU where there is one and the model is no int8, else in WebAssembly: with threads if
    the server sends the headers in site/_headers. Pictures over 1024 pixels are seen at 1024.
    """
    from atrous import engines
    from atrous.exporters.standalone import Wanted
    from atrous.serve import site

    path = engines.find_model(model)
    if path.suffix.lower() != ".onnx":
        raise ConfigError(f"{path}: a page takes an ONNX file; atrous export makes one of it")
    files = site.runtime_files(runtime)
    told = Told(size, "", None, "fp32", None, labels, name, "")
    made = standalone_of(path, told, vdsp_params, Wanted(any_size=True))
    site.write(made, output, files)
    for note in made.notes:
        terminal.note(note)
    terminal.say(f"{output}: {made.metadata.name}, onnxruntime-web; {made}")
    print(f"look at it: python -m http.server -d {output}")
