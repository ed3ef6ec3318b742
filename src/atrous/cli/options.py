"""Options that several verbs share, each written once, and what their values mean."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

import typer

from atrous.cli import terminal
from atrous.errors import ConfigError, InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from atrous.engines.base import Options
    from atrous.engines.meaning import Layout
    from atrous.image import Reading
    from atrous.labels import LabelSet
    from atrous.preprocess import Preprocess
    from atrous.runtime.predictor import Predictor

_MOST_INSTANCES = 4

Device = Literal["cpu", "cuda", "tensorrt"]

RestArgument = Annotated[list[str] | None, typer.Argument(metavar="p N", hidden=True)]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        help="The model: an ONNX file, a folder with mod.onnx, its prefix, a checkpoint or a "
        "name of atrous models. Default: the model in the package.",
    ),
]
EngineOption = Annotated[
    Literal["auto", "onnxruntime", "openvino", "torch"],
    typer.Option(
        help="The engine. auto takes torch for checkpoints, and for ONNX files openvino (on the "
        "CPU, if it is installed and exact there) or onnxruntime."
    ),
]
DeviceOption = Annotated[Device, typer.Option(help="The device that it runs on.")]
ThreadsOption = Annotated[int, typer.Option(help="CPU threads; 0 means one per core.", min=0)]
InstancesOption = Annotated[
    int,
    typer.Option(
        "-i",
        "--instances",
        help="Images in the network at once, which share the threads. 0: one per core, at most "
        "4, for ONNX files on the CPU, else 1.",
        min=0,
    ),
]
BatchOption = Annotated[
    int | None,
    typer.Option(
        "-b",
        "--batch",
        help="Number of images in one call of the network. Default: the batch size of the "
        "model, or 1 if it is free.",
        min=1,
    ),
]
PrecisionOption = Annotated[
    Literal["fp32", "bf16"] | None,
    typer.Option(
        help="The precision of float arithmetic (bf16: openvino). Default: as it was compiled."
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Keep what the engine builds from the model in this folder, so that it opens "
        "faster the next time (openvino, tensorrt).",
    ),
]
LabelsOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The names of the classes: voc, cityscapes, or a list: road,car.",
    ),
]
LayoutOption = Annotated[
    Literal["nchw", "nhwc"] | None,
    typer.Option(
        help="Axis order of a third-party network's scores. Default: as its graph and sizes "
        "suggest."
    ),
]
OutputNameOption = Annotated[
    str | None,
    typer.Option(
        "--output-name",
        metavar="NAME",
        help="The output, or any tensor, that holds the scores of a third-party network.",
    ),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        help="The least probability at which a pixel counts as a class, for networks with an "
        "independent probability for each class. Default: 0.5 for one class; of several "
        "classes the most probable one.",
        min=0,
        max=1,
    ),
]
VdspOption = Annotated[
    Path | None,
    typer.Option(
        "--vdsp-params",
        "--vdsp_params",
        help="Take the preprocessing from this vdsp JSON file.",
    ),
]
SizeOption = Annotated[
    str | None,
    typer.Option(help="Size of the network input, N or HEIGHT,WIDTH, if it is free."),
]
RangeOption = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="LOW,HIGH",
        help="The stored values of black and white, for samples of more than 8 bits, signed or "
        "floating. Default: those of the bit depth that the file declares.",
    ),
]
BandsOption = Annotated[
    str | None,
    typer.Option(
        "--bands",
        metavar="R,G,B",
        help="Bands to use, counted from 1: one for grey or three for RGB, and one more for "
        "transparency. Default: as they are tagged in the file.",
    ),
]
MaxPixelsOption = Annotated[
    int | None,
    typer.Option(
        help="Refuse larger images. Default: 2^28; no limit for what --tile reads in rows.",
        min=1,
    ),
]
TileOption = Annotated[
    int | None,
    typer.Option(
        "--tile",
        metavar="PIXELS",
        help="Segment images of any size at their full resolution, in tiles of this side.",
        min=1,
        show_default=False,
    ),
]
OverlapOption = Annotated[
    float | None,
    typer.Option(help="The fraction by which neighbouring tiles overlap. Default: 0.25."),
]


def parse_size(text: str | None) -> tuple[int, int] | None:
    """`"513"`, `"513,769"`, or `"[3,513,769]"` as VastModelZOO writes it, as height and width.

    Raises:
        ConfigError: it is none of them.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.strip("[] ").replace("x", ",").split(",")]
    if len(parts) == 3 and parts[0] == "3":
        parts = parts[1:]
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"`size`: expected N, HEIGHT,WIDTH or [3,HEIGHT,WIDTH], got {text!r}")
    return int(parts[0]), int(parts[-1])


def parse_range(text: str | None) -> tuple[float, float] | None:
    """Two numbers, as `0,4095`.

    Raises:
        ConfigError: they are something else.
    """
    from atrous.pictures.samples import Taking

    if text is None:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise ConfigError(
            f"`value_range`: expected LOW,HIGH, two numbers as 0,4095, got {text!r}"
        ) from None
    return Taking((low, high)).value_range


def parse_reading(
    bands: str | None, max_pixels: int | None = None, value_range: str | None = None
) -> Reading:
    """How images are read.

    Args:
        bands: numbers from 1, as `4,3,2`.
        max_pixels: of an image.
        value_range: two numbers, as `0,4095`, where no network says it.

    Raises:
        ConfigError: they are something else.
    """
    from atrous.image import Reading
    from atrous.pictures.samples import Taking

    try:
        numbers = None if bands is None else tuple(map(int, bands.split(",")))
    except ValueError:
        raise ConfigError(f"`bands`: expected numbers as 1,2,3, got {bands!r}") from None
    taking = Taking(parse_range(value_range), numbers)
    return Reading(taking) if max_pixels is None else Reading(taking, max_pixels)


def parse_device(text: str, index: int | None = None) -> Device:
    """Where to run: a name, `cuda:1`, or the number of a card of VastModelZOO's, which is the CPU.

    Args:
        text: as it was given.
        index: which GPU, if `text` does not say.

    Raises:
        ConfigError: there is no such device.
    """
    name, _, number = ("cpu", "", text) if text.isdigit() else text.partition(":")
    if name not in get_args(Device) or not (number.isdigit() or name == text or text.isdigit()):
        raise ConfigError(
            f"`device`: expected cpu, cuda, tensorrt or the number of a card, got {text!r}"
        )
    if number:
        index = int(number)
    if name == "cpu" and index is not None:
        terminal.note(
            f"device {index} is a card of VastModelZOO's; this runs on the CPU (`device` "
            f"cuda:{index} takes a GPU)"
        )
    elif index:
        # Every library that finds GPUs obeys this variable, and sees the chosen one as its first.
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        choice = seen.split(",") if seen else [str(gpu) for gpu in range(index + 1)]
        if index >= len(choice):
            raise ConfigError(f"GPU {index}: CUDA_VISIBLE_DEVICES={seen} leaves {len(choice)} GPUs")
        os.environ["CUDA_VISIBLE_DEVICES"] = choice[index]
    return cast(Device, name)


def parse_rest(rest: Sequence[str] | None, processes: str | None) -> str | None:
    """How many processes `p N` or `-p N` asks for: VastModelZOO's documents have `-i 1 p 1`.

    Raises:
        ConfigError: it is something else, or both are given.
    """
    if not rest:
        return processes
    if len(rest) != 2 or rest[0] != "p" or not rest[1].isdigit() or processes is not None:
        raise ConfigError(f"expected options alone, got {' '.join(rest)!r}")
    terminal.note(f"p {rest[1]}: taken as `processes` {rest[1]}")
    return rest[1]


def given(context: typer.Context) -> dict[str, str]:
    """Parameters of a verb that its command line gives → their flags."""
    found = {}
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            found[name] = parameter.opts[0]
    return found


def refuse_others(context: typer.Context, taken: Collection[str], why: str) -> None:
    """Refuse the options that a job of a verb does not take.

    Args:
        context: of the verb.
        taken: names of the parameters that it takes.
        why: what it is, for the message.

    Raises:
        ConfigError: another one was given.
    """
    for name, flag in given(context).items():
        if name not in taken:
            raise ConfigError(f"{why}: expected no {flag}")


def parse_labels(name: str | None) -> LabelSet | None:
    """The label set called `name`, or made of the names in it.

    Raises:
        ConfigError: there is none.
    """
    from atrous import labels

    try:
        return labels.parse(name) if name else None
    except InputError as error:
        raise ConfigError(f"`labels`: {error}") from None


def engine_options(
    model: str | None,
    device: Device,
    threads: int,
    instances: int,
    cache: Path | None,
    **hints: Any,
) -> Options:
    """What an engine is opened with, the number of instances chosen if it is 0.

    Several instances on the CPU keep its cores busy where one would wait for its slowest thread.
    PyTorch has no use for it, nor has a GPU, and every instance takes memory.

    Raises:
        AtrousError: there is no such model, or an option is out of range.
    """
    from atrous.engines import find_model
    from atrous.engines.base import Options

    options = Options(device, threads, cache=cache, **hints)
    if not instances:
        several = device == "cpu" and find_model(model).suffix == ".onnx"
        instances = min(_MOST_INSTANCES, options.cores) if several else 1
    return replace(options, streams=instances)


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which network runs, on what and with which settings: options of this module, as given."""

    model: str | None
    engine: str
    device: Device
    threads: int
    instances: int
    cache: Path | None
    labels: str | None
    vdsp_params: Path | None
    size: str | None
    value_range: str | None = None
    layout: Layout | None = None
    output_name: str | None = None
    threshold: float | None = None
    precision: Literal["fp32", "bf16"] | None = None

    @property
    def engine_options(self) -> Options:
        """What its engine is opened with; see `engine_options`."""
        return engine_options(
            self.model,
            self.device,
            self.threads,
            self.instances,
            self.cache,
            layout=self.layout,
            output_name=self.output_name,
            threshold=self.threshold,
            precision=self.precision,
        )

    def open(self, labels: LabelSet | None = None, side: int | None = None) -> Predictor:
        """Open the network.

        Args:
            labels: what its classes are called, where no option says it.
            side: of the network input, where neither the network nor an option says it.

        Raises:
            AtrousError: it cannot be opened, or does not fit the options.
        """
        from atrous.runtime.predictor import Predictor
        from atrous.vastai import vdsp

        def read(size: tuple[int, int] | None) -> Preprocess:
            assert self.vdsp_params is not None
            return vdsp.read(self.vdsp_params, size or ((side, side) if side else None))

        return Predictor.open(
            self.model,
            engine=self.engine,
            options=self.engine_options,
            preprocess=read if self.vdsp_params else None,
            labels=parse_labels(self.labels) or labels,
            size=parse_size(self.size),
            value_range=parse_range(self.value_range),
            side=side,
        )
