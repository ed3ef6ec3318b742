"""Draw the picture at the top of the README: photographs beside what the model in the package sees.

python examples/before_and_after.py docs/images/before_and_after.jpg

Both photographs come with scikit-image: Eileen Collins by NASA, in the public domain, and Chelsea
the cat by Stéfan van der Walt, CC0.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from atrous import Predictor
from atrous.image import overlay

HEIGHT, GAP = 320, 8


def panel(pixels: NDArray[np.uint8]) -> Image.Image:
    """The picture at the common height."""
    picture = Image.fromarray(pixels)
    width = round(picture.width * HEIGHT / picture.height)
    return picture.resize((width, HEIGHT), Image.Resampling.LANCZOS)


def main(output: Path) -> None:
    """Write the photographs and their overlays side by side."""
    panels = []
    with Predictor.open() as predictor:
        for photograph in (data.astronaut(), data.chelsea()):
            class_map = predictor(photograph).class_map()
            painted = overlay(photograph, class_map, predictor.labels)
            panels += [panel(photograph), panel(painted[: len(photograph)])]  # without the legend
    width = sum(each.width for each in panels) + GAP * (len(panels) - 1)
    whole, left = Image.new("RGB", (width, HEIGHT), "white"), 0
    for each in panels:
        whole.paste(each, (left, 0))
        left += each.width + GAP
    output.parent.mkdir(parents=True, exist_ok=True)
    whole.save(output, quality=88, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
