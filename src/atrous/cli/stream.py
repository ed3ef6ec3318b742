"""`atrous stream`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atrous.cli import options, terminal
from atrous.errors import AtrousError

if TYPE_CHECKING:
    from atrous.vastai.truth import Truth

_NAMED = 5


def stream(
    file_path: Annotated[
        str, typer.Option("--file_path", "--file-path", help="The folder of images, or one image.")
    ],
    save_dir: Annotated[
        Path,
        typer.Option("-o", "--save_dir", "--save-dir", help="The folder for masks/ and overlays/."),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "-m",
            "--model",
            "--model_prefix_path",
            "--model-prefix-path",
            help="The model, as for atrous predict: a prefix such as deploy_weights/NAME/mod, a "
            "file or a name.",
        ),
    ] = None,
    vdsp_params: Annotated[
        Path | None,
        typer.Option(
            "--vdsp_params_info",
            "--vdsp-params-info",
            "--vdsp_params",
            "--vdsp-params",
            help="Take the preprocessing from this vdsp JSON file.",
        ),
    ] = None,
    gt_path: Annotated[
        Path | None,
        typer.Option(
            "--gt_path",
            "--gt-path",
            help="The folder of the true masks (NAME.png), to score against.",
        ),
    ] = None,
    overlays: Annotated[
        bool, typer.Option(help="Draw overlays: classes over photographs.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace files that Atrous did not write, too."),
    ] = False,
    device: Annotated[
        str,
        typer.Option(
            help="The device: cpu, cuda or tensorrt; cuda:1 is the second GPU. A number, which "
            "names a card in VastModelZOO's commands, runs on the CPU."
        ),
    ] = "cpu",
    device_id: Annotated[
        int | None,
        typer.Option(
            "--device_id",
            "--device-id",
            help="The number of the GPU, with cuda or tensorrt.",
            min=0,
        ),
    ] = None,
    batch: options.BatchOption = None,
    instances: options.InstancesOption = 0,
    engine: options.EngineOption = "auto",
    threads: options.ThreadsOption = 0,
    cache: options.CacheOption = None,
    labels: options.LabelsOption = None,
    size: options.SizeOption = None,
    value_range: options.RangeOption = None,
    bands: options.BandsOption = None,
    max_pixels: options.MaxPixelsOption = None,
    layout: options.LayoutOption = None,
    output_name: options.OutputNameOption = None,
    threshold: options.ThresholdOption = None,
    absent: Annotated[
        Literal["skip", "zero"],
        typer.Option(
            help="How classes that occur nowhere count in the mean: not at all (skip) or as 0."
        ),
    ] = "skip",
) -> None:
    """Segment a folder as a stream: palette PNG masks, and accuracy where there are true masks.

    Example: atrous stream --file_path VOC2012/JPEGImages_val --model_prefix_path
    deploy_weights/NAME/mod --vdsp_params_info vdsp.json --gt_path VOC2012/SegmentationClass
    --save_dir runstream_output

    The last line is `validation pixAcc: …, mIoU: …` in percent, by protocol squash-N: class map and
    true mask are compared at the size of the network input. Images without a true mask are
    segmented and reported. Files that fail are reported and the others processed; then, or if the
    model is found to be broken, the exit code is 1. Masks that Atrous wrote are replaced; other
    files in their place are kept and reported, unless --force is given. --absent zero is the rule
    of VastModelZOO's tool.
    """
    from contextlib import closing

    from atrous.cli.results import what_ran
    from atrous.jobs.folder import segment
    from atrous.jobs.output import Output
    from atrous.jobs.sources import find
    from atrous.vastai.truth import Truth
    from atrous.vastai.validation import accuracy_line

    network = options.ModelOptions(
        model,
        engine,
        options.parse_device(device, device_id),
        threads,
        instances,
        cache,
        labels,
        vdsp_params,
        size,
        value_range,
        layout,
        output_name,
        threshold,
    )
    reading = options.parse_reading(bands, max_pixels)
    output = Output(save_dir, overlays=overlays, force=force, again=True)
    sources = find([file_path], save_dir)
    console = terminal.console()
    written, failed = 0, False
    with network.open() as predictor:
        truth = Truth(gt_path, predictor, absent) if gt_path else None
        results = segment(
            predictor,
            sources,
            output,
            reading=reading,
            batch=batch,
            score=truth.score if truth else None,
        )
        with terminal.progress(console) as progress, closing(results):
            task = progress.add_task("segmenting", total=len(sources))
            for result in results:
                written += result.status == "written"
                error = result.error
                if truth and result.score:
                    truth.add(result.score)
                    error = result.score.error
                if error:
                    failed = True
                    terminal.failed(console, error)
                said = accuracy_line(truth.matrix) if truth and truth.scored else "segmenting"
                progress.update(task, advance=1, description=said)
    name = what_ran(network, predictor.engine.title, predictor.engine.metadata)
    total = len(sources)
    terminal.say(f"{written} of {total} images segmented by {name}; see {output.shown()[0]}")
    health = _report(truth, total) if truth else []
    for finding in health:
        console.print(f"health: {terminal.with_flags(finding)}", soft_wrap=True)
    if failed or health:
        sys.exit(1)


def _report(truth: Truth, total: int) -> list[str]:
    """Print the accuracy and what it is of; returns what is wrong with the model."""
    from atrous.vastai.validation import accuracy_line

    if missing := truth.without:
        few = ", ".join(missing[:_NAMED]) + ", …" * (len(missing) > _NAMED)
        terminal.note(f"{len(missing)} of {total} images not scored, without a true mask: {few}")
    if not truth.scored:
        raise AtrousError("no image was scored")
    terminal.say(f"{truth.scored} of {total} images scored: {truth.protocol}")
    print(accuracy_line(truth.matrix))
    return truth.health()
