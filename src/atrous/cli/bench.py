"""`atrous bench`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atrous.cli import json_output, options, terminal
from atrous.errors import ConfigError
from atrous.files import check_writable

if TYPE_CHECKING:
    from rich.console import Console

    from atrous.bench.measurement import Measurement, Sweep
    from atrous.bench.plan import Feed, Plan
    from atrous.vastai.npz_run import AnswerKind


def bench(
    context: typer.Context,
    rest: options.RestArgument = None,
    model: options.ModelOption = None,
    instances: Annotated[
        str | None,
        typer.Option(
            "-i", "--instances", metavar="N", help="Number of parallel calls of the network."
        ),
    ] = None,
    processes: Annotated[
        str | None,
        typer.Option(
            "-p", "--processes", metavar="N", help="Number of processes, each with -i instances."
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            "-b",
            "--batch",
            metavar="N",
            help="Number of images in one call. Default: the batch size of the model.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "-s",
            "--shape",
            metavar="[3,H,W]",
            help="Size of the network input; N and H,W work too.",
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            "-d", "--device", help="The device: cpu, cuda or tensorrt; cuda:1 is the second GPU."
        ),
    ] = "cpu",
    seconds: Annotated[
        float | None,
        typer.Option(
            "-t", "--seconds", help="Measure for at least this many seconds. Default: 10."
        ),
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option("--iterations", help="Measure at least this many queries, instead of -t."),
    ] = None,
    scenario: Annotated[
        Literal["single-stream", "multi-stream", "server", "offline"],
        typer.Option(
            help="How work arrives: one image at a time; -i batches at a time; at random; or all "
            "at once."
        ),
    ] = "offline",
    rate: Annotated[
        float | None,
        typer.Option(
            help="Images per second that arrive in scenario server. Default: the highest rate "
            "that keeps --latency-bound."
        ),
    ] = None,
    bound: Annotated[
        float | None,
        typer.Option(
            "--latency-bound",
            "--latency_bound",
            help="The largest 99th percentile of the latency in scenario server, in milliseconds.",
        ),
    ] = None,
    feed: Annotated[
        Literal["images", "pixels", "tensors"] | None,
        typer.Option(
            "--from",
            help="What is measured from: files to decode, decoded pixels, or network inputs "
            "(inference alone). Default: images with --images, pixels with --datalist, "
            "else tensors.",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="A folder of images to measure with. Default: random pixels."
        ),
    ] = None,
    synchronous: Annotated[
        int,
        typer.Option(
            "--forward_mode",
            "--forward-mode",
            min=0,
            max=1,
            help="0: the steps of different images overlap; 1: synchronous, one thread takes an "
            "image through all steps.",
        ),
    ] = 0,
    vdsp_params: options.VdspOption = None,
    layout: options.LayoutOption = None,
    output_name: options.OutputNameOption = None,
    threshold: options.ThresholdOption = None,
    precision: options.PrecisionOption = None,
    datalist: Annotated[
        Path | None,
        typer.Option(
            help="A list of npz files to answer (into --path_output) and to measure with."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--path_output", "--path-output", help="The folder for the answers, as npz files."
        ),
    ] = None,
    kind: Annotated[
        Literal["logits", "classmap"],
        typer.Option("--output", help="What the answers hold; see atrous npz run --help."),
    ] = "logits",
    force: Annotated[bool, typer.Option("--force", help="Replace existing answers.")] = False,
    engine: options.EngineOption = "auto",
    threads: Annotated[
        int,
        typer.Option(
            help="Number of CPU threads of each process; 0 means an even share of the cores.", min=0
        ),
    ] = 0,
    cache: options.CacheOption = None,
    as_json: json_output.JsonOption = False,
    json_file: json_output.JsonFileOption = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="A.json B.json", help="Measure nothing; compare two results of --json-file."
        ),
    ] = None,
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep",
            help="Measure every combination of -i, -p and -b, lists such as 1,2,4. Default: what "
            "suits the cores.",
        ),
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw what --sweep finds.")
    ] = None,
) -> None:
    """Measure throughput and latency of a model, find the bottleneck, and suggest what would help.

    Example: atrous bench -m deploy_weights/NAME/mod -i 1 -p 1 -b 1 -s [3,513,513]

    Example: atrous bench -m NAME --images photographs/ --scenario single-stream --json-file a.json

    Example: atrous bench -m NAME --sweep -i 1,2 -p 1,2 --plot sweep.png

    --compare a.json b.json compares two results that were measured in the same way. --datalist and
    --path_output also write the answers that `atrous npz eval` scores.
    """
    json_output.refuse_file(rest or (), as_json)
    if compare is not None:
        options.refuse_others(context, {"compare"}, "--compare A.json B.json measures nothing")
        _compare(compare)
        return
    if (datalist is None) != (output is None):
        raise ConfigError("--datalist LIST and --path_output FOLDER belong together")
    if plot is not None:
        _check_plot(plot, sweep)
    if datalist is not None and (images is not None or feed == "images"):
        raise ConfigError("--datalist lists decoded pixels: expected no --images, --from images")
    counts = {
        "instances": _counts("instances", instances, sweep),
        "processes": _counts("processes", options.parse_rest(rest, processes), sweep),
        "batch": _counts("batch", batch, sweep),
    }
    default: Feed = "images" if images is not None else "tensors" if datalist is None else "pixels"

    from atrous.bench.plan import Plan

    plan = Plan(
        model=model,
        engine=engine,
        device=options.parse_device(device),
        threads=threads,
        instances=(counts["instances"] or [1])[0],
        processes=(counts["processes"] or [1])[0],
        batch=counts["batch"][0] if counts["batch"] else None,
        size=options.parse_size(size),
        scenario=scenario,
        feed=feed or default,
        synchronous=synchronous == 1,
        seconds=seconds if seconds is not None else 10.0 if queries is None else 0.0,
        queries=1 if queries is None else queries,
        rate=rate,
        bound=bound,
        images=images,
        npz=datalist,
        vdsp=vdsp_params,
        cache=cache,
        layout=layout,
        output_name=output_name,
        threshold=threshold,
        precision=precision,
    )
    for path in (json_file, plot):
        if path is not None:
            check_writable(path)
    with json_output.only_json(as_json) as emit:
        all_answered = _answer(plan, output, kind, force) if output is not None else True
        found = _sweep(plan, counts, json_file, plot) if sweep else _measure(plan, json_file)
        emit(found.model_dump_json(indent=2))
    if not all_answered:
        sys.exit(1)


def _check_plot(path: Path, sweep: bool) -> None:
    from atrous.bench import plot

    if not sweep:
        raise ConfigError("--plot draws what --sweep finds: expected --sweep as well")
    plot.check(path)


def _measure(plan: Plan, path: Path | None) -> Measurement:
    from atrous.bench import measurement, run

    if plan.vdsp is not None and plan.feed == "tensors" and plan.images is plan.npz is None:
        terminal.note(
            "`vdsp_params`: random network inputs need no preprocessing; `feed` pixels measures it"
        )
    found = run.measure(plan, say=_say)
    with ExitStack() as last:  # what cannot be kept can still be read
        if path is not None:
            last.callback(measurement.save, found, path)
        _show(found)
    if path is not None:
        terminal.say(f"written: {path}")
    return found


def _show(found: Measurement) -> None:
    from atrous.bench import report

    console = _console()
    for part in (
        *report.heading(found),
        "",
        *report.lines(found),
        "",
        report.steps(found),
        "",
        *report.verdict(found),
    ):
        if isinstance(part, str):
            console.print(terminal.with_flags(part), soft_wrap=True)
        else:
            console.print(part)


def _sweep(
    plan: Plan, counts: dict[str, list[int]], path: Path | None, picture: Path | None
) -> Sweep:
    from atrous.bench import measurement, plot, report, sweep

    plans = sweep.plans(plan, *counts.values())
    found: list[Measurement] = []
    for one in sweep.sweep(plans, say=_say):
        found.append(one)
        if path is not None:  # after every one, as the next may fail
            measurement.save(measurement.Sweep(results=tuple(found)), path)
    console = _console()
    first, *_ = report.heading(found[0])
    console.print(first, soft_wrap=True)
    console.print(
        f"scenario {plan.scenario}, fed with {found[0].facts.fed}, {plan.seconds:g} s each\n"
    )
    console.print(report.swept(found))
    for one in found:
        if one.noise:
            where = sweep.label(one.plan.instances, one.plan.processes, one.plan.batch)
            noise = f"noisy: {where}: {'; '.join(one.noise)}"
            console.print(terminal.with_flags(noise), soft_wrap=True)
    if path is not None:
        terminal.say(f"written: {path}")
    if picture is not None:
        plot.draw(found, picture)
        terminal.say(f"written: {picture}")
    return measurement.Sweep(results=tuple(found))


def _compare(paths: tuple[Path, Path]) -> None:
    from atrous.bench import compare, measurement, report
    from atrous.errors import AtrousError

    pair = (measurement.load(paths[0]), measurement.load(paths[1]))
    names = (str(paths[0]), str(paths[1]))
    notes = compare.check(names, pair)
    console = _console()
    console.print(report.compared(names, pair))
    print()
    print(terminal.with_flags(report.difference(names, pair)))
    for text in notes:
        terminal.note(text)
    slower = compare.int8_is_slower(pair)
    if slower is None:
        return
    print("int8 is slower than float here; timing the layers of both:")
    try:
        console.print(report.grown(compare.slower_layers(*slower)))
    except AtrousError as error:
        terminal.note(f"the layers cannot be timed: {error}")


def _answer(plan: Plan, folder: Path, kind: AnswerKind, force: bool) -> bool:
    """Write the npz answers and how long that took; returns whether none failed."""
    import time
    from contextlib import closing

    from atrous.bench.load import open_predictor
    from atrous.cli.npz import follow, said
    from atrous.vastai import npz_run
    from atrous.vastai.npz import read_list

    assert plan.npz is not None
    inputs = read_list(plan.npz)
    if plan.processes > 1:
        terminal.note(f"`processes` {plan.processes}: answers are written by one process")
    with open_predictor(replace(plan, processes=1)) as predictor:
        began = time.perf_counter()
        steps = npz_run.run(predictor, inputs, folder, kind=kind, force=force, batch=plan.batch)
        with closing(steps):
            counts = follow(steps, len(inputs), "answering")
    seconds = time.perf_counter() - began
    speed = ""
    if counts["written"] == len(inputs):
        speed = f", {len(inputs) / seconds:.1f} images/s with reading and writing"
    terminal.say(f"{said(counts)} in {seconds:.1f} s{speed}; see {folder}")
    print()
    return not counts["failed"]


def _counts(name: str, text: str | None, several: bool) -> list[int]:
    """`"1"`, or with `several` `"1,2,4"`, as numbers; empty if nothing is given.

    Raises:
        ConfigError: it is something else.
    """
    if text is None:
        return []
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"`{name}`: expected 1 or more, got {text!r}")
    if len(parts) > 1 and not several:
        raise ConfigError(f"`{name}` {text}: expected one number; --sweep takes several")
    return list(dict.fromkeys(map(int, parts)))


def _console() -> Console:
    return terminal.console(output=True, width=0 if sys.stdout.isatty() else 120)


def _say(text: str) -> None:
    # No bar: what draws it would take time from what is measured.
    print(f"{terminal.with_flags(text)} …", file=sys.stderr, flush=True)
