"""What libraries say of a picture names it, or does not reach the terminal."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.builders import odd
from tests.builders.command import Run
from tests.builders.versions import needs


@pytest.mark.filterwarnings("default")
@needs("pillow", "13", "warns of other damage")
def test_warnings_and_log_lines_are_notes_that_name_the_picture(
    atrous: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    picture = Image.fromarray(np.zeros((8, 8), np.uint8))
    behind = (0x10F, 2, 9999, struct.pack("<I", 99999))
    more = (0x8298, 2, 9998, struct.pack("<I", 99998))
    for name in ("a.tif", "b.tif"):
        data = odd.with_exif(picture, "TIFF", odd.exif(1, behind, more))
        (folder / name).write_bytes(data)
    samples = odd.with_exif(picture, "TIFF", odd.exif(1, (277, 3, 1, struct.pack("<H", 9999))))
    (folder / "c.tif").write_bytes(samples)
    done = atrous(
        "npz", "make", "--dataset_path", folder, "--ids", "all", "--target_path", tmp_path / "n",
        "--text_path", tmp_path / "l.txt",
    )  # fmt: skip
    lines = [line for line in done.err.splitlines() if not line.startswith("npz ")]
    assert {line.split()[0] for line in lines} <= {"note:", "failed:"}
    said = [
        line for line in lines if line.endswith("(further messages of this kind are not shown)")
    ]
    assert [sum(name in line for line in said) for name in ("a.tif", "c.tif")] == [1, 1]
    assert "Tag data larger than file" in said[0]
    assert all("/in/" in line for line in lines)
    assert "Traceback" not in done.err
