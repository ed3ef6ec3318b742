"""`atrous predict`."""

from __future__ import annotations

import json
import sys
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from atrous.cli import options, terminal
from atrous.errors import ConfigError

if TYPE_CHECKING:
    from atrous.jobs.folder import Result
    from atrous.labels import LabelSet
    from atrous.runtime.predictor import Predictor

_VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".ts", ".webm")


def predict(
    src: Annotated[
        list[str],
        typer.Argument(
            help="Image files, folders (searched recursively), globs, with --cluster also URLs; or "
            "one video: a file, camera:N or a URL."
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="Folder for masks/ and overlays/, with --cluster also a URL; or a video file.",
        ),
    ],
    model: options.ModelOption = None,
    overlays: Annotated[bool, typer.Option(help="Draw overlays to look at.")] = True,
    opacity: Annotated[float, typer.Option(help="Of the overlays.", min=0, max=1)] = 0.5,
    force: Annotated[bool, typer.Option("--force", help="Make existing results again.")] = False,
    engine: options.EngineOption = "auto",
    device: options.DeviceOption = "cpu",
    threads: options.ThreadsOption = 0,
    instances: options.InstancesOption = 0,
    cache: options.CacheOption = None,
    labels: options.LabelsOption = None,
    vdsp_params: options.VdspOption = None,
    size: options.SizeOption = None,
    max_pixels: Annotated[int, typer.Option(help="Refuse larger images.", min=1)] = 2**28,
    tile: options.TileOption = None,
    overlap: options.OverlapOption = None,
    every: Annotated[
        int,
        typer.Option(
            help="Of a video only each N-th frame goes through the network; those between show "
            "its classes.",
            metavar="N",
            min=1,
        ),
    ] = 1,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Share the work with a Ray cluster: HOST:PORT, auto for the one that runs here or "
            "that RAY_ADDRESS names, local for workers on this machine alone.",
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            help="With --cluster: engines, each with --threads CPUs (1 by default) or one GPU. 0: "
            "as many as there is room for.",
            min=0,
        ),
    ] = 0,
    as_json: options.JsonOption = False,
) -> None:
    """Segment images: palette PNG masks whose values are class ids, and overlays to look at.

    Example: atrous predict photographs/ -o out

    Files that cannot be read are reported and the rest goes on; then the exit code is 1. Results
    that exist are kept unless --force is given. Transparent pixels are put on white. With --json,
    one line per image.

    Example: atrous predict orthophoto.tif -o out --tile 513

    With --tile an image may be larger than memory: it is read and its mask written in rows, and
    where tiles overlap their scores are blended. A GeoTIFF gives a GeoTIFF.

    Example: atrous predict clip.mp4 -o masked.mp4

    A video keeps the times of its frames and its audio; --no-overlays shows the classes alone. What
    a damaged clip or Ctrl-C cuts short stays playable as NAME.partial.mp4. A camera (camera:0,
    rtsp://…) leaves frames out where the network does not keep up, and ends at Ctrl-C.

    Example: atrous predict s3://photographs/2024 -o s3://results/2024 --cluster auto

    With --cluster folders must be shared by all machines; fsspec reads and writes URLs. A job that
    was stopped goes on where the same command is given again.
    """
    from contextlib import closing

    from atrous.engines import find_model
    from atrous.jobs import folder
    from atrous.jobs.cluster import remote
    from atrous.jobs.sources import find

    if overlap is not None and tile is None:
        raise ConfigError("--overlap belongs to --tile")
    path = Path(output)
    video = path.suffix.lower() in _VIDEOS and not path.is_dir()
    if cluster is not None and (video or tile is not None or every != 1):
        raise ConfigError("--cluster segments images: expected no video, --tile or --every")
    if cluster is None and (workers or "://" in output):
        raise ConfigError(f"{'--workers' if workers else output} belongs to --cluster")
    if not video and (every != 1 or any(_is_video(name, cluster is None) for name in src)):
        raise ConfigError(
            f"a video makes a video: expected -o NAME.mp4 ({', '.join(_VIDEOS)}), got {path}"
        )
    if video and (len(src) != 1 or tile is not None):
        raise ConfigError(f"{path}: expected one video, without --tile; got {' '.join(src)}")
    images = [] if cluster is None else remote.find(src, output)
    made = (path, path / "masks", path / "overlays")
    sources = [] if video or images else find(src, exclude=made)
    # Of a cluster this machine need not have the device: here the model is only looked at.
    here = cluster is None
    predictor = options.open_predictor(
        model if here else str(find_model(model, device)),
        engine=engine,
        device=device if here else "cpu",
        threads=threads if here else 1,
        instances=instances if here else 1,
        cache=cache if here else None,
        labels=labels,
        vdsp_params=vdsp_params,
        size=size,
    )
    if video:
        with predictor:
            _video(predictor, src[0], path, overlays, opacity, every, as_json)
        return
    console = terminal.console()
    summary = _Summary(predictor.labels, predictor.engine.name)
    with predictor, terminal.progress(console) as progress:
        task = progress.add_task("segmenting", total=len(sources or images))
        if cluster is not None:
            from atrous.jobs.cluster import job as machines

            own = options.engine_options(model, device, threads or 1, instances, cache)
            summary.engine = machines.engine_name(predictor, own)
            results = machines.segment(
                predictor,
                find_model(model, device),
                images,
                output,
                address=cluster,
                workers=workers,
                options=own,
                overlays=overlays,
                opacity=opacity,
                force=force,
                max_pixels=max_pixels,
            )
        elif tile is None:
            results = folder.segment(
                predictor,
                sources,
                path,
                overlays=overlays,
                opacity=opacity,
                force=force,
                max_pixels=max_pixels,
            )
        else:
            from atrous.jobs.large import job as large
            from atrous.jobs.large import tiles

            rows = progress.add_task("rows", total=None)
            results = large.segment(
                predictor,
                sources,
                path,
                side=tile,
                overlap=tiles.OVERLAP if overlap is None else overlap,
                overlays=overlays,
                opacity=opacity,
                force=force,
                progress=lambda done, total: progress.update(rows, completed=done, total=total),
            )
        with closing(results):
            for result in results:
                progress.advance(task)
                summary.add(result)
                if result.error:
                    console.print(f"failed: {result.error}", soft_wrap=True)
                if as_json:
                    print(json.dumps(_record(result, predictor.labels)), flush=True)
    if not as_json:
        summary.print(output, overlays)
    if summary.counts["failed"]:
        sys.exit(1)


def _video(
    predictor: Predictor,
    source: str,
    output: Path,
    overlay: bool,
    opacity: float,
    every: int,
    as_json: bool,
) -> None:
    from dataclasses import asdict

    from atrous.jobs.video.job import segment_video

    with terminal.progress(terminal.console()) as progress:
        task = progress.add_task("frames", total=None)
        made = segment_video(
            predictor,
            source,
            output,
            overlay=overlay,
            opacity=opacity,
            every=every,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if as_json:
        print(json.dumps(asdict(made), default=str))
        return
    print(
        f"{made.output}: {made.frames} frames of {made.size[0]}×{made.size[1]}, {made.segmented} "
        f"through the network, {made.dropped} left out, {made.audio} audio tracks; {made.encoder}; "
        f"{made.frames / made.seconds:.1f} frames/s"
    )


def _is_video(source: str, urls: bool) -> bool:
    name = source.lower()
    return name.endswith(_VIDEOS) or name.startswith("camera:") or (urls and "://" in name)


class _Summary:
    """Adds up what was found, in memory that does not grow with the number of images."""

    listed = 12

    def __init__(self, labels: LabelSet, engine: str) -> None:
        self.labels = labels
        self.engine = engine
        self.counts = {"written": 0, "kept": 0, "stale": 0, "failed": 0}
        self.images = [0] * 256
        self.share = [0.0] * 256
        self.first: list[Result] = []

    def add(self, result: Result) -> None:
        self.counts[result.status] += 1
        for class_id, share in (result.shares or {}).items():
            self.images[class_id] += 1
            self.share[class_id] += share
        if result.shares and len(self.first) <= self.listed:
            self.first.append(result)

    def print(self, output: str, overlays: bool) -> None:
        from rich.console import Console
        from rich.table import Table

        from atrous.image import class_name

        console = Console(markup=False)
        written = self.counts["written"]
        if 0 < written <= self.listed:
            table = Table("image", "size", "class", "share of pixels", box=None)
            for result in self.first:
                assert result.size is not None
                assert result.shares is not None
                name, size = PurePath(result.source).name, "×".join(map(str, result.size))
                for class_id, share in result.shares.items():
                    table.add_row(name, size, class_name(self.labels, class_id), f"{share:.1%}")
                    name = size = ""
            console.print(table)
        elif written:
            table = Table("class", "images", "share of pixels", box=None)
            order = sorted(range(256), key=lambda class_id: -self.share[class_id])
            for class_id in (i for i in order if self.images[i]):
                share = self.share[class_id] / written
                name = class_name(self.labels, class_id)
                table.add_row(name, str(self.images[class_id]), f"{share:.1%}")
            console.print(table)
        words = {
            "written": f"written by {self.engine}",
            "stale": "kept though made from another image or by another model",
        }
        counts = ", ".join(
            f"{count} {words.get(status, status)}" for status, count in self.counts.items() if count
        )
        if self.counts["stale"] or self.counts["kept"]:
            counts += " (--force makes them again)"
        if sum(self.counts.values()) > self.counts["failed"]:
            output = output.rstrip("/")
            counts += f"; see {output}/masks" + (f" and {output}/overlays" if overlays else "")
        console.print(counts, highlight=False, soft_wrap=True)


def _record(result: Result, labels: LabelSet) -> dict[str, object]:
    from atrous.image import class_name

    return {
        "source": str(result.source),
        "status": result.status,
        "mask": str(result.mask) if result.mask else None,
        "overlay": str(result.overlay) if result.overlay else None,
        "width": result.size[0] if result.size else None,
        "height": result.size[1] if result.size else None,
        "classes": [
            {"id": class_id, "name": class_name(labels, class_id), "share": share}
            for class_id, share in result.shares.items()
        ]
        if result.shares is not None
        else None,
        "error": result.error or None,
    }
