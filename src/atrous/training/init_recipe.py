"""Write a recipe for a data set of one's own from what `atrous doctor` finds in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median

import yaml

from atrous.data import Dataset
from atrous.data.doctor import ClassBalance, DataReport
from atrous.errors import ConfigError
from atrous.training.config import Recipe
from atrous.training.validate import thinned

START = "default"
EPOCHS = 60
BATCH = 8
ITERATIONS = range(500, 20_001)
LARGEST_CROP = 513
SMALLEST_CROP = 65
LOOKED_AT = 25

RARE = 0.1
"""A class is rare if it has less than this part of the pixels that an even share would give it."""

LARGEST_WEIGHT = 10.0
"""Larger weights of rare classes would let a few pixels steer every step."""

VALIDATION = ("val", "valid", "validation", "test")


@dataclass(frozen=True, slots=True)
class Files:
    """What `atrous train --init` writes.

    Attributes:
        recipe: a complete one as YAML, its reasons as comments.
        compiling: a file for `atrous compile` that makes an int8 model of what the recipe trains.
        settings: the recipe, checked.
        folder: that compiling makes: a model for the other verbs.
    """

    recipe: str
    compiling: str
    settings: Recipe
    folder: Path


def init_recipe(dataset: Dataset, report: DataReport, path: Path) -> Files:
    """A recipe and a compile file for a data set.

    It starts from the model in the package and keeps the statistics of its batch norms, so that it
    works at any length: running statistics would lag behind the weights of a short run.

    Args:
        dataset: to learn from.
        report: what `atrous.data.doctor.examine` found in it.
        path: where it will lie, which it says and names its run after.

    Raises:
        ConfigError: the data has errors, which must be mended first.
    """
    errors = [f for f in report.findings if f.severity == "error"]
    if errors:
        raise ConfigError(
            f"{dataset.name} has errors, the first one: {errors[0].kind} ({errors[0].count}, as "
            f"{errors[0].examples[0]}); mend them first: atrous doctor --data {dataset.spec}"
        )
    absent = [one.name for one in report.classes if not one.images]
    if len(report.classes) - len(absent) < 2:
        raise ConfigError(
            f"{dataset.name} never shows {', '.join(absent)}, so there is nothing to tell apart; "
            f"do the masks hold other values? atrous doctor --data {dataset.spec}"
        )
    val = next(
        (
            spec
            for name in VALIDATION
            for spec in dataset.siblings
            if spec.lower().endswith(f":{name}")
        ),
        None,
    )
    crop, size = _crop(dataset)
    weights = _weights(report.classes)
    steps = EPOCHS * report.samples // BATCH
    iterations = min(max(steps, ITERATIONS[0]), ITERATIONS[-1])
    recipe = Recipe.model_validate(
        {
            "network": "deeplabv3plus_mobilenet",
            "start": START,
            "output": f"runs/{path.stem}",
            "data": {
                "train": dataset.spec,
                "val": val,
                "allow_absent_classes": bool(absent),
            },
            "augment": {"crop": crop},
            "loss": {"class_weights": weights},
            "optimizer": {
                "type": "adamw",
                "lr": 0.0005,
                "backbone_lr": 0.0001,
                "weight_decay": 0.01,
                "decay_norms": False,
                "clip": 10.0,
            },
            "train": {"iterations": iterations, "batch": BATCH, "batch_norm": "frozen"},
            "validation": {"every": max(100, iterations // 10), "protocol": f"squash-{crop}"},
        }
    )
    lines = [f"atrous train {path}", "", *_reasons(dataset, report, size, weights, val)]
    header = "".join(f"# {line}".rstrip() + "\n" for line in lines)
    content = yaml.safe_dump(
        _shown(recipe.values()), sort_keys=False, allow_unicode=True, default_flow_style=None
    )
    folder = Path("deploy_weights", path.stem)
    compiling = _compiling(dataset, recipe, folder)
    return Files(f"{header}\n{content}", compiling, recipe, folder)


def _compiling(dataset: Dataset, recipe: Recipe, folder: Path) -> str:
    """The compile file, whose input has the size that the checkpoint was trained for."""
    content = {
        "name": folder.name,
        "frontend": {"type": "pytorch", "checkpoint": f"{recipe.output}/last.safetensors"},
        "backend": {"dtype": "int8"},
        "dataset": {"path": dataset.spec},
        "workspace": {"path": str(folder.parent)},
    }
    size = "×".join(map(str, recipe.validation.preprocess.size))
    said = f"# {recipe.output} as int8, at its own size ({size}); calibrated on training images."
    return f"{said}\n\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}"


def _crop(dataset: Dataset) -> tuple[int, tuple[int, int]]:
    """A crop that holds a whole image, if that is small, and the size of a typical image."""
    sizes = [dataset.read_image(one).shape[:2] for one in thinned(dataset, LOOKED_AT).samples]
    height, width = (round(median(sides)) for sides in zip(*sizes, strict=True))
    whole = 16 * -(-max(height, width) // 16) + 1
    return min(LARGEST_CROP, max(SMALLEST_CROP, whole)), (height, width)


def _weights(classes: tuple[ClassBalance, ...]) -> list[float] | None:
    """Weights by median frequency, if a class is rare."""
    shown = [one for one in classes if one.weight is not None]
    if len(shown) < 2 or min(one.share for one in shown) > RARE / len(classes):
        return None
    return [round(min(one.weight or 0.0, LARGEST_WEIGHT), 3) for one in classes]


def _reasons(
    dataset: Dataset,
    report: DataReport,
    size: tuple[int, int],
    weights: list[float] | None,
    val: str | None,
) -> list[str]:
    lines = [
        f"Written by atrous train --init from {report.samples} images of {dataset.name}, about "
        f"{size[1]}×{size[0]} pixels,",
        f"{report.ignored:.1%} of them ignored.",
        "",
        f"Starts from {START}, the model in the package (start=imagenet downloads a backbone), and",
        "keeps the statistics of its batch norms: those of a short run would lag behind.",
        "",
        "Hardware: any; a GPU for more than a few hundred images.",
        "Hours: not measured.",
        "Expected: not measured.",
        "",
    ]
    for one in report.classes:
        lines.append(f"{one.name}: {one.images} images, {one.share:.2%} of the pixels")
    if weights:
        lines.append("A class is rare, so the loss weighs classes by median frequency, up to 10.")
    if val is None:
        lines.append(
            "There is no split to score on (val): the run ends without a score. Of a folder,"
        )
        lines.append("`val_share: 0.2` in its file holds a fifth of the pictures out.")
    for finding in report.findings:
        lines.append(str(finding))
    return lines


def _shown(values: dict[str, object]) -> dict[str, object]:
    """The settings that a person may want to see first; the others keep their defaults."""
    shown = {
        "augment": ("crop", "scale", "flip", "rotation"),
        "loss": ("type", "class_weights"),
        "optimizer": ("type", "lr", "backbone_lr", "weight_decay", "decay_norms", "clip"),
        "train": ("iterations", "batch", "batch_norm", "precision"),
    }
    kept = ("network", "output_stride", "start", "output", "data", *shown, "validation")
    content: dict[str, object] = {key: values[key] for key in kept}
    for section, keys in shown.items():
        whole = values[section]
        assert isinstance(whole, dict)
        content[section] = {key: whole[key] for key in keys}
    return content
