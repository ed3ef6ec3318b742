"""Pictures and masks on disk."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from atrous.labels import VOC


def write(path: Path, values: Any, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.array(values, np.uint8))
    if mode == "P":
        picture.putpalette(VOC.palette())
    picture.save(path)
