"""`atrous bench`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from atrous.cli import options, terminal
from atrous.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atrous.bench.measurement import Measurement
    from atrous.bench.plan import Feed, Plan


def bench(
    rest: Annotated[list[str] | None, typer.Argument(metavar="p N", hidden=True)] = None,
    model: options.ModelOption = None,
    instances: Annotated[
        str | None,
        typer.Option("-i", "--instances", metavar="N", help="Calls of the network side by side."),
    ] = None,
    processes: Annotated[
        str | None,
        typer.Option("-p", "--processes", metavar="N", help="Processes, each with -i instances."),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            "-b", "--batch", metavar="N", help="Images in one call. Default: the model's own."
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option("-s", "--shape", metavar="[3,H,W]", help="Network input, also as N or H,W."),
    ] = None,
    device: Annotated[str, typer.Option("-d", "--device", help="cpu, cuda or tensorrt.")] = "cpu",
    seconds: Annotated[
        float | None,
        typer.Option("-t", "--seconds", help="Measure this long at least. Default: 10."),
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(help="Measure this many queries at least, in place of -t.")
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
            help="Images per second that arrive in scenario server. Default: the highest that "
            "holds --latency-bound."
        ),
    ] = None,
    latency_bound: Annotated[
        float | None,
        typer.Option(
            "--latency-bound",
            "--latency_bound",
            help="Milliseconds that p99 may take in scenario server.",
        ),
    ] = None,
    feed: Annotated[
        Literal["images", "pixels", "tensors"] | None,
        typer.Option(
            "--from",
            help="What is handed in: files to decode, decoded pixels, or network inputs (pure "
            "inference). Default: images with --images, pixels with --datalist, else tensors.",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Real images. Default: random ones."),
    ] = None,
    forward_mode: Annotated[
        int,
        typer.Option(
            "--forward_mode",
            "--forward-mode",
            min=0,
            max=1,
            help="0: the steps of images overlap; 1: synchronous, a thread takes an image through "
            "all steps.",
        ),
    ] = 0,
    vdsp_params: options.VdspOption = None,
    datalist: Annotated[
        Path | None,
        typer.Option(help="A list of npz files, to answer (--path_output) and to measure with."),
    ] = None,
    path_output: Annotated[
        Path | None,
        typer.Option("--path_output", "--path-output", help="Folder for the answers, as npz."),
    ] = None,
    output: Annotated[
        Literal["logits", "classmap"], typer.Option(help="What answers hold; see npz run.")
    ] = "logits",
    force: Annotated[bool, typer.Option("--force", help="Make existing answers again.")] = False,
    engine: options.EngineOption = "auto",
    threads: Annotated[
        int,
        typer.Option(help="CPU threads of each process, 0 for an even share of the cores.", min=0),
    ] = 0,
    cache: options.CacheOption = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Keep the result as JSON.")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A.json B.json", help="Measure nothing; compare two results."),
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
    """Measure how fast a model runs: throughput, latency, where the time goes, what would help.

    Example: atrous bench -m deploy_weights/NAME/mod -i 1 -p 1 -b 1 -s [3,513,513]

    Example: atrous bench -m NAME --images photographs/ --scenario single-stream --json one.json

    Example: atrous bench -m NAME --sweep -i 1,2 -p 1,2 --plot sweep.png

    Figures of two models compare if all else is equal: --compare a.json b.json. With --datalist and
    --path_output it is the accuracy run as well, whose answers `atrous npz eval` scores.
    """
    if compare is not None:
        if model is not None or sweep or datalist is not None:
            raise ConfigError("--compare A.json B.json measures nothing: expected no other options")
        _compare(compare)
        return
    if (datalist is None) != (path_output is None):
        raise ConfigError("--datalist LIST and --path_output FOLDER belong together")
    if plot is not None and not sweep:
        raise ConfigError("--plot draws what --sweep finds: expected --sweep as well")
    if datalist is not None and (images is not None or feed == "images"):
        raise ConfigError("--datalist lists decoded pixels: expected no --images, --from images")
    counts = {
        "-i": _counts("-i", instances, sweep),
        "-p": _counts("-p", _bare(rest, processes), sweep),
        "-b": _counts("-b", batch, sweep),
    }
    default: Feed = "images" if images is not None else "tensors" if datalist is None else "pixels"

    from atrous.bench.plan import Plan

    plan = Plan(
        model=model,
        engine=engine,
        device=_device(device),
        threads=threads,
        instances=(counts["-i"] or [1])[0],
        processes=(counts["-p"] or [1])[0],
        batch=counts["-b"][0] if counts["-b"] else None,
        size=_shape(shape),
        scenario=scenario,
        feed=feed or default,
        synchronous=forward_mode == 1,
        seconds=seconds if seconds is not None else 10.0 if iterations is None else 0.0,
        queries=1 if iterations is None else iterations,
        rate=rate,
        bound=latency_bound,
        images=images,
        npz=datalist,
        vdsp=vdsp_params,
        cache=cache,
    )
    failed = False
    if datalist is not None and path_output is not None:
        failed = _answer(plan, datalist, path_output, output, force)
    if sweep:
        _sweep(plan, counts, json, plot)
    else:
        _measure(plan, json)
    if failed:
        sys.exit(1)


def _measure(plan: Plan, path: Path | None) -> None:
    from atrous.bench import measurement, report, run

    if plan.vdsp is not None and plan.feed == "tensors" and plan.images is plan.npz is None:
        terminal.note(
            "--vdsp_params: random network inputs need no preprocessing; --from pixels measures it"
        )
    found = run.measure(plan, say=_say)
    if path is not None:
        measurement.save(found, path)
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
        console.print(part, soft_wrap=isinstance(part, str))
    if path is not None:
        print(f"written: {path}")


def _sweep(
    plan: Plan, counts: dict[str, list[int]], path: Path | None, picture: Path | None
) -> None:
    from atrous.bench import measurement, plot, report, sweep

    plans = sweep.plans(plan, counts["-i"], counts["-p"], counts["-b"])
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
            console.print(f"noisy: {where}: {'; '.join(one.noise)}", soft_wrap=True)
    if path is not None:
        print(f"written: {path}")
    if picture is not None:
        plot.draw(found, picture)
        print(f"written: {picture}")


def _compare(paths: tuple[Path, Path]) -> None:
    from atrous.bench import compare, measurement, report
    from atrous.errors import AtrousError

    pair = (measurement.load(paths[0]), measurement.load(paths[1]))
    names = (str(paths[0]), str(paths[1]))
    notes = compare.check(names, pair)
    console = _console()
    console.print(report.compared(names, pair))
    print()
    print(report.difference(names, pair))
    for text in notes:
        terminal.note(text)
    slower = compare.int8_is_slower(pair)
    if slower is None:
        return
    print("int8 is slower than float here; timing the layers of both:")
    try:
        console.print(report.grown(compare.slower_layers(*slower)))
    except AtrousError as error:
        terminal.note(f"layers are not timed: {error}")


def _answer(plan: Plan, datalist: Path, folder: Path, kind: Any, force: bool) -> bool:
    """Write the npz answers and how long that took; returns whether one failed."""
    import time
    from contextlib import closing

    from atrous.engines.base import Options
    from atrous.runtime.predictor import Predictor
    from atrous.vastai import npz, npz_run, vdsp

    inputs = npz.read_list(datalist)
    predictor = Predictor.open(
        plan.model,
        engine=plan.engine,
        options=Options(plan.device, plan.threads, plan.instances, plan.cache),
        preprocess=vdsp.read(plan.vdsp, plan.size) if plan.vdsp else None,
        size=plan.size,
    )
    if plan.processes > 1:
        terminal.note(f"-p {plan.processes}: answers are written by one process")
    counts = {"written": 0, "kept": 0, "failed": 0}
    console = terminal.console()
    began = time.perf_counter()
    with predictor, terminal.progress(console) as progress:
        task = progress.add_task("answering", total=len(inputs))
        steps = npz_run.run(predictor, inputs, folder, kind=kind, force=force, batch=plan.batch)
        with closing(steps):
            for step in steps:
                progress.advance(task)
                counts[step.status] += 1
                if step.error:
                    console.print(f"failed: {step.error}", soft_wrap=True)
    seconds = time.perf_counter() - began
    done = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    speed = ""
    if counts["written"] == len(inputs):
        speed = f", {len(inputs) / seconds:.1f} images/s with reading and writing"
    print(f"{done} in {seconds:.1f} s{speed}; see {folder}\n")
    return bool(counts["failed"])


def _bare(rest: Sequence[str] | None, processes: str | None) -> str | None:
    """Processes, also where `-i 1 p 1` was meant to say how many."""
    if not rest:
        return processes
    # VastModelZOO's documents have `-i 1 p 1`, and its tool takes it.
    if len(rest) != 2 or rest[0] != "p" or not rest[1].isdigit() or processes is not None:
        raise ConfigError(f"bench takes options alone, got {' '.join(rest)!r}")
    terminal.note(f"p {rest[1]}: taken as -p {rest[1]}")
    return rest[1]


def _counts(flag: str, text: str | None, several: bool) -> list[int]:
    """`"1"`, or with `several` `"1,2,4"`, as numbers; empty if nothing is given.

    Raises:
        ConfigError: it is something else.
    """
    if text is None:
        return []
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ConfigError(f"{flag}: expected 1 or more, got {text!r}")
    if len(parts) > 1 and not several:
        raise ConfigError(f"{flag} {text}: expected one number; --sweep takes several")
    return list(dict.fromkeys(map(int, parts)))


def _shape(text: str | None) -> tuple[int, int] | None:
    """`"[3,513,513]"`, `"513,513"` or `"513"` as height and width.

    Raises:
        ConfigError: it is none of them.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.strip("[] ").replace("x", ",").split(",")]
    if len(parts) == 3 and parts[0] == "3":
        parts = parts[1:]
    if len(parts) > 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ConfigError(f"-s: expected [3,HEIGHT,WIDTH], HEIGHT,WIDTH or N, got {text!r}")
    return int(parts[0]), int(parts[-1])


def _device(text: str) -> options.Device:
    """A device by its name; a number, as VastModelZOO's documents have it, is the CPU.

    Raises:
        ConfigError: there is none of that name.
    """
    if text.isdigit():
        terminal.note(f"-d {text}: devices have names here; taken as cpu, -d cuda is the GPU")
        return "cpu"
    known: dict[str, options.Device] = {"cpu": "cpu", "cuda": "cuda", "tensorrt": "tensorrt"}
    if text not in known:
        raise ConfigError(f"-d: expected {', '.join(known)}, got {text!r}")
    return known[text]


def _console() -> Any:
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:  # a file has no width
        console.width = max(console.width, 120)
    return console


def _say(text: str) -> None:
    # No bar: what draws it would take time from what is measured.
    print(f"{text} …", file=sys.stderr, flush=True)
