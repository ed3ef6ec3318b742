"""TorchScript → ONNX, finished only when ONNX Runtime gives TorchScript's numbers."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from atrous import artifact
from atrous.agreement import TOLERANCE, Agreement, compare, pairs_of
from atrous.artifact import KEY
from atrous.engines.session import run_once
from atrous.errors import ArtifactError
from atrous.preprocess import Preprocess

OPSET = 17
"""The newest operator set that torch's exporter for TorchScript writes reliably."""


def script_to_onnx(
    path: Path, batch: int, preprocess: Preprocess, pixels: NDArray[np.uint8]
) -> tuple[onnx.ModelProto, str, Agreement]:
    """Turn a TorchScript file into ONNX with input `input` and output `output`.

    The file is a program and is run, as far as TorchScript goes: no Python, but do not open those
    of strangers.

    Args:
        path: as `torch.jit.save` wrote it.
        batch: images in the batch it is exported for.
        preprocess: its `size` is the size it is exported and compared at.
        pixels: `(H, W, 3)` uint8 RGB photograph to compare on.

    Returns:
        The model, the text of the file's extra file `atrous` (empty without one), and the largest
        difference.

    Raises:
        ArtifactError: the file is damaged, does not run at that shape, returns something else than
            one tensor of logits, cannot be exported, or the export disagrees with it.
    """
    images = torch.from_numpy(np.repeat(preprocess(pixels)[None], batch, axis=0))
    shape = "×".join(map(str, images.shape))
    extra = {KEY: ""}
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still asked for
        try:
            script = torch.jit.load(path, map_location="cpu", _extra_files=extra).eval()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise ArtifactError(f"{path}: not a TorchScript file: {_last(error)}") from None
        try:
            with torch.inference_mode():
                expected = script(images)
        except RuntimeError as error:
            raise ArtifactError(
                f"{path}: does not run with an input of {shape}: {_last(error)}"
            ) from None
        if not isinstance(expected, torch.Tensor) or expected.ndim != 4:
            found = getattr(expected, "shape", type(expected).__name__)
            raise ArtifactError(
                f"{path}: expected logits (N, classes, h, w), found {found}; trace a network that "
                "returns one tensor"
            )
        file = Path(folder) / "model.onnx"
        try:
            torch.onnx.export(
                script,
                (images,),
                str(file),
                dynamo=False,
                opset_version=OPSET,
                input_names=["input"],
                output_names=["output"],
            )
        except Exception as error:  # the exporter raises errors of many kinds
            raise ArtifactError(f"{path}: cannot be exported to ONNX: {_last(error)}") from None
        model = artifact.load(file)
    model.producer_name = "atrous"
    what = f"{path}: the ONNX export"
    difference = compare(pairs_of(expected.numpy(), run_once(model, what, images.numpy())))
    difference.check(what, TOLERANCE["fp32"])
    text = extra[KEY]
    return model, text.decode() if isinstance(text, bytes) else text, difference


def _last(error: Exception) -> str:
    """The last line: TorchScript puts its call stack before what went wrong."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]
