"""Run a network once when it is opened: a size that does not work is found before a picture is.

Graphs that say they take any size often take multiples of 32 alone, as their skips have to meet.
What a run has shown is kept in the cache, by the identity of the network and the version of its
engine.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from atrous import upsample
from atrous.engines import grid
from atrous.engines.base import Engine
from atrous.engines.tried import Found, tried
from atrous.errors import ArtifactError, EngineError

_log = logging.getLogger("atrous")

USUAL = (513, 513)
"""Height and width of the input where nobody says it and the network takes any."""

_STEPS = (2, 4, 8, 16, 32, 64, 128, 14, 28, 24, 48, 96)
_COMMON = (512, 256, 224, 384, 640, 1024, 520, 320, 480, 128, 64)
"""Sides that networks are made for which take one size and do not say so."""

_SIDE = 160
"""About the side of pictures that show which sizes work: small ones, as many may be needed."""

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Fitting:
    """A size that works.

    Attributes:
        size: height and width.
        step: sizes that are multiples of it work; 1 for all, 0 where no rule was found.
        plus: pixels that a multiple needs on top.
    """

    size: Size
    step: int = 1
    plus: int = 0

    @property
    def rule(self) -> str:
        """Which sizes work, for people."""
        if not self.step:
            return f"{self.size[0]}×{self.size[1]}"
        return f"multiples of {self.step}" + f" plus {self.plus}" * bool(self.plus)

    @property
    def shown(self) -> str:
        """The size as an option takes it."""
        height, width = self.size
        return str(height) if height == width else f"{height},{width}"


def check(
    engine: Engine,
    name: str,
    size: Size,
    advice: Callable[[Fitting], str] = lambda fitting: f"`size` {fitting.shown}",
) -> None:
    """See that a network runs at a size, and how many classes it has if it hides that.

    Args:
        engine: whose signature gets the number of classes.
        name: of the network, in messages.
        size: height and width of the input.
        advice: how one asks for a size that works.

    Raises:
        ArtifactError: it does not; names a size at which it does.
    """
    if not engine.untried or not engine.signature.takes(*size):
        return
    try:
        shape, inside = _seen(engine, size)
    except EngineError as error:
        found = fitting(engine, size)
        if found is None:
            raise ArtifactError(f"{name}: does not run at {_times(size)}: {error}") from error
        raise ArtifactError(
            f"{name}: does not run at {_times(size)}, but at {found.rule}: {advice(found)}"
        ) from error
    _learn(engine, name, shape)
    free = None in (*engine.signature.size, *engine.signature.output.shape[2:])
    if free and (said := grid.note(shape[2:], size)):
        _log.warning("%s: %s", name, said)
    if inside:
        _log.warning(
            "%s: all that it gave to noise lies between 0 and 1; if it gives probabilities and "
            "its graph hides it, `threshold` %.3f is what means 0.5 of them",
            name,
            1 / (1 + np.exp(-0.5)),
        )


def choose(engine: Engine, name: str) -> Fitting:
    """A size at which a network runs that takes any, or says so: the usual one if that works.

    Args:
        engine: see `check`.
        name: likewise.

    Raises:
        ArtifactError: none was found.
    """
    own = engine.signature.size
    usual = own[0] or own[1] or USUAL[0], own[1] or own[0] or USUAL[1]
    if not engine.untried or None not in own:
        check(engine, name, usual)
        return Fitting(usual)

    def run() -> Found:
        try:
            _run(engine, usual)
            found: Fitting | None = Fitting(usual)
        except EngineError as error:
            found, reason = _fitting(engine, usual), error
        if found is None:
            raise ArtifactError(
                f"{name}: was run at {_times(usual)} and many other sizes, and none works: {reason}"
            )
        return {"fitting": [*found.size, found.step, found.plus]}

    height, width, step, plus = (
        number or 0 for number in tried(["fitting", *_facts(engine)], run, "fitting")["fitting"]
    )
    chosen = Fitting((height, width), step, plus)
    check(engine, name, chosen.size)
    return chosen


def fitting(engine: Engine, size: Size) -> Fitting | None:
    """A size near `size` at which a network of free size runs, `None` if none was found."""
    return _fitting(engine, size) if None in engine.signature.size else None


def _learn(engine: Engine, name: str, shape: tuple[int, ...]) -> None:
    """Take over what a run has shown of the output."""
    own = engine.signature
    if len(shape) != 4:
        raise ArtifactError(f"{name}: made scores of the shape {shape}, expected (N, C, h, w)")
    if shape[1] > upsample.MAX_CLASSES:
        raise ArtifactError(
            f"{name}: gives {shape[1]} scores a pixel, and a class map holds "
            f"{upsample.MAX_CLASSES} classes; `output_name` and `layout` say where the classes are"
        )
    if own.classes is None:
        known = (own.output.shape[0], shape[1], *own.output.shape[2:])
        engine.signature = replace(own, output=replace(own.output, shape=known))


def _seen(engine: Engine, size: Size) -> tuple[tuple[int, ...], bool]:
    """The shape of what a network makes of noise of that size, and whether a threshold is compared
    with scores of 0 to 1 alone; run at most once.

    Raises:
        EngineError: it does not run.
    """

    def run() -> Found:
        made = _run(engine, size)
        shape, own = made.shape, engine.signature.meaning
        inside = own.activation == "sigmoid" and own.threshold is not None and _is_share(made)
        inside = inside and _is_share(_run(engine, size, pixels=True))
        return {"output": [*shape], "share": [int(inside)]}

    found = tried(["runs", *_facts(engine), *size], run, "output", "share")
    return tuple(number or 0 for number in found["output"]), found["share"] == [1]


def _is_share(scores: NDArray[np.float32]) -> bool:
    """Whether the last class has scores of 0 to 1 alone."""
    last = scores[:, -1:]
    return bool(last.size and last.min() >= 0 and last.max() <= 1)


def _facts(engine: Engine) -> list[object]:
    from atrous.engines import version

    return [engine.identity, engine.name, version(engine.name)]


def _run(engine: Engine, size: Size, *, pixels: bool = False) -> NDArray[np.float32]:
    """What a network makes of noise, of normalised values or of 0–255."""
    own, random = engine.signature, np.random.default_rng(0)
    shape = (own.batch or 1, 3, *size)
    if own.dtype == "uint8" or pixels:
        return engine.run(random.integers(0, 256, shape, np.uint8).astype(own.dtype))
    return engine.run(random.standard_normal(shape, np.float32))


def _works(engine: Engine, size: Size) -> bool:
    try:
        _run(engine, size)
    except EngineError:
        return False
    return True


def _fitting(engine: Engine, size: Size) -> Fitting | None:
    """A size near the one that was asked for at which a network runs, and which others do."""
    own = engine.signature.size

    def kept(height: int, width: int) -> Size:
        return own[0] or height, own[1] or width

    for step, plus in _rules():
        odd = max(3, _SIDE // step) | 1  # not a multiple of more than the step
        if not _works(engine, kept(step * odd + plus, step * (odd + 2) + plus)):
            continue
        near = kept(_nearest(size[0], step, plus), _nearest(size[1], step, plus))
        if _works(engine, near):
            return Fitting(near, step, plus)
    for side in _COMMON:
        if _works(engine, kept(side, side)):
            return Fitting(kept(side, side), 0)
    return None


def _rules() -> Iterator[tuple[int, int]]:
    yield from ((step, 0) for step in _STEPS)
    yield from ((step, 1) for step in (8, 16, 32, 64))


def _nearest(side: int, step: int, plus: int) -> int:
    return max(1, round((side - plus) / step)) * step + plus


def _times(size: Size) -> str:
    return f"{size[0]}×{size[1]}"
