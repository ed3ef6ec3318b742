"""What is no part of an entry, in every list and JSON file."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atrous import strict_yaml, texts
from atrous.bench import measurement
from atrous.data import splits
from atrous.errors import ConfigError
from atrous.evaluation import result
from atrous.serve import settings
from atrous.vastai import npz, vdsp

MARK = "\ufeff"


@pytest.mark.parametrize(
    "content",
    [
        b"a\nb\n", b"a\r\nb\r\n", b"a\rb", "\ufeffa\r\n\r\n  b\t\r\n \r\n".encode(),
        "\ufeffa\n\ufeffb".encode(), "a\r\nb\r\n".encode("utf-16"), "\u00a0a\nb\u3000".encode(),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "read",
    [texts.read_lines, splits.read_lines, npz.read_ids, lambda p: [*map(str, npz.read_list(p))]],
)
def test_lists(read: Callable[[Path], list[str]], content: bytes, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    assert read(tmp_path / "list.txt") == ["a", "b"]


def test_names_that_are_not_utf_8_or_hold_odd_letters(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg"
    (tmp_path / "list.txt").write_bytes(name + b"\n" + "a\u2028b c".encode())
    assert texts.read_lines(tmp_path / "list.txt")[0] == os.fsdecode(name)
    (tmp_path / "list.txt").write_text("a\u2028b c\x0bd\n", "utf-8")
    assert texts.read_lines(tmp_path / "list.txt") == ["a\u2028b c\x0bd"]


def test_a_picture_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    with pytest.raises(ValueError, match="not a text file"):
        texts.read_lines(tmp_path / "list.txt")


VDSP = {
    "OpType": "FUSION_OP_RGB_RESIZE_CVTCOLOR_NORM_TENSOR",
    "OpConfig": {"OimageWidth": 8, "OimageHeight": 8, "ResizeType": "BILINEAR_CV",
                 "NormaType": "EQUAL", "ColorCvtCode": "NO_CHANGE", "IimageFormat": "RGB_PLANAR"},
}  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_yaml_and_keys(encoding: str, tmp_path: Path) -> None:
    def write(text: str) -> Path:
        path = tmp_path / "file"
        path.write_bytes(text.replace("\n", "\r\n").encode(encoding))
        return path

    assert vdsp.read(write(json.dumps(VDSP, indent=1))).size == (8, 8)
    assert strict_yaml.read(write("a: 1\nb: x\n"), such_as="a") == {"a": 1, "b": "x"}
    assert settings.read_key(write("secret\n"), "127.0.0.1") == "secret"
    load: Callable[[Path], Any]
    for load in (result.load, measurement.load):
        with pytest.raises(ConfigError, match="not a result of atrous"):
            load(write('{"kind": "other"}'))
