"""`atrous predict`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atrous.cli import options, terminal
from atrous.errors import ConfigError

if TYPE_CHECKING:
    from atrous.labels import LabelSet
    from atrous.runtime.folder import Result
    from atrous.runtime.predictor import Predictor

_VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".ts", ".webm")


def predict(
    src: Annotated[
        list[str],
        typer.Argument(
            help="Image files, folders (searched recursively), globs; or one video: a file, "
            "camera:N or a URL."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="Folder for masks/ and overlays/; or a video file."),
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
    """
    from contextlib import closing

    from atrous.runtime import folder
    from atrous.runtime.sources import find

    if overlap is not None and tile is None:
        raise ConfigError("--overlap belongs to --tile")
    video = output.suffix.lower() in _VIDEOS and not output.is_dir()
    if not video and (every != 1 or any(map(_is_video, src))):
        raise ConfigError(
            f"a video makes a video: expected -o NAME.mp4 ({', '.join(_VIDEOS)}), got {output}"
        )
    if video and (len(src) != 1 or tile is not None):
        raise ConfigError(f"{output}: expected one video, without --tile; got {' '.join(src)}")
    made = (output, output / "masks", output / "overlays")
    sources = [] if video else find(src, exclude=made)
    predictor = options.open_predictor(
        model,
        engine=engine,
        device=device,
        threads=threads,
        instances=instances,
        cache=cache,
        labels=labels,
        vdsp_params=vdsp_params,
        size=size,
    )
    if video:
        with predictor:
            _video(predictor, src[0], output, overlays, opacity, every, as_json)
        return
    console = terminal.console()
    summary = _Summary(predictor.labels, predictor.engine.name)
    with predictor, terminal.progress(console) as progress:
        task = progress.add_task("segmenting", total=len(sources))
        if tile is None:
            results = folder.segment(
                predictor,
                sources,
                output,
                overlays=overlays,
                opacity=opacity,
                force=force,
                max_pixels=max_pixels,
            )
        else:
            from atrous.runtime import large, tiles

            rows = progress.add_task("rows", total=None)
            results = large.segment(
                predictor,
                sources,
                output,
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

    from atrous.runtime.video import segment_video

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


def _is_video(source: str) -> bool:
    name = source.lower()
    return name.endswith(_VIDEOS) or name.startswith("camera:") or "://" in name


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

    def print(self, output: Path, overlays: bool) -> None:
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
                name, size = result.source.name, "×".join(map(str, result.size))
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
