"""`atrous predict`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atrous.cli import formats, json_output, options, terminal
from atrous.errors import ConfigError
from atrous.jobs.video import SUFFIXES
from atrous.palette import OPACITY

if TYPE_CHECKING:
    from atrous.image import Reading
    from atrous.jobs.output import Output
    from atrous.jobs.sources import Source


def predict(
    context: typer.Context,
    src: Annotated[
        list[str],
        typer.Argument(
            help="Image files, folders (searched recursively) and globs; with --cluster also "
            "URLs. Or one video: a file, camera:N or a URL."
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="The folder for masks/ and overlays/ (with --cluster also a URL); or, for one "
            "picture, a file: NAME.png for its mask, NAME.jpg for its overlay, NAME.tif "
            "with --tile; or a video.",
        ),
    ],
    model: options.ModelOption = None,
    overlays: Annotated[bool, typer.Option(help="Draw overlays: classes over photographs.")] = True,
    opacity: Annotated[
        float, typer.Option(help="Opacity of the overlays.", min=0, max=1)
    ] = OPACITY,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace files that Atrous did not write, too."),
    ] = False,
    engine: options.EngineOption = "auto",
    device: options.DeviceOption = "cpu",
    threads: options.ThreadsOption = 0,
    instances: options.InstancesOption = 0,
    cache: options.CacheOption = None,
    labels: options.LabelsOption = None,
    vdsp_params: options.VdspOption = None,
    size: options.SizeOption = None,
    layout: options.LayoutOption = None,
    output_name: options.OutputNameOption = None,
    threshold: options.ThresholdOption = None,
    precision: options.PrecisionOption = None,
    value_range: options.RangeOption = None,
    bands: options.BandsOption = None,
    max_pixels: options.MaxPixelsOption = None,
    side: options.TileOption = None,
    overlap: options.OverlapOption = None,
    every: Annotated[
        int,
        typer.Option(
            help="Run the network on every N-th frame of a video only; the frames between keep "
            "its classes.",
            metavar="N",
            min=1,
        ),
    ] = 1,
    address: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="ADDRESS",
            help="Share the work with a Ray cluster: HOST:PORT; auto for the one on this "
            "machine or in RAY_ADDRESS; local for workers on this machine only.",
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            help="With --cluster: the number of engines, each with --threads CPUs (1 by "
            "default) or one GPU. 0 means as many as fit.",
            min=0,
        ),
    ] = 0,
    as_json: json_output.JsonOption = False,
    as_formats: formats.AsOption = None,
    gallery: formats.GalleryOption = False,
) -> None:
    """Segment images: palette PNG masks whose values are class ids, and overlays to look at.

    Example: atrous predict photographs/ -o out

    Files that cannot be read are reported, the others are segmented, and the exit code is 1.
    Results of the same picture and the same model are kept; results of another picture or model
    are replaced. A file that Atrous did not write, or that was changed since, is left alone and
    its picture fails, unless --force is given. Transparent pixels become white. --json prints one
    line per image.

    Example: atrous predict photographs/ -o out --as overlays,coco,labelme --gallery

    Regions for other tools, made from the masks: coco.json for all pictures, labelme/ and geojson/
    with one file each. --gallery writes index.html for a browser.

    Example: atrous predict photograph.jpg -o mask.png

    One picture can go to one file. A mask needs a format that keeps its class ids, so NAME.jpg is
    the overlay.

    Example: atrous predict orthophoto.tif -o out --tile 513

    With --tile an image may be larger than memory: it is read, and its mask written, row by row.
    Scores are blended where tiles overlap. A GeoTIFF gives a cloud-optimised GeoTIFF.

    Example: atrous predict clip.mp4 -o masked.mp4

    A video keeps its timestamps and its audio; --no-overlays shows the classes alone. If a clip is
    damaged or Ctrl-C stops it, the part that is finished plays as NAME.partial.mp4. A camera
    (camera:0, rtsp://…) drops frames where the network is too slow, until Ctrl-C.

    Example: atrous predict s3://photographs/2024 -o s3://results/2024 --cluster auto

    With --cluster all machines must see the same folders; URLs work by fsspec. The same command
    resumes a job that was stopped.
    """
    network = options.ModelOptions(
        model, engine, device, threads, instances, cache, labels, vdsp_params, size, value_range,
        layout, output_name, threshold, precision,
    )  # fmt: skip
    json_output.refuse_file(src, as_json, "--json > {}")
    asked = _Asked(
        src, output, network, as_json,
        overlays, opacity, force, value_range, bands, max_pixels,
        side, overlap, every, address, workers, formats.parse(context, as_formats, gallery),
    )  # fmt: skip
    job = _job(asked)
    _refuse_others(context, job)
    job.run(asked)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A command; what follows `as_json` are the options that some jobs take and others do not."""

    sources: list[str]
    place: str
    network: options.ModelOptions
    as_json: bool
    overlays: bool
    opacity: float
    force: bool
    value_range: str | None
    bands: str | None
    max_pixels: int | None
    side: int | None
    overlap: float | None
    every: int
    address: str | None
    workers: int
    more: formats.Formats

    def output(self) -> Output:
        """Where the results of images go."""
        from atrous.jobs.output import Output

        single, overlays = _makes_picture(self.place), self.more.overlays(self.overlays)
        return self.more.fitting(
            Output(self.place, overlays, self.opacity, self.force, single=single)
        )

    def reading(self) -> Reading:
        """How images are read.

        Raises:
            ConfigError: an option of it is wrong.
        """
        return options.parse_reading(self.bands, self.max_pixels)

    def images(self) -> list[Source]:
        """The images on this machine.

        Raises:
            ConfigError: the output is a URL, or a source is a video, or the output is a file, but
                not for these sources.
            InputError: there is none.
        """
        from atrous.jobs.sources import find

        self._check_file()
        if "://" in self.place:
            raise ConfigError(f"{self.place} belongs to --cluster")
        if any("://" in name or _is_video(name) for name in self.sources):
            raise ConfigError(
                f"a video makes a video: expected -o NAME.mp4 ({', '.join(SUFFIXES)}), got "
                f"{self.place}{', a folder' * Path(self.place).is_dir()}"
            )
        found = find(self.sources, Path(self.place))
        single = _makes_picture(self.place)
        for source in found if single else ():
            source.check()
        if single and len(found) != 1:
            raise ConfigError(
                f"{self.place} is a file for one picture, and {len(found)} were found: name a "
                "folder with -o, for masks/ and overlays/"
            )
        return found

    def _check_file(self) -> None:
        """Refuse an output file that can hold no result.

        Raises:
            ConfigError: it cannot.
        """
        tiffs = () if self.side is None else (".tif", ".tiff")
        holds = (".png", ".jpg", ".jpeg", *tiffs)
        if _makes_picture(self.place) and not self.place.lower().endswith(holds):
            tiff = ", or .tif with --tile" if self.side is None else " or .tif"
            raise ConfigError(
                f"{self.place}: a mask is written as .png{tiff}, an overlay as .jpg; expected such "
                "a name, or a folder"
            )


@dataclass(frozen=True, slots=True)
class _Job:
    """One thing that the verb does.

    Attributes:
        name: what it is done to.
        takes: parameters of the verb, beside those that all jobs take.
        run: does it.
    """

    name: str
    takes: frozenset[str]
    run: Callable[[_Asked], None]


def _folder(asked: _Asked) -> None:
    from atrous.cli.results import Report, what_ran
    from atrous.jobs.folder import segment

    sources, reading = asked.images(), asked.reading()
    with asked.network.open() as predictor:
        output = asked.output()
        results = segment(predictor, sources, output, reading=reading)
        ran = what_ran(asked.network, predictor.engine.title, predictor.engine.metadata)
        more = asked.more.places(asked.place)
        report = Report(predictor.labels, ran, output, asked.as_json, more)
        report.follow(asked.more.of(results, sources, output, predictor.labels), len(sources))


def _large(asked: _Asked) -> None:
    from atrous.cli.results import Report, what_ran
    from atrous.jobs.large.job import segment
    from atrous.jobs.large.tiles import OVERLAP

    sources, reading = asked.images(), asked.reading()
    assert asked.side is not None
    overlap = OVERLAP if asked.overlap is None else asked.overlap
    with asked.network.open() as predictor:
        output = asked.output()
        ran = what_ran(asked.network, predictor.engine.title, predictor.engine.metadata)
        more = asked.more.places(asked.place)
        report = Report(predictor.labels, ran, output, asked.as_json, more)
        results = segment(
            predictor,
            sources,
            output,
            side=asked.side,
            overlap=overlap,
            reading=reading,
            max_pixels=asked.max_pixels,
            progress=report.rows,
        )
        report.follow(asked.more.of(results, sources, output, predictor.labels), len(sources))


def _video(asked: _Asked) -> None:
    from atrous.cli.results import what_ran
    from atrous.jobs.video.job import segment_video

    if len(asked.sources) != 1:
        raise ConfigError(f"{asked.place}: expected one video, got {' '.join(asked.sources)}")
    with asked.network.open() as predictor, terminal.progress(terminal.console()) as progress:
        task = progress.add_task("frames", total=None)
        made = segment_video(
            predictor,
            asked.sources[0],
            Path(asked.place),
            overlay=asked.overlays,
            opacity=asked.opacity,
            every=asked.every,
            force=asked.force,
            max_pixels=asked.reading().max_pixels,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if asked.as_json:
        print(json.dumps(asdict(made), default=str))
        return
    if made.kept:
        terminal.say(f"{made.output}: kept, it was made from the same file by the same model")
        return
    terminal.say(
        f"{made.output}: {made.frames} frames of {made.size[0]}×{made.size[1]}, {made.segmented} "
        f"through the network, {made.dropped} left out, {made.audio} audio tracks; {made.encoder}; "
        f"{made.frames / made.seconds:.1f} frames/s by "
        f"{what_ran(asked.network, predictor.engine.title, predictor.engine.metadata)}"
    )


def _cluster(asked: _Asked) -> None:
    from atrous.cli.results import Report, what_ran
    from atrous.engines import find_model
    from atrous.jobs.cluster import job as cluster
    from atrous.jobs.cluster import remote

    network = asked.network
    if _makes_video(asked.place) or any(map(_is_video, asked.sources)):
        raise ConfigError("--cluster segments images: expected no video")
    if _makes_picture(asked.place):
        raise ConfigError(f"{asked.place} is a file: --cluster writes into a folder or a URL")
    images, reading = remote.find(asked.sources, asked.place), asked.reading()
    model = find_model(network.model, network.device)
    # Of a cluster this machine need not have the device: here the model is only looked at.
    here = replace(network, model=str(model), device="cpu", threads=1, instances=1, cache=None)
    with here.open() as predictor:
        workers_own = replace(network, threads=network.threads or 1).engine_options
        output = asked.output()
        results = cluster.segment(
            predictor,
            model,
            images,
            output,
            address=asked.address or "",
            workers=asked.workers,
            options=workers_own,
            reading=reading,
        )
        title = cluster.engine_name(predictor, workers_own)
        ran = what_ran(network, title, predictor.engine.metadata, workers_own.threads)
        Report(predictor.labels, ran, output, asked.as_json).follow(results, len(images))


_DRAWN = frozenset({"overlays", "opacity", "force"})
_READ = frozenset({"value_range", "bands", "max_pixels"})
_MORE = frozenset({"as_formats", "gallery"})
_FOLDER = _Job("whole images", _DRAWN | _READ | _MORE, _folder)
_LARGE = _Job("images in tiles (--tile)", _DRAWN | _READ | _MORE | {"side", "overlap"}, _large)
_VIDEO = _Job("a video (-o NAME.mp4)", _DRAWN | {"every", "max_pixels"}, _video)
_CLUSTER = _Job("a cluster (--cluster)", _DRAWN | _READ | {"address", "workers"}, _cluster)
_JOBS = (_FOLDER, _LARGE, _VIDEO, _CLUSTER)


def _job(asked: _Asked) -> _Job:
    """Which one is asked for."""
    if asked.address is not None:
        return _CLUSTER
    if _makes_video(asked.place):
        return _VIDEO
    return _FOLDER if asked.side is None else _LARGE


def _refuse_others(context: typer.Context, job: _Job) -> None:
    """Refuse an option that other jobs take and this one does not.

    Raises:
        ConfigError: one was given.
    """
    for name, flag in options.given(context).items():
        owners = [other.name for other in _JOBS if name in other.takes]
        if owners and name not in job.takes:
            raise ConfigError(f"{flag} belongs to {' and '.join(owners)}: not for {job.name}")


def _makes_video(output: str) -> bool:
    return output.lower().endswith(SUFFIXES) and not Path(output).is_dir()


def _makes_picture(output: str) -> bool:
    from atrous.pictures.formats import SUFFIXES as ENDINGS

    path = Path(output)
    folder = "://" in output or output.endswith(("/", os.sep)) or path.is_dir()
    return not folder and path.suffix.lower() in ENDINGS


def _is_video(source: str) -> bool:
    return source.lower().endswith(SUFFIXES) or source.lower().startswith("camera:")
