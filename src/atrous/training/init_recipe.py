"""Write a recipe for a data set of one's own from what `atrous doctor` finds in it."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import yaml

from atrous.data import Dataset
from atrous.data.doctor import ClassBalance, DataReport
from atrous.errors import ConfigError
from atrous.training.config import Recipe
from atrous.training.validate import thinned

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


def init_recipe(dataset: Dataset, report: DataReport, path: Path) -> str:
    """A complete recipe as YAML, its reasons as comments.

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
    val = next(
        (spec for name in VALIDATION for spec in dataset.siblings if spec.endswith(f":{name}")),
        None,
    )
    crop, size = _crop(dataset)
    weights = _weights(report.classes)
    steps = EPOCHS * report.samples // BATCH
    iterations = min(max(steps, ITERATIONS[0]), ITERATIONS[-1])
    recipe = Recipe.model_validate(
        {
            "network": "deeplabv3plus_mobilenet",
            "output": f"runs/{path.stem}",
            "data": {"train": dataset.spec, "val": val},
            "augment": {"crop": crop},
            "loss": {"class_weights": weights},
            "optimizer": {"lr": 0.01, "backbone_lr": 0.001},
            "train": {"iterations": iterations, "batch": BATCH},
            "validation": {"every": max(100, iterations // 10), "protocol": f"squash-{crop}"},
        }
    )
    lines = [f"atrous train {path}", "", *_reasons(dataset, report, size, weights, val)]
    header = "".join(f"# {line}".rstrip() + "\n" for line in lines)
    content = yaml.safe_dump(
        _shown(recipe.values()), sort_keys=False, allow_unicode=True, default_flow_style=None
    )
    return f"{header}\n{content}"


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
        lines.append("There is no split to score on (val): the run ends without a score.")
    for finding in report.findings:
        lines.append(str(finding))
    return lines


def _shown(values: dict[str, object]) -> dict[str, object]:
    """The settings that a person may want to see first; the others keep their defaults."""
    shown = {
        "augment": ("crop", "scale", "flip", "rotation"),
        "loss": ("type", "class_weights"),
        "optimizer": ("type", "lr", "backbone_lr"),
        "train": ("iterations", "batch", "batch_norm", "precision"),
    }
    kept = ("network", "output_stride", "start", "output", "data", *shown, "validation")
    content: dict[str, object] = {key: values[key] for key in kept}
    for section, keys in shown.items():
        whole = values[section]
        assert isinstance(whole, dict)
        content[section] = {key: whole[key] for key in keys}
    return content
