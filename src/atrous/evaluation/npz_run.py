"""From npz to npz: what a network says of every image of a list."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from atrous import upsample
from atrous.errors import AtrousError, ConfigError, EngineError, InputError
from atrous.evaluation.npz import OUTPUT, Step, read_input, read_with_comment, write
from atrous.geometry import Axis
from atrous.runtime.predictor import Predictor

Kind = Literal["logits", "classmap"]
"""What an answer holds."""


def run(
    predictor: Predictor,
    inputs: Sequence[Path],
    output: Path,
    *,
    kind: Kind,
    force: bool = False,
) -> Iterator[Step]:
    """Run a network over npz files, one after the other; only one is in memory at a time.

    A file that fails becomes a step that says why, and the next one follows. An answer that the
    same network gave under the same settings is kept if it can be read.

    Args:
        predictor: the network.
        inputs: npz files, see `atrous.evaluation.npz.read_list`.
        output: folder of the answers, each called like its input.
        kind: float16 logits `(1, C, h, w)` or a uint8 class map `(1, h, w)`, at the size of the
            network input.
        force: make answers again that are there already.

    Raises:
        ConfigError: an answer is there that another model or another setting made.
        AtrousError: a file cannot be written; what was finished is kept.
    """
    made_by = _stamp(predictor, kind)
    for source in inputs:
        path = output / f"{source.stem}.npz"
        if not force and _is_there(path, made_by):
            yield Step(source.stem, "kept", path)
            continue
        try:
            pixels = read_input(source)
        except InputError as error:
            yield Step(source.stem, "failed", error=str(error))
            continue
        try:
            answer = _answer(predictor, pixels, kind)
        except AtrousError as error:
            yield Step(source.stem, "failed", error=f"{source}: {error}")
            continue
        write(path, OUTPUT, answer, made_by)
        yield Step(source.stem, "written", path)


def _answer(predictor: Predictor, pixels: NDArray[np.uint8], kind: Kind) -> NDArray[Any]:
    """What the network says, at the size of its input."""
    grid, size = predictor(pixels).grid, predictor.preprocess.size
    if not np.isfinite(grid).all():
        raise EngineError("the network made scores that are not finite")
    rows, columns = predictor.engine.on_grid(grid, size, Axis(size[0]), Axis(size[1]))
    if kind == "classmap":
        return upsample.argmax(grid, rows, columns)[None]
    largest = np.abs(grid).max()
    if largest > np.finfo(np.float16).max:
        raise EngineError(f"a logit of {largest:.3g} does not fit float16; use --output classmap")
    return upsample.enlarge(grid, rows, columns).astype(np.float16)[None]


def _stamp(predictor: Predictor, kind: Kind) -> str:
    """What the answers of one run have in common; they carry it, so that none are mixed."""
    settings = [predictor.engine.identity, predictor.preprocess.to_dict(), kind]
    return "atrous " + hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _is_there(path: Path, made_by: str) -> bool:
    """Whether an answer of this run is there; a damaged one does not count.

    Raises:
        ConfigError: it is the answer of another.
    """
    try:
        _, found = read_with_comment(path, OUTPUT)
    except InputError:
        return False
    if found != made_by:
        raise ConfigError(
            f"{path}: made by another model, preprocessing, --output or tool; choose another "
            "--path_output, or replace what is there with --force"
        )
    return True
