"""Folders of photographs and masks that no file describes."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from atrous.data import open_dataset
from atrous.data.guess import guess

TRUTH = np.uint8([[0, 0, 1], [0, 1, 1]]).repeat(20, 0).repeat(20, 1)


def photograph(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(noise).save(path)


def mask(path: Path, values: Any = TRUTH, palette: list[int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(values, np.uint8))
    if palette:
        picture = Image.fromarray(np.asarray(values, np.uint8), mode="P")
        picture.putpalette(palette)
    picture.save(path)


def made(root: Path, images: str, masks: str, **how: Any) -> None:
    for name in "abc":
        photograph(root / images.format(name))
        mask(root / masks.format(name), **how)


def described(root: Path) -> dict[str, Any]:
    """What is guessed, after it was seen to open with all its masks read."""
    found = guess(root, root)
    (root / "own.yaml").write_text(found.text)
    content: dict[str, Any] = yaml.safe_load(found.text)
    held_out = "val_share" in content
    splits = ("train", "val") if held_out else (found.split,)
    opened = [open_dataset(f"folder:{root / 'own.yaml'}:{split}") for split in splits]
    assert found.split == splits[0]
    assert [len(part.samples) for part in opened] == ([2, 1] if held_out else [3])
    data = open_dataset(f"folder:{root / 'own.yaml'}:{'all' if held_out else found.split}")
    for sample in data.samples:
        assert set(np.unique(data.read_label(sample))) <= {0, 1, 2, 255}
        assert data.read_image(sample).shape == (40, 60, 3)
    assert found.reasons
    return content
