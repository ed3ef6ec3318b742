"""The clips among the cases from the field, and others of their kinds."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.builders.cases import Cases
from tests.builders.command import Done, Run

Segment = Callable[..., Done]


@pytest.fixture
def clips(cases: Cases, tmp_path: Path) -> Path:
    return shutil.copytree(cases("video"), tmp_path / "video")


@pytest.fixture
def segment(atrous: Run, clips: Path) -> Segment:
    def run(source: str, output: Path, *options: object) -> Done:
        network = ("-m", clips / "colours.onnx", "--vdsp-params", clips / "colours.json")
        engine = ("--engine", "onnxruntime", "--threads", "1")
        return atrous("predict", clips / source, "-o", output, *network, *engine, *options)

    return run


def frames(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return [*container.decode(video=0)]


def pixels(path: Path) -> NDArray[Any]:
    found = [frame.to_ndarray(format="rgb24") for frame in frames(path)]
    return np.stack(found).astype(np.int16)


def sounds(path: Path) -> list[str]:
    with av.open(str(path)) as container:
        return [stream.codec_context.name for stream in container.streams.audio]


def test_what_is_there_is_kept_unless_forced(segment: Segment, clips: Path) -> None:
    output = clips / "holiday.mp4"
    before = output.read_bytes()
    done = segment("plain.mp4", output)
    assert done.code == 1
    assert f"error: {output}: is in the way and kept: Atrous did not make it" in done.err
    assert output.read_bytes() == before
    assert segment("plain.mp4", output, "--force").code == 0
    assert len(frames(output)) == 10
    made = output.read_bytes()
    again = segment("plain.mp4", output)
    assert (again.code, again.out) == (
        0,
        f"{output}: kept, it was made from the same file by the same model\n",
    )
    assert output.read_bytes() == made
    summary = json.loads(segment("plain.mp4", output, "--json").out)
    assert (summary["kept"], summary["frames"], summary["size"]) == (True, 10, [128, 128])
    assert segment("plain.mp4", output, "--opacity", "0.2").code == 0
    assert output.read_bytes() != made
    output.write_bytes(output.read_bytes() + b"#")
    assert segment("plain.mp4", output).code == 1


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_sound_that_nobody_knows_is_left_out(
    segment: Segment, tmp_path: Path, suffix: str
) -> None:
    output = tmp_path / f"out{suffix}"
    done = segment("two_sounds.mov", output)
    assert done.code == 0, done.err
    assert "two_sounds.mov: audio track 2 is left out, its format is unknown" in done.err
    assert (len(frames(output)), sounds(output)) == (10, ["aac"])


@pytest.mark.parametrize("lost", [(0,), (0, 1)])
def test_whichever_sound_it_is(
    segment: Segment, clips: Path, tmp_path: Path, lost: tuple[int, ...]
) -> None:
    source = clips / "two_sounds.mov"
    data = bytearray(source.read_bytes())
    entries = [match.start() + 12 for match in re.finditer(rb"stsd.{12}(?:mp4a|apac)", data, re.S)]
    for number, at in enumerate(entries):
        end = at + int.from_bytes(data[at : at + 4])
        for known, unknown in ((b"mp4a", b"apac"), (b"esds", b"dapa")):
            names = (known, unknown) if number in lost else (unknown, known)
            data[at:end] = data[at:end].replace(*names)
    source.write_bytes(data)
    done = segment("two_sounds.mov", tmp_path / "out.mp4")
    assert done.code == 0, done.err
    for number in lost:
        assert f"audio track {number + 1} is left out, its format is unknown" in done.err
    assert len(frames(tmp_path / "out.mp4")) == 10
    assert sounds(tmp_path / "out.mp4") == ["aac"] * (2 - len(lost))


def test_a_mirrored_clip(segment: Segment, clips: Path, tmp_path: Path) -> None:
    assert segment("mirrored.mp4", tmp_path / "out.mp4", "--opacity", "0").code == 0
    right = pixels(clips / "still.mp4")[:, :, ::-1]
    assert np.abs(pixels(tmp_path / "out.mp4") - right).mean() < 4


@pytest.mark.heavy
def test_hlg_comes_out_as_the_same_clip_in_sdr(
    segment: Segment, clips: Path, tmp_path: Path
) -> None:
    done = segment("hlg.mp4", tmp_path / "out.mp4", "--opacity", "0")
    assert done.code == 0, done.err
    assert "hlg.mp4: HLG of BT.2020 is brought to sRGB" in done.err
    found, right = pixels(tmp_path / "out.mp4"), pixels(clips / "sdr.mp4")
    assert np.abs(found - right).mean() < 10
    assert ((found > 127) == (right > 127)).all(axis=-1).mean() > 0.95
    [first, *_] = frames(tmp_path / "out.mp4")
    tags = (first.colorspace, first.color_range, first.color_primaries, first.color_trc)
    assert tags == (1, 1, 1, 13)  # BT.709 of sRGB


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_joined_clips(segment: Segment, clips: Path, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"out{suffix}"
    done = segment("joined.ts", output, "--opacity", "0")
    assert done.code == 0, done.err
    assert done.err.count("its timestamps jump; they are continued from where they were") == 1
    found = [frame.time for frame in frames(output)]
    assert np.diff(found) == pytest.approx([0.1] * 39, abs=0.002)
    right = np.concatenate([pixels(clips / "a.ts"), pixels(clips / "b.ts")])
    assert np.abs(pixels(output) - right).mean() < 4


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        (".mp4", "aac"),
        (".ts", "aac"),
        (".webm", "opus"),
        (".mov", "pcm_s16le"),
        (".mkv", "pcm_s16le"),
    ],
)
def test_sound_that_the_output_cannot_hold_is_encoded(
    segment: Segment, tmp_path: Path, suffix: str, codec: str | None
) -> None:
    output = tmp_path / f"out{suffix}"
    done = segment("camera.avi", output, "--json")
    assert done.code == 0, done.err
    assert ("audio track 1 is encoded as" in done.err) == (codec in ("aac", "opus"))
    assert (len(frames(output)), sounds(output)) == (10, [codec or "pcm_s16le"])
    assert json.loads(done.out)["audio"] == 1
