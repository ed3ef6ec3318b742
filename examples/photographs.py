"""Write a few photographs that scikit-image ships: a person, a cat, and two without either.

python examples/photographs.py FOLDER
"""

import sys
from pathlib import Path

from PIL import Image
from skimage import data


def main(folder: Path) -> None:
    """Write the photographs as JPEG files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        Image.fromarray(getattr(data, name)()).save(folder / f"{name}.jpg", quality=95)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
