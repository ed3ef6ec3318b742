"""The artefact: one plain ONNX file whose metadata says how to use it and how good it is.

The metadata is JSON under the key `atrous` of the file's `metadata_props`, so every ONNX tool still
opens the file and nothing in it is ever executed.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Literal

import onnx
from pydantic import ValidationError

from atrous import external_data, onnx_content, onnx_cost, snapshot
from atrous.cache import PACKAGE
from atrous.errors import ArtifactError, AtrousError, MissingModel
from atrous.files import write_whole
from atrous.labels import LabelSet
from atrous.preprocess import Preprocess
from atrous.record import Record

KEY = "atrous"

_log = logging.getLogger("atrous")

DEFAULT = PACKAGE / "default.onnx"
"""The model that ships inside the package, with fp16 weights."""

DEFAULT_INT8 = DEFAULT.with_name("default-int8.onnx")
"""The same in int8, for CPUs that multiply bytes well."""

Precision = Literal["fp32", "fp16", "int8"]
Arithmetic = Literal["fp32", "bf16"]


class Accuracy(Record):
    """One measured accuracy with everything needed to repeat or to distrust it.

    Attributes:
        metric: as `mIoU`.
        value: percent.
        protocol: which pixels were compared, as `squash-513`.
        data: the images, as `voc:val`.
        images: how many of them.
        note: who measured it, on what.
    """

    metric: str
    value: float
    protocol: str
    data: str
    images: int
    note: str = ""


class Calibration(Record):
    """How the value ranges of a quantised model were found.

    Attributes:
        method: as `kl_divergence`.
        images: ids of the images, so that an evaluation can tell whether it saw them.
    """

    method: str
    images: tuple[str, ...]


class Metadata(Record):
    """What an artefact knows of itself.

    Attributes:
        format: version of this schema.
        name: what the model is called.
        variant: row of `zoo.VARIANTS` it was built from, empty for other architectures.
        output_stride: input pixels per feature pixel where the backbone ends.
        labels: what the class ids mean.
        preprocess: how an image becomes the input.
        precision: how the weights are stored; arithmetic on CPU stays fp32 for `fp16`.
        arithmetic: what floats are computed in; `bf16` needs a processor that has it.
        weights_sha256: hash of the weight file it came from.
        accuracies: every accuracy measured on it.
        calibration: how it was quantised, if it was.
        licence: of the weights.
        activation: what makes probabilities of the scores: `softmax` between classes that exclude
            each other, `sigmoid` for each class alone, `none` where they are probabilities already,
            `argmax` where they say of one class 1 and of the others 0.
        threshold: probability from which on a pixel is not background, of a network that says it
            for each class alone.
        protocol: that its training run scored it under (`atrous.evaluation.protocols`), empty where
            nobody said.
    """

    format: Literal[1] = 1
    name: str
    variant: str = ""
    output_stride: int | None = None
    labels: LabelSet
    preprocess: Preprocess
    precision: Precision = "fp32"
    arithmetic: Arithmetic = "fp32"
    weights_sha256: str = ""
    accuracies: tuple[Accuracy, ...] = ()
    calibration: Calibration | None = None
    licence: str = ""
    activation: Literal["softmax", "sigmoid", "none", "argmax"] = "softmax"
    threshold: float | None = None
    protocol: str = ""


def load(path: Path) -> onnx.ModelProto:
    """Read an ONNX file, weights in a file beside it included.

    Raises:
        ArtifactError: the file or its data is missing or damaged, or it is no ONNX model.
    """
    try:
        model = onnx.load(path, load_external_data=False)
        onnx_cost.check(model, path)
        external_data.read(model, path)
        onnx.checker.check_model(model)
        onnx_content.check(model)
    except FileNotFoundError:
        raise MissingModel(f"{path}: no such file") from None
    except AtrousError:
        raise
    except Exception as error:  # protobuf, onnx and the file system each raise their own
        if path.is_file() and external_data.is_pointer(path):
            raise ArtifactError(
                f"{path}: it is a pointer of Git LFS, not the model; fetch it with git lfs pull"
            ) from None
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ArtifactError(f"{path}: not a valid ONNX model: {first}") from None
    return model


def metadata_of(model: onnx.ModelProto, path: Path) -> Metadata | None:
    """The artefact's metadata, or `None` for somebody else's model.

    Of a file in a snapshot of Hugging Face's hub it is what the configuration beside it says.

    Args:
        model: as `load` returns it.
        path: named in errors.

    Raises:
        ArtifactError: the metadata is damaged or of another version.
    """
    text = next((entry.value for entry in model.metadata_props if entry.key == KEY), None)
    if text is None:
        return _of_snapshot(model, path)
    try:
        return Metadata.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ArtifactError(
            f"{path}: its atrous metadata does not fit format 1: {where}: {first['msg']}; "
            "export or compile the model again"
        ) from None


def _of_snapshot(model: onnx.ModelProto, path: Path) -> Metadata | None:
    weights = {tensor.name for tensor in model.graph.initializer}
    image = next((value for value in model.graph.input if value.name not in weights), None)
    dims = [dim.dim_value or None for dim in image.type.tensor_type.shape.dim] if image else []
    size = (dims[2], dims[3]) if len(dims) == 4 else (None, None)
    labels = snapshot.labels(path)
    if labels is None:
        return None
    preprocess = snapshot.preprocess(path, size)
    if preprocess is None:
        preprocess = Preprocess(size=(size[0] or 512, size[1] or 512))
        _log.warning(
            "%s does not say how its images were prepared: assuming RGB squashed to %d×%d, "
            "ImageNet mean and std; `preprocess` says otherwise",
            path,
            *preprocess.size,
        )
    return Metadata(name=labels.name, labels=labels, preprocess=preprocess)


def save(model: onnx.ModelProto, metadata: Metadata, path: Path) -> None:
    """Write an artefact, whole or not at all.

    Args:
        model: changed in place: `metadata` takes the place of what it carried.
        metadata: see `Metadata`.
        path: the `.onnx` file to make.
    """
    write_whole(path, serialised(model, metadata))


def serialised(model: onnx.ModelProto, metadata: Metadata) -> bytes:
    """The content of an artefact's file.

    Args:
        model: changed in place, as by `save`.
        metadata: see `Metadata`.
    """
    kept = [entry for entry in model.metadata_props if entry.key != KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    # Older versions know nothing of what most models do not need.
    late = {"activation", "threshold", "protocol"} - metadata.model_fields_set
    text = metadata.model_dump_json(exclude=late)
    model.metadata_props.append(onnx.StringStringEntryProto(key=KEY, value=text))
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def identity(model: onnx.ModelProto) -> str:
    """SHA-256 (hex) of the graph, its weights and operator versions; metadata does not count."""
    digest = hashlib.sha256()
    for opset in sorted(model.opset_import, key=lambda entry: entry.domain):
        digest.update(f"{opset.domain}:{opset.version};".encode())
    for function in model.functions:
        digest.update(function.SerializeToString(deterministic=True))
    digest.update(model.graph.SerializeToString(deterministic=True))
    return digest.hexdigest()
