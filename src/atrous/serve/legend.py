"""What is said of a class, by a server and on a page without one."""

from __future__ import annotations

from typing import Any

from atrous import image
from atrous.labels import LabelSet


def describe(labels: LabelSet, class_id: int) -> dict[str, Any]:
    """Id and name of a class, its colours `#rrggbb` in masks and in paint, whether it is painted.

    A class that pictures to look at leave bare has a paint too, which shows it alone.
    """
    colours = slice(3 * class_id, 3 * class_id + 3)
    return {
        "id": class_id,
        "name": image.class_name(labels, class_id),
        "colour": f"#{labels.palette()[colours].hex()}",
        "paint": f"#{labels.paint()[colours].hex()}",
        "painted": class_id not in labels.unpainted,
    }
