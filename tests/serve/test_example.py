"""The client that is shown as an example works."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.builders.server import Live

CLIENT = Path(__file__).parents[2] / "examples" / "serve_client.py"


@pytest.mark.heavy
def test_the_example_prints_shares_and_writes_a_mask(live: Live, tmp_path: Path) -> None:
    picture = tmp_path / "half.png"
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :2, 0] = pixels[:, 2:, 2] = 200
    Image.fromarray(pixels).save(picture)
    command = [sys.executable, str(CLIENT), str(picture), live.url]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, *shares, last = done.stdout.splitlines()
    assert first.startswith("half.png: 8×8, by ")
    assert [line.rpartition(": ")[2] for line in shares] == ["75.0%", "25.0%"]
    assert last == "mask: half-mask.png"
    mask = np.asarray(Image.open(tmp_path / "half-mask.png"))
    np.testing.assert_array_equal(mask, np.where(np.arange(8) < 2, 0, 2)[None].repeat(8, 0))
