"""What a run keeps on the disk, so that it can be killed at any moment and go on.

`state.safetensors` holds everything that decides the rest of the run: weights, optimizer, average,
and as JSON in its header the iteration, the recipe and the data. It is one file, replaced whole, so
it never disagrees with itself. `last.safetensors` and `best.safetensors` are networks that every
verb takes; their accuracies lie beside them as `.json`.

No state of a random generator is kept, as none lives longer than an iteration: each begins with
generators made from the seed and its number.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from atrous.data import Dataset
from atrous.errors import ArtifactError, ConfigError
from atrous.evaluation.result import hash_ids
from atrous.files import write_whole
from atrous.labels import LabelSet
from atrous.models import DeepLab, save_safetensors
from atrous.record import Record
from atrous.training.config import Recipe
from atrous.training.learner import Learner

STATE, LAST, BEST = "state.safetensors", "last.safetensors", "best.safetensors"
KEY = "atrous"

_OF_SAFETENSORS = re.compile(r"\.tmp\w{6}")
"""What that library calls a file that it has not finished."""

# Keys that change no weight: another machine may go on with others.
_FREE = ("output", "save_every", "log_every", "data.workers")

_NETWORK, _AVERAGE, _OPTIMIZER = "network/", "average/", "optimizer/"


class SplitRecord(Record):
    """What a split was when the run began.

    Attributes:
        name: kind and split.
        images: how many.
        ids: hash of the list of their ids.
        classes: their names in order; none are known of a run of an earlier version.
    """

    name: str
    images: int
    ids: str
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """What there is now."""
        ids = [sample.id for sample in dataset.samples]
        classes = tuple(dataset.labels.names)
        return cls(name=dataset.name, images=len(ids), ids=hash_ids(ids), classes=classes)

    def differs(self, now: SplitRecord) -> str:
        """What is not as it was, empty if nothing is."""
        if self.classes not in ((), now.classes):
            return f"had the classes {_listed(self.classes)} and has {_listed(now.classes)}"
        same = (self.name, self.images, self.ids) == (now.name, now.images, now.ids)
        return "" if same else "holds other images than it did"


class State(BaseModel):
    """Where a run stands, beside its tensors.

    Attributes:
        format: version of this schema.
        atrous: version of the package.
        iteration: steps done.
        recipe: all settings.
        train: what is learnt from.
        val: what is scored on.
        start: what was loaded at the start, one sentence each.
        seconds: spent in training so far.
        scores: iteration → mIoU in percent, of the validations so far.
        losses: sum and number of the losses since the last entry of the log.
        bad_losses: steps in a row that were skipped, just now.
        skipped: steps that were skipped in all.
        scaler: state of the fp16 loss scale, empty otherwise.
    """

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    format: int = 1
    atrous: str
    iteration: int = 0
    recipe: dict[str, Any]
    train: SplitRecord
    val: SplitRecord | None = None
    start: list[str] = []
    seconds: float = 0.0
    scores: dict[int, float] = {}
    losses: tuple[float, int] = (0.0, 0)
    bad_losses: int = 0
    skipped: int = 0
    scaler: dict[str, Any] = {}

    @property
    def best(self) -> float | None:
        """The highest score so far, percent."""
        return max(self.scores.values(), default=None)


def clean(folder: Path) -> None:
    """Remove from the folder of a run, held by this process, what earlier versions left there.

    What this version leaves is removed where something is written, see `files.clean`.
    """
    for path in folder.iterdir():
        if path.is_dir() and path.name.startswith(".saving-"):
            shutil.rmtree(path, ignore_errors=True)
        elif path.is_file() and _OF_SAFETENSORS.fullmatch(path.name):
            path.unlink(missing_ok=True)


def forget(folder: Path) -> None:
    """Remove what a run left that the next one in its folder would not replace at once.

    `last.safetensors` stays until there is another one, but not the score beside it.
    """
    scores = [name.replace(".safetensors", ".json") for name in (LAST, BEST)]
    for name in (STATE, BEST, *scores):
        (folder / name).unlink(missing_ok=True)


def save_state(folder: Path, state: State, learner: Learner) -> None:
    """Write `state.safetensors`, whole or not at all."""
    tensors = {f"{_NETWORK}{name}": t for name, t in learner.network.state_dict().items()}
    if learner.average is not None:
        average = learner.average.network.state_dict()
        tensors |= {f"{_AVERAGE}{name}": tensor for name, tensor in average.items()}
    for index, values in learner.optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if value is not None:
                tensors[f"{_OPTIMIZER}{index}/{name}"] = torch.as_tensor(value)
    content = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        {KEY: state.model_dump_json()},
    )
    write_whole(folder / STATE, content)


def read_state(folder: Path) -> State | None:
    """Where the run in a folder stands, `None` if there is none.

    Raises:
        ArtifactError: the file is damaged or of another version.
        ConfigError: it is not there, but networks of a run are.
    """
    path = folder / STATE
    if not path.is_file():
        if finished := [name for name in (LAST, BEST) if (folder / name).exists()]:
            raise ConfigError(
                f"{folder} holds {finished[0]} without the {STATE} that a run goes on from, and a "
                "new run would replace it; name another output, or begin again with `restart`"
            )
        return None
    try:
        with safe_open(path, "pt") as file:
            said = (file.metadata() or {}).get(KEY)
        if said is None:
            raise _no_state(path, f"its header has no entry {KEY!r}")
        origin = _Origin.model_validate_json(said)
        if origin.format != 1:
            raise ArtifactError(
                f"{path}: format {origin.format}, expected 1; continue with the atrous that wrote "
                f"it ({origin.atrous})"
            )
        return State.model_validate_json(said)
    except SafetensorError as error:
        raise _no_state(path, str(error).splitlines()[0]) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _no_state(path, f"{where}{': ' * bool(where)}{first['msg']}") from None


class _Origin(BaseModel):
    """What is read of a state of any version."""

    format: int = 1
    atrous: str = "unknown"


def _no_state(path: Path, why: str) -> ArtifactError:
    return ArtifactError(
        f"{path}: not a state that this version of atrous train wrote ({why}); name another "
        "output, or begin again with `restart`"
    )


def restore(folder: Path, learner: Learner) -> None:
    """Set weights, optimizer and average to what `save_state` wrote."""
    parts: dict[str, dict[str, Tensor]] = {_NETWORK: {}, _AVERAGE: {}, _OPTIMIZER: {}}
    with safe_open(folder / STATE, "pt") as file:
        for name in file.keys():  # noqa: SIM118 (not a mapping)
            part, _, rest = name.partition("/")
            parts[f"{part}/"][rest] = file.get_tensor(name)
    learner.network.load_state_dict(parts[_NETWORK])
    if learner.average is not None:
        learner.average.network.load_state_dict(parts[_AVERAGE])
    values: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts[_OPTIMIZER].items():
        index, _, key = name.partition("/")
        values.setdefault(int(index), {})[key] = tensor
    groups = learner.optimizer.state_dict()["param_groups"]
    learner.optimizer.load_state_dict({"state": values, "param_groups": groups})


def check_same(folder: Path, before: State, now: State) -> None:
    """Raise `ConfigError` if a run that began as `before` would not go on as it began."""
    try:  # a setting that is newer than the run had its default
        began = Recipe.model_validate(before.recipe).values()
    except ValidationError:
        began = before.recipe
    old, new = _flat(began), _flat(now.recipe)
    differing = [
        f"{key} was {old.get(key)} and is {new.get(key)}"
        for key in sorted(old.keys() | new.keys())
        if key not in _FREE and old.get(key) != new.get(key)
    ]
    for split, was, is_now in (("train", before.train, now.train), ("val", before.val, now.val)):
        if not differing and was != is_now:
            other = was.differs(is_now) if was and is_now else "holds other images than it did"
            differing += [f"data.{split} {other}"] * bool(other)
    if differing:
        raise ConfigError(
            f"{folder} holds a run of another recipe: {'; '.join(differing[:4])}; go on with its "
            f"own (atrous train {folder}/recipe.yaml), name another output, or begin again with "
            "`restart`"
        )


def _listed(classes: tuple[str, ...]) -> str:
    few = ", ".join(classes[:8])
    return f"[{few}]" if len(classes) <= 8 else f"[{few}, … {len(classes)} in all]"


def _flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return flat


def save_network(
    path: Path, network: DeepLab, labels: LabelSet, recipe: Recipe, state: State
) -> None:
    """Write a network that every verb takes, with its classes and its origin in the header.

    Its input has the size at which the recipe scores it.
    """
    save_safetensors(
        network,
        path,
        {
            "labels": json.dumps(labels.to_dict()),
            "preprocess": recipe.validation.preprocess.model_dump_json(),
            "iteration": str(state.iteration),
            "weights": "average" if recipe.train.ema else "last",
            "train": state.train.model_dump_json(),
            "val": state.val.model_dump_json() if state.val else "",
            "protocol": recipe.validation.protocol,
            "recipe": recipe.model_dump_json(),
        },
    )
