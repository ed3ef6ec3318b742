"""`atrous npz`: a data set as npz files, a network's answers to them, and how good those are."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atrous.cli import json_output, options, terminal
from atrous.errors import AtrousError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from atrous.metrics import ConfusionMatrix
    from atrous.runtime.predictor import Predictor
    from atrous.vastai.npz import Converted
    from atrous.vastai.npz_eval import AnswerScore

npz = typer.Typer(
    help="Evaluate with npz files, as VastModelZOO does: make them, run a network, score answers.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ForceOption = Annotated[
    bool,
    typer.Option("--force", help="Replace files that Atrous did not write, too."),
]
_IGNORED = "Accepted and ignored."


@npz.command()
def make(
    dataset_path: Annotated[
        Path, typer.Option("--dataset_path", "--dataset-path", help="The folder of the images.")
    ],
    target_path: Annotated[
        Path, typer.Option("--target_path", "--target-path", help="The folder for the npz files.")
    ],
    text_path: Annotated[
        Path, typer.Option("--text_path", "--text-path", help="The list of npz files to write.")
    ] = Path("npz_datalist.txt"),
    ids: Annotated[
        str | None,
        typer.Option(
            help="The images to convert: a file with one id per line, or all. Default: "
            "ImageSets/Segmentation/val.txt beside the folder of the images."
        ),
    ] = None,
    copy_dir: Annotated[
        Path | None,
        typer.Option("--copy_dir", "--copy-dir", help="Copy the chosen images to this folder."),
    ] = None,
    value_range: options.RangeOption = None,
    bands: options.BandsOption = None,
    max_pixels: options.MaxPixelsOption = None,
    force: ForceOption = False,
) -> None:
    """Turn images into npz files: key input_0, uint8 RGB (3, H, W), at their own size.

    Example: atrous npz make --dataset_path VOC2012/JPEGImages --target_path VOC2012/JPEGImages_npz

    The list holds the absolute paths in the order of the ids and is written last. npz files of the
    same image are kept; those that Atrous made from another image are replaced; any other file is
    left alone, and its image fails. Images that fail are reported, the others are converted, and
    the exit code is 1.
    """
    from atrous.vastai import npz as files

    beside = dataset_path.resolve().parent / "ImageSets" / "Segmentation" / "val.txt"
    if ids is None and not beside.is_file():
        raise ConfigError(
            f"{beside}: no such file; --ids FILE says which images, --ids all takes all"
        )
    chosen = None if ids == "all" else files.read_ids(beside if ids is None else Path(ids))
    total = len(files.find_images(dataset_path) if chosen is None else chosen)
    steps = files.make(
        dataset_path,
        chosen,
        target_path,
        text_path,
        copies=copy_dir,
        force=force,
        reading=options.parse_reading(bands, max_pixels, value_range),
    )
    _report(steps, total, f"the list is {text_path}")


@npz.command()
def run(
    datalist: Annotated[Path, typer.Option(help="The list of npz files.")],
    output: Annotated[
        Path,
        typer.Option("-o", "--path_output", "--path-output", help="The folder for the answers."),
    ],
    rest: options.RestArgument = None,
    model: options.ModelOption = None,
    vdsp_params: options.VdspOption = None,
    kind: Annotated[
        Literal["logits", "classmap"],
        typer.Option(
            "--output", help="float16 logits (1, C, h, w), or uint8 class maps (1, h, w)."
        ),
    ] = "logits",
    force: ForceOption = False,
    engine: options.EngineOption = "auto",
    device: options.DeviceOption = "cpu",
    threads: options.ThreadsOption = 0,
    cache: options.CacheOption = None,
    labels: options.LabelsOption = None,
    size: options.SizeOption = None,
    layout: options.LayoutOption = None,
    output_name: options.OutputNameOption = None,
    threshold: options.ThresholdOption = None,
    instances: options.InstancesOption = 1,
    batch: options.BatchOption = None,
    processes: Annotated[str | None, typer.Option("-p", help=_IGNORED)] = None,
    shape: Annotated[str | None, typer.Option("-s", help=_IGNORED)] = None,
) -> None:
    """Run a network over npz files: key output_0, at the size of the network input.

    Example: atrous npz run -m deploy_weights/NAME/mod --vdsp_params vdsp.json
    --datalist npz_datalist.txt --path_output npz_output

    An answer has the name of its input. Answers of the same network to the same image with the same
    settings are kept; other answers of Atrous are replaced; any other file is left alone, and its
    input fails. Files that fail are reported, the others are answered, and the exit code is 1.
    Class maps take at most a fortieth of the disk space of logits.
    """
    from contextlib import closing

    from atrous.vastai import npz as files
    from atrous.vastai import npz_run

    processes = options.parse_rest(rest, processes)
    ignored = [f"{flag} {value}" for flag, value in (("-p", processes), ("-s", shape)) if value]
    if ignored:
        terminal.note(
            f"ignored: {' '.join(ignored)}: npz run is one process, and the model has its own shape"
        )
    inputs = files.read_list(datalist)
    network = options.ModelOptions(
        model, engine, device, threads, instances, cache, labels, vdsp_params, size,
        layout=layout, output_name=output_name, threshold=threshold,
    )  # fmt: skip
    with network.open() as predictor:
        fit = predictor.preprocess.fit
        if fit != "squash":
            terminal.note(
                f"this preprocessing does {fit}; npz eval expects the whole image, squashed"
            )
        if kind == "logits":
            _note_space(predictor, inputs, output)
        steps = npz_run.run(predictor, inputs, output, kind=kind, force=force, batch=batch)
        with closing(steps):
            _report(steps, len(inputs), f"see {output}")


@npz.command(name="eval")
def evaluate(
    gt_dir: Annotated[
        Path, typer.Option("--gt_dir", "--gt-dir", help="The folder of the true masks, ID.png.")
    ],
    out_npz_dir: Annotated[
        Path, typer.Option("--out_npz_dir", "--out-npz-dir", help="The folder of the answers.")
    ],
    input_npz_path: Annotated[
        Path, typer.Option("--input_npz_path", "--input-npz-path", help="The list of npz files.")
    ] = Path("npz_datalist.txt"),
    shape: Annotated[
        tuple[int, int],
        typer.Option("--input_shape", "--input-shape", help="Height and width of the answers."),
    ] = (513, 513),
    src_dir: Annotated[
        Path | None,
        typer.Option(
            "--src_dir", "--src-dir", help="The folder of the photographs that --draw_dir draws on."
        ),
    ] = None,
    draw_dir: Annotated[
        Path | None,
        typer.Option(
            "--draw_dir",
            "--draw-dir",
            help="Draw ID.png, the class map as a palette PNG, and ID_overlay.jpg here, resized "
            "(nearest) to the photograph.",
        ),
    ] = None,
    by_position: Annotated[
        bool,
        typer.Option(
            "--vamp_flag",
            "--vamp-flag",
            help="Pair answers with images by their position, unless their names contain the ids.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace pictures that Atrous did not draw.")
    ] = False,
    absent: Annotated[
        Literal["skip", "zero"],
        typer.Option(
            help="How classes that occur nowhere count in the mean: not at all (skip) or as 0."
        ),
    ] = "skip",
    labels: options.LabelsOption = "voc",
    as_json: json_output.JsonOption = False,
) -> None:
    """Score answers, logits or class maps, against true masks resized to them (squash-N).

    Example: atrous npz eval --src_dir VOC2012/JPEGImages --gt_dir VOC2012/SegmentationClass
    --input_npz_path npz_datalist.txt --out_npz_dir npz_output --input_shape 513 513
    --draw_dir npz_draw_result

    Answers that are named like their inputs are paired by id, numbered ones by their position in
    the list; the result tells which. Images that fail are reported and do not count, and the exit
    code is 1. Pictures that Atrous did not draw are not replaced, unless --force is given.
    --absent zero is the rule of VastModelZOO's tool.
    """
    from atrous.evaluation.health import check_predictions
    from atrous.metrics import ConfusionMatrix
    from atrous.vastai import npz as files
    from atrous.vastai import npz_eval, validation

    label_set = options.parse_labels(labels)
    if min(shape) < 1:
        raise ConfigError(f"--input_shape: expected height and width in pixels, got {shape}")
    if draw_dir is not None and src_dir is None:
        raise ConfigError("--draw_dir needs --src_dir, the photographs to draw on")
    if label_set is None:
        raise ConfigError("--labels: expected the name of a label set")
    if not gt_dir.is_dir():
        raise ConfigError(f"{gt_dir}: no such folder")
    pairing = npz_eval.pair(files.read_list(input_npz_path), out_npz_dir, by_position=by_position)
    if by_position and pairing.by == "id":
        terminal.note(
            "`by_position`: the answers are named by the ids of the list, so they are paired by id"
        )
    matrix = ConfusionMatrix(label_set.num_classes, label_set.ignore_index, absent)
    scores = npz_eval.evaluate(
        pairing.answers,
        gt_dir,
        shape,
        label_set,
        matrix,
        pictures=draw_dir,
        images=files.find_images(src_dir) if draw_dir and src_dir else None,
        force=force,
    )
    total = len(pairing.answers)
    counted, failed = _follow_scores(scores, total, matrix)
    if as_json:
        found = {
            "protocol": validation.protocol_name(shape),
            "pairing": pairing.by,
            "images": counted,
            "listed": total,
            "absent": absent,
            "pixel_accuracy": 100 * matrix.pixel_accuracy,
            "mean_iou": 100 * matrix.mean_iou,
        }
        print(json.dumps(found))
    else:
        print(
            f"{validation.protocol_name(shape)}: {counted} of {total} images, paired by "
            f"{pairing.by}; {validation.rules(shape, matrix)}"
        )
        print(validation.accuracy_line(matrix))
    health = check_predictions(matrix, label_set.names, 0)
    for finding in health:
        print(f"health: {terminal.with_flags(finding)}", file=sys.stderr)
    if failed or health:
        sys.exit(1)


def follow(steps: Iterable[Converted], total: int, doing: str) -> dict[str, int]:
    """Show progress and failures; returns how many were written, kept and failed."""
    console = terminal.console()
    counts = {"written": 0, "kept": 0, "failed": 0}
    with terminal.progress(console) as progress:
        for step in progress.track(steps, total, description=doing):
            counts[step.status] += 1
            if step.error:
                terminal.failed(console, step.error)
    return counts


def said(counts: dict[str, int]) -> str:
    """`6 written, 1 failed`."""
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count)


def _report(steps: Iterable[Converted], total: int, where: str) -> None:
    """Follow the work, then say what became of it; fail if an image did."""
    counts = follow(steps, total, "npz")
    terminal.say(f"{said(counts)}; {where}")
    if counts["failed"]:
        sys.exit(1)


def _follow_scores(
    scores: Iterable[AnswerScore], total: int, matrix: ConfusionMatrix
) -> tuple[int, bool]:
    """Show the accuracy so far, and failures; returns how many counted and whether one failed."""
    console = terminal.console()
    counted, failed = 0, False
    with terminal.progress(console) as progress:
        task = progress.add_task("scoring", total=total)
        for score in scores:
            counted += score.counted
            failed |= bool(score.errors)
            so_far = f"pixAcc {matrix.pixel_accuracy:.2%}, mIoU {matrix.mean_iou:.2%}"
            progress.update(task, advance=1, description=so_far)
            for error in score.errors:
                terminal.failed(console, error)
    if not counted:
        raise AtrousError("no image was scored")
    return counted, failed


def _note_space(predictor: Predictor, inputs: list[Path], folder: Path) -> None:
    """Say beforehand that the disk will not hold the logits."""
    import shutil

    existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    missing = sum(not (folder / f"{path.stem}.npz").exists() for path in inputs)
    height, width = predictor.preprocess.size
    needed = 2 * predictor.labels.num_classes * height * width * missing
    free = shutil.disk_usage(existing).free
    if needed > free:
        terminal.note(
            f"{missing} files of logits take {needed / 1e9:.1f} GB, {existing} has "
            f"{free / 1e9:.1f} GB free; `kind` classmap takes a fortieth or less"
        )
