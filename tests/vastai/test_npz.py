"""The npz chain: lists, files, answers, pairing and accuracy, by hand-made cases."""

import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous import files
from atrous.engines.fake import FakeEngine
from atrous.engines.signature import Signature
from atrous.errors import AtrousError, ConfigError, InputError
from atrous.image import Reading
from atrous.labels import VOC, generic
from atrous.metrics import ConfusionMatrix
from atrous.pictures.samples import Taking
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor
from atrous.vastai import npz
from atrous.vastai.npz import INPUT, OUTPUT
from atrous.vastai.npz_eval import AnswerScore, evaluate, pair, read_class_map
from atrous.vastai.npz_run import AnswerKind, run
from atrous.vastai.validation import count
from tests.builders.predictors import SIZE, brightest
from tests.builders.rasters import png

IDS = ("b", "a", "d", "c", "f", "e")  # not in the order of the names


def picture(number: int) -> NDArray[np.uint8]:
    """Its brightest channel is `number % 3`, and no two are alike."""
    pixels = np.full((20 + number, 30, 3), number, np.uint8)
    pixels[:, :, number % 3] = 200
    return pixels


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "JPEGImages"
    folder.mkdir()
    for number, name in enumerate(IDS):
        Image.fromarray(picture(number)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def inputs(dataset: Path) -> list[Path]:
    list(npz.make(dataset, IDS, dataset.parent / "in", dataset.parent / "list.txt"))
    return npz.read_list(dataset.parent / "list.txt")


def statuses(steps: object) -> list[str]:
    return [step.status for step in steps]  # type: ignore[attr-defined]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# Images → npz


def test_make_follows_the_order_of_the_ids(dataset: Path, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    steps = list(npz.make(dataset, IDS, tmp_path / "in", tmp_path / "list.txt", copies=copies))
    assert statuses(steps) == ["written"] * 6
    listed = (tmp_path / "list.txt").read_text().splitlines()
    assert listed == [str(tmp_path / "in" / f"{name}.npz") for name in IDS]
    for number, (name, line) in enumerate(zip(IDS, listed, strict=True)):
        with np.load(line) as found:
            assert found.files == [INPUT]
            np.testing.assert_array_equal(found[INPUT], picture(number).transpose(2, 0, 1))
            assert found[INPUT].dtype == np.uint8
        assert (copies / f"{name}.png").read_bytes() == (dataset / f"{name}.png").read_bytes()


def test_make_all_and_again(dataset: Path, tmp_path: Path) -> None:
    target, listing = tmp_path / "in", tmp_path / "list.txt"
    assert statuses(npz.make(dataset, None, target, listing)) == ["written"] * 6
    assert [path.stem for path in npz.read_list(listing)] == sorted(IDS)
    half(target / "c.npz")
    np.savez(target / "d.npz", input_0=np.zeros((3, 5, 5), np.uint8))  # as the seed's script does
    before = content(target)
    np.savez(target / "e.npz", input_0=picture(5).transpose(2, 0, 1))
    again = {step.name: step for step in npz.make(dataset, None, target, listing)}
    assert [step.status for step in again.values()] == [
        "kept", "kept", "written", "failed", "kept", "kept",
    ]  # fmt: skip
    assert "d.npz: is in the way and kept" in again["d"].error
    assert content(target)["d.npz"] == before["d.npz"]
    Image.fromarray(picture(9)).save(dataset / "f.png")
    assert statuses(npz.make(dataset, ["a", "f"], target, listing)) == ["kept", "written"]
    Image.fromarray(picture(9)).save(dataset / "e.png")
    assert statuses(npz.make(dataset, ["a", "e"], target, listing)) == ["kept", "failed"]
    assert statuses(npz.make(dataset, None, target, listing, force=True)) == ["written"] * 6
    assert content(target)["d.npz"] != before["d.npz"]


def test_make_goes_on_after_images_that_fail(dataset: Path, tmp_path: Path) -> None:
    half(dataset / "a.png")
    steps = list(npz.make(dataset, [*IDS, "g"], tmp_path / "in", tmp_path / "list.txt"))
    assert {s.name: s.error.split(": ")[1] for s in steps if s.error} == {
        "a": "cannot be read",
        "g": "no image of the id g",
    }
    assert [path.stem for path in npz.read_list(tmp_path / "list.txt")] == ["b", "d", "c", "f", "e"]


@pytest.mark.parametrize("asked", ["b.png", "./b.png", "e\u0301", "e\u0301.png"])
def test_ids_may_be_names_of_files(asked: str, dataset: Path, tmp_path: Path) -> None:
    Image.fromarray(picture(1)).save(dataset / "\xe9.png")
    [step] = npz.make(dataset, [asked], tmp_path / "out", tmp_path / "list.txt")
    assert step.name == ("b" if "b" in asked else "\xe9")
    assert step.status == "written"


def test_links_to_devices_do_not_hold_it_up(dataset: Path, tmp_path: Path) -> None:
    (dataset / "zero.png").symlink_to("/dev/zero")
    steps = list(npz.make(dataset, ["zero", "a"], tmp_path / "out", tmp_path / "list.txt"))
    assert statuses(steps) == ["failed", "written"]
    assert steps[0].error == f"{dataset}/zero.png: a pipe or a device, expected a file"


def test_a_list_of_nothing_does_not_replace_one(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("as before")
    with pytest.raises(AtrousError, match=r"nothing was converted; .*list\.txt is not written"):
        list(npz.make(dataset, ["x", "y"], tmp_path / "in", tmp_path / "list.txt"))
    assert (tmp_path / "list.txt").read_text() == "as before"


def test_two_images_of_one_id(dataset: Path, tmp_path: Path) -> None:
    Image.fromarray(picture(7)).save(dataset / "a.jpg")
    target, listing = tmp_path / "in", tmp_path / "list.txt"
    steps = list(npz.make(dataset, None, target, listing))
    assert [step.name for step in steps][:2] == ["a.jpg", "a.png"]
    assert statuses(steps) == ["written"] * 7
    assert [path.stem for path in npz.read_list(listing)][:2] == ["a.jpg", "a.png"]
    [failed, _] = npz.make(dataset, ["a", "b"], target, listing)
    assert failed.error.endswith("of the id a; a.jpg and a.png are called so, with their endings")


def test_copies_replace_nothing_else(dataset: Path, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    arguments = (dataset, IDS[:2], tmp_path / "in", tmp_path / "list.txt")
    assert statuses(npz.make(*arguments, copies=copies)) == ["written"] * 2
    (copies / "a.png").write_bytes(b"mine")
    steps = list(npz.make(*arguments, copies=copies))
    assert statuses(steps) == ["kept", "failed"]
    assert "a.png: another file is in the way" in steps[1].error
    assert (copies / "a.png").read_bytes() == b"mine"
    assert statuses(npz.make(*arguments, copies=copies, force=True)) == ["written"] * 2


def test_names_that_are_not_utf_8(dataset: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    Image.fromarray(picture(7)).save(dataset / f"{odd}.png")
    Image.fromarray(picture(8)).save(dataset / "two\nlines.png")
    steps = list(npz.make(dataset, None, tmp_path / "in", tmp_path / "list.txt"))
    assert {step.name: step.status for step in steps if step.name not in IDS} == {
        odd: "written", "two\nlines": "failed",
    }  # fmt: skip
    listed = npz.read_list(tmp_path / "list.txt")
    assert tmp_path / "in" / f"{odd}.npz" in listed
    assert set(statuses(run(brightest(), listed, tmp_path / "o", kind="classmap"))) == {"written"}
    assert (tmp_path / "o" / f"{odd}.npz").is_file()


def test_written_as_numpy_writes(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.float16).reshape(1, 2, 3, 4).transpose(0, 3, 1, 2)
    npz.write(tmp_path / "ours.npz", OUTPUT, array)
    np.savez(tmp_path / "theirs.npz", output_0=np.ascontiguousarray(array))
    assert (tmp_path / "ours.npz").read_bytes() == (tmp_path / "theirs.npz").read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "list.txt: empty"),
        ("\n \n", "list.txt: empty"),
        ("x/a.npz\r\ny/b.npz\ny/a.npz\n", "lists the id a twice: y/a.npz"),
        (None, "list.txt: No such file"),
        (b"\xff\0", "list.txt: not a text file"),
    ],
)
def test_lists_that_are_none(text: str | bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message):
        npz.read_list(path)


def test_ids_count_once(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("b\r\na\n\nb\n")
    assert npz.read_ids(tmp_path / "ids.txt") == ["b", "a"]


# Reading


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    good = tmp_path / "good.npz"
    npz.write(good, INPUT, np.zeros((3, 40, 40), np.uint8))
    flipped = bytearray(good.read_bytes())
    flipped[2000] ^= 1
    np.save(tmp_path / "bare.npy", np.zeros(3))
    np.savez(tmp_path / "objects.npz", input_0=np.array([{}], object))
    np.savez(tmp_path / "other.npz", arr=np.zeros(3), data=np.zeros(3))
    cases = {
        "truncated": (good.read_bytes()[:700], "not an npz file that can be read"),
        "flipped": (bytes(flipped), "Bad CRC-32"),
        "empty": (b"", "not an npz file that can be read: No data left in file"),
        "text": (b"nothing", "not an npz file that can be read"),
        "bare": ((tmp_path / "bare.npy").read_bytes(), "one bare array"),
        "objects": ((tmp_path / "objects.npz").read_bytes(), "allow_pickle=False"),
        "other": ((tmp_path / "other.npz").read_bytes(), "holds arr, data, expected input_0"),
    }
    for name, (damaged, message) in cases.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=message) as caught:
            npz.read(path, INPUT)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"none\.npz: no such file"):
        npz.read(tmp_path / "none.npz", INPUT)


@pytest.mark.parametrize(
    ("array", "accepted"),
    [
        (np.zeros((3, 4, 5), np.uint8), True),
        (np.zeros((1, 3, 4, 5), np.uint8), True),
        (np.zeros((4, 5, 3), np.uint8), False),
        (np.zeros((3, 4, 5), np.float32), False),
        (np.zeros((3, 0, 5), np.uint8), False),
        (np.zeros(3, np.uint8), False),
    ],
)
def test_what_an_input_must_be(array: NDArray[np.uint8], accepted: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, input_0=array)
    if accepted:
        assert npz.read_input(path).shape == (4, 5, 3)
    else:
        with pytest.raises(InputError, match=r"input_0 is .* expected uint8 \(3, H, W\)"):
            npz.read_input(path)


# npz → npz


def test_logits_and_class_maps_say_the_same(inputs: list[Path], tmp_path: Path) -> None:
    assert statuses(run(brightest(), inputs, tmp_path / "l", kind="logits")) == ["written"] * 6
    assert statuses(run(brightest(), inputs, tmp_path / "m", kind="classmap")) == ["written"] * 6
    for number, path in enumerate(inputs):
        with (
            np.load(tmp_path / "l" / path.name) as logits,
            np.load(tmp_path / "m" / path.name) as m,
        ):
            assert logits.files == m.files == [OUTPUT]
            assert (logits[OUTPUT].dtype, logits[OUTPUT].shape) == (np.float16, (1, 3, *SIZE))
            assert (m[OUTPUT].dtype, m[OUTPUT].shape) == (np.uint8, (1, *SIZE))
            assert (m[OUTPUT] == number % 3).all()
            np.testing.assert_array_equal(logits[OUTPUT].argmax(1), m[OUTPUT])
    by_logits, by_map = (tmp_path / kind / "a.npz" for kind in "lm")
    np.testing.assert_array_equal(*(read_class_map(p, SIZE, 3) for p in (by_logits, by_map)))


def test_the_logits_are_those_of_the_grid(tmp_path: Path) -> None:
    """A grid of 1×2 over an input of 1×4: half-pixel centres at -1/4, 1/4, 3/4, 5/4 of the grid."""
    grid = np.array([[[[0, 8]], [[4, 4]]]], np.float32)
    engine = FakeEngine(lambda batch: grid, 2)
    predictor = Predictor(engine, Preprocess(size=(1, 4)), generic(2))
    npz.write(tmp_path / "x.npz", INPUT, np.zeros((3, 7, 9), np.uint8))
    list(run(predictor, [tmp_path / "x.npz"], tmp_path / "o", kind="logits"))
    found = npz.read(tmp_path / "o" / "x.npz", OUTPUT)
    assert found[0, :, 0].tolist() == [[0, 2, 6, 8], [4, 4, 4, 4]]
    list(run(predictor, [tmp_path / "x.npz"], tmp_path / "m", kind="classmap"))
    assert npz.read(tmp_path / "m" / "x.npz", OUTPUT).tolist() == [[[1, 1, 0, 0]]]


def test_run_goes_on_after_files_that_fail(inputs: list[Path], tmp_path: Path) -> None:
    half(inputs[1])
    inputs[3].unlink()
    np.savez(inputs[4], input_0=np.zeros((20, 30, 3), np.uint8))
    steps = list(run(brightest(), inputs, tmp_path / "o", kind="logits"))
    expected = ["written", "failed", "written", "failed", "failed", "written"]
    assert statuses(steps) == expected
    assert [step.error.startswith(str(inputs[i])) for i, step in enumerate(steps)] == [
        status == "failed" for status in expected
    ]
    assert sorted(content(tmp_path / "o")) == ["b.npz", "d.npz", "e.npz"]


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (np.nan, "classmap", "scores are not all numbers"),
        (np.inf, "logits", "scores are not all numbers"),
        (1e5, "logits", "does not fit float16; use `kind` classmap"),
        (1e5, "classmap", ""),
    ],
)
def test_scores_that_cannot_be_written(
    value: float, kind: AnswerKind, message: str, inputs: list[Path], tmp_path: Path
) -> None:
    engine = FakeEngine(lambda batch: np.full((1, 3, 2, 2), value, np.float32), 3)
    predictor = Predictor(engine, Preprocess(size=SIZE), generic(3))
    [step] = run(predictor, inputs[:1], tmp_path / "o", kind=kind)
    assert message in step.error
    assert step.error.startswith(str(inputs[0])) == bool(message) == (step.status == "failed")


def test_answers_that_are_there(inputs: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "o"
    list(run(brightest(), inputs, output, kind="logits"))
    before = content(output)
    half(output / "d.npz")
    calls: list[object] = []
    again = list(run(brightest(calls.append), inputs, output, kind="logits"))
    assert [step.name for step in again if step.status == "written"] == ["d"]
    assert len(calls) == 1
    assert content(output) == before
    assert statuses(run(brightest(), inputs, output, kind="logits", force=True)) == ["written"] * 6


@pytest.mark.parametrize("lost", [1, 20, 21, 60, 120, 200, 1000])
def test_an_answer_cut_short_is_made_again(lost: int, inputs: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "o" / inputs[0].name
    list(run(brightest(), inputs[:1], path.parent, kind="logits"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-lost])
    assert statuses(run(brightest(), inputs[:1], path.parent, kind="logits")) == ["written"]
    assert path.read_bytes() == whole


def test_answers_of_another_are_not_taken_for_ours(inputs: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "o"
    list(run(brightest(), inputs, output, kind="logits"))
    other = brightest()
    other.engine.identity = "another model"
    squeezed = brightest()
    squeezed.preprocess = Preprocess(size=SIZE, normalisation="div255")
    kinds: list[tuple[Predictor, AnswerKind]] = [
        (other, "logits"), (squeezed, "logits"), (brightest(), "classmap"), (brightest(), "logits"),
    ]  # fmt: skip
    for predictor, kind in kinds:
        assert statuses(run(predictor, inputs, output, kind=kind)) == ["written"] * 6
    npz.write(inputs[1], INPUT, picture(9).transpose(2, 0, 1))
    again = statuses(run(brightest(), inputs, output, kind="logits"))
    assert again == ["kept", "written", *["kept"] * 4]

    np.savez(output / "b.npz", output_0=np.zeros((1, 3, *SIZE), np.float16))
    _, comment = npz.read_with_comment(output / "d.npz", OUTPUT)
    npz.write(output / "d.npz", OUTPUT, np.ones((1, 3, *SIZE), np.float16))
    with zipfile.ZipFile(output / "d.npz", "a") as archive:
        archive.infolist()[0].comment = comment.encode()
        archive._didModify = True  # type: ignore[attr-defined]
    assert npz.read_with_comment(output / "d.npz", OUTPUT)[1] == comment
    before = content(output)
    steps = list(run(brightest(), inputs, output, kind="logits"))
    assert [step.name for step in steps if step.status == "failed"] == ["b", "d"]
    assert "b.npz: is in the way and kept" in steps[0].error
    assert content(output) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from atrous.pictures.samples import Taking
from atrous.vastai import npz
from atrous.vastai.npz_run import run
from tests.builders.predictors import brightest

calls = []
def count(*unused):
    calls.append(1)
    return len(calls) == 4

def die_in_the_network(*unused):
    count() and os.kill(os.getpid(), signal.SIGKILL)

write_array = npz.np.lib.format.write_array
def die_in_a_file(file, *arguments, **options):
    if count():
        file.write(b"half of it")
        os.kill(os.getpid(), signal.SIGKILL)
    write_array(file, *arguments, **options)

predictor = brightest()
if sys.argv[3] == "network":
    predictor = brightest(die_in_the_network)
else:
    npz.np.lib.format.write_array = die_in_a_file
list(run(predictor, npz.read_list(Path(sys.argv[1])), Path(sys.argv[2]), kind="classmap"))
"""


@pytest.mark.heavy
@pytest.mark.parametrize("where", ["network", "write"])
def test_killed_and_resumed(where: str, inputs: list[Path], tmp_path: Path) -> None:
    list(run(brightest(), inputs, tmp_path / "whole", kind="classmap"))
    output = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "list.txt"), str(output), where]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    # What dies is some way behind or ahead of what is written at that moment.
    finished = {path.stem for path in output.glob("*.npz")}
    assert finished < set(IDS)
    resumed = {step.name: step.status for step in run(brightest(), inputs, output, kind="classmap")}
    assert resumed == {name: "kept" if name in finished else "written" for name in IDS}
    same = {path.name: path.read_bytes() for path in output.glob("*.npz")}
    assert same == content(tmp_path / "whole")


def test_a_disk_that_fills(
    inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fourth answer and those behind it find no space for their second half."""
    list(run(brightest(), inputs, tmp_path / "whole", kind="logits"))
    output = tmp_path / "o"

    def full(path: Path, write: Callable[[IO[bytes]], object]) -> None:
        def cut_short(file: IO[bytes]) -> None:
            file.write(b"half")
            raise OSError(28, "No space left on device")

        files.write_atomic(path, write if path.stem in IDS[:3] else cut_short)

    with monkeypatch.context() as patch:
        patch.setattr("atrous.vastai.npz.write_atomic", full)
        steps = run(brightest(), inputs, output, kind="logits")
        found = list(steps)
    assert statuses(found) == ["written"] * 3 + ["failed"] * (len(IDS) - 3)
    assert "c.npz: cannot be written: No space left on device" in found[3].error
    whole = content(tmp_path / "whole")
    assert content(output) == {f"{name}.npz": whole[f"{name}.npz"] for name in IDS[:3]}
    list(run(brightest(), inputs, output, kind="logits"))
    assert content(output) == whole


def test_closed_in_the_middle(inputs: list[Path], tmp_path: Path) -> None:
    list(run(brightest(), inputs, tmp_path / "whole", kind="logits"))
    output = tmp_path / "o"
    steps = run(brightest(), inputs, output, kind="logits")
    assert next(steps).status == "written"
    steps.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("atrous")]
    assert content(output).items() <= content(tmp_path / "whole").items()


@pytest.mark.parametrize("fixed", [None, 4])
def test_batches_and_instances_change_nothing_but_the_calls(
    fixed: int | None, inputs: list[Path], tmp_path: Path
) -> None:
    list(run(brightest(), inputs, tmp_path / "one", kind="logits"))
    seen: list[int] = []
    predictor = brightest(lambda tensors: seen.append(len(tensors)))
    predictor.engine.signature = Signature.of(3, batch=fixed)
    predictor.engine.streams = 2
    found = list(run(predictor, inputs, tmp_path / "o", kind="logits", batch=fixed))
    assert [step.name for step in found] == list(IDS)
    assert set(seen) == {fixed or 1}
    assert content(tmp_path / "o") == content(tmp_path / "one")
    if fixed:
        with pytest.raises(ConfigError, match="`batch` 3: the network takes 4 images at a time"):
            next(run(predictor, inputs, tmp_path / "o", kind="logits", batch=3))


def test_a_disk_that_fills_while_making(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text("as before\n")
    write_array = np.lib.format.write_array
    written: list[object] = []

    def full(*arguments: object, **options: object) -> None:
        written.append(arguments)
        if len(written) > 2:
            raise OSError(28, "No space left on device")
        write_array(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(np.lib.format, "write_array", full)
    steps = npz.make(dataset, IDS, tmp_path / "in", listing)
    assert statuses([next(steps), next(steps)]) == ["written"] * 2
    with pytest.raises(AtrousError, match=r"d\.npz: cannot be written: No space left on device"):
        next(steps)
    assert sorted(content(tmp_path / "in")) == ["a.npz", "b.npz"]
    assert listing.read_text() == "as before\n"


def test_class_maps_are_deflated(tmp_path: Path) -> None:
    npz.write(tmp_path / "m.npz", OUTPUT, np.zeros((1, 513, 513), np.uint8))
    npz.write(tmp_path / "i.npz", INPUT, np.zeros((3, 513, 513), np.uint8))
    assert (tmp_path / "m.npz").stat().st_size < 5000
    with zipfile.ZipFile(tmp_path / "i.npz") as archive:
        assert archive.infolist()[0].compress_type == zipfile.ZIP_STORED


# Pairing

LIST = [Path("/elsewhere") / f"{name}.npz" for name in IDS[:3]]  # b, a, d


def named(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / f"{name}.npz").touch()
    return folder


@pytest.mark.parametrize(
    ("names", "by_position", "by", "expected"),
    [
        (["a", "b", "d"], False, "id", ["b", "a", "d"]),
        (["a", "b", "d"], True, "id", ["b", "a", "d"]),
        (["a", "d"], True, "id", ["b", "a", "d"]),
        (["a", "b", "d", "z"], False, "id", ["b", "a", "d"]),
        (["output_000001", "output_000000", "output_000002"], False, "position", [0, 1, 2]),
        (["output_9", "output_10", "output_11"], False, "position", [9, 10, 11]),
        (["1", "2", "10"], True, "position", ["1", "2", "10"]),
        (["x", "y", "z"], True, "position", ["x", "y", "z"]),
        (["a", "x", "y"], True, "position", ["a", "x", "y"]),
    ],
)
def test_pairs(
    names: list[str], by_position: bool, by: str, expected: list[str | int], tmp_path: Path
) -> None:
    named(tmp_path, *names)
    (tmp_path / ".a.npz.xyz.part").touch()
    pairing = pair(LIST, tmp_path, by_position=by_position)
    assert pairing.by == by
    assert list(pairing.answers) == ["b", "a", "d"]
    found = [path.stem for path in pairing.answers.values()]
    width = 6 if "output_000000" in names else 1
    assert found == [f"output_{e:0{width}}" if isinstance(e, int) else e for e in expected]


@pytest.mark.parametrize(
    ("names", "by_position", "message"),
    [
        ([], False, "no npz files in it"),
        (["x", "y", "z"], False, r"x\.npz is neither an id of the list, as b\.npz, nor numbered"),
        (["output_0", "output_1"], False, "2 answers for the 3 of the list"),
        (["x", "y", "z", "zz"], True, "4 answers for the 3 of the list"),
        (["output_0", "other_1", "other_2"], False, "nor numbered"),
    ],
)
def test_pairs_that_cannot_be_made(
    names: list[str], by_position: bool, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        pair(LIST, named(tmp_path, *names), by_position=by_position)


# Accuracy

SHAPE = (2, 4)
MAP = np.array([[0, 0, 1, 1], [0, 2, 1, 1]], np.uint8)
SCORES = np.stack([(class_id == MAP).astype(np.float32) for class_id in range(3)])


@pytest.mark.parametrize(
    "answer",
    [
        MAP,
        MAP[None],
        MAP[None, None],
        MAP.astype(np.int64),
        SCORES[None],
        SCORES,
        SCORES[None].astype(np.float16),
        # The seed's fault: cut to whole numbers, these would all be class 0.
        SCORES[None].astype(np.float16) * np.float16(0.9),
        (100 * SCORES[None]).astype(np.int8),
    ],
)
def test_what_an_answer_may_be(answer: NDArray[np.generic], tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, output_0=answer)
    found = read_class_map(path, SHAPE, 3)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, MAP)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            np.zeros((1, 3, 4, 2), np.float16),
            r"is float16 \(1, 3, 4, 2\), expected logits \(1, 3, 2,",
        ),
        (np.zeros((1, 4, 2, 4), np.float16), r"expected logits \(1, 3, 2, 4\)"),
        (np.zeros((2, 3, 2, 4), np.float16), r"expected logits \(1, 3, 2, 4\)"),
        (np.zeros(SHAPE, np.float32), r"or whole class ids \(1, 2, 4\); `shape`"),
        (np.zeros(SHAPE, np.bool_), "is bool"),
        (np.zeros((0, *SHAPE), np.uint8), r"is uint8 \(0, 2, 4\)"),
        (np.full(SHAPE, -1), r"class ids -1\.\.-1, expected 0\.\.2"),
        (np.full(SHAPE, 256), r"class ids 256\.\.256"),
        (np.full((1, 3, *SHAPE), np.nan, np.float32), "holds NaN"),
    ],
)
def test_what_an_answer_may_not_be(
    answer: NDArray[np.generic], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, output_0=answer)
    with pytest.raises(InputError, match=message) as caught:
        read_class_map(path, SHAPE, 3)
    assert str(path) in str(caught.value)


def scored(
    folder: Path, truths: dict[str, NDArray[np.uint8]], answers: dict[str, NDArray[np.uint8]]
) -> tuple[ConfusionMatrix, list[AnswerScore]]:
    for name, mask in truths.items():
        Image.fromarray(mask).save(folder / f"{name}.png")
    for name, answer in answers.items():
        np.savez(folder / f"{name}.npz", output_0=answer)
    matrix = ConfusionMatrix(3)
    paths = {name: folder / f"{name}.npz" for name in ("x", "y", "z")}
    return matrix, list(evaluate(paths, folder, SHAPE, generic(3), matrix))


def test_accuracy_by_hand(tmp_path: Path) -> None:
    """Of 7 pixels that count, 5 are right. Class 0: 2 of 4; class 1: 3 of 4; class 2: 0 of 1."""
    truth = np.array([[0, 0, 1, 1], [255, 0, 1, 0]], np.uint8)
    large = truth.repeat(3, 0).repeat(3, 1)  # nearest takes the middle of each block
    matrix, scores = scored(tmp_path, {"x": large}, {"x": MAP})
    assert matrix.counts.tolist() == [[2, 1, 1], [0, 3, 0], [0, 0, 0]]
    assert matrix.pixel_accuracy == pytest.approx(5 / 7)
    assert matrix.mean_iou == pytest.approx((2 / 4 + 3 / 4 + 0) / 3)
    assert scores[0] == AnswerScore("x", counted=True)


def test_one_image_that_fails_does_not_spoil_the_rest(tmp_path: Path) -> None:
    matrix, scores = scored(tmp_path, {"x": MAP, "y": MAP}, {"x": MAP, "z": MAP})
    assert [score.counted for score in scores] == [True, False, False]
    assert "y.npz: no such file" in scores[1].errors[0]
    assert "z.png: cannot be read: No such file" in scores[2].errors[0]
    assert matrix.counts.sum() == MAP.size


def test_classes_that_the_labels_do_not_have(tmp_path: Path) -> None:
    odd = {"x": np.full(SHAPE, 7, np.uint8), "y": MAP, "z": MAP}
    answers = {"x": MAP, "y": np.full(SHAPE, 9, np.uint8), "z": MAP}
    matrix, scores = scored(tmp_path, odd, answers)
    assert [score.counted for score in scores] == [False, False, True]
    assert "truth holds class id 7..7, expected 0..2" in scores[0].errors[0]
    assert "x.png" in scores[0].errors[0]
    assert "prediction holds class id 9..9" in scores[1].errors[0]
    assert matrix.counts.sum() == MAP.size


def test_colour_and_damaged_masks(tmp_path: Path) -> None:
    Image.new("RGB", (4, 2)).save(tmp_path / "colour.png")
    with pytest.raises(InputError, match=r"colour\.png: its pixels are RGB, expected class ids"):
        count(ConfusionMatrix(3), tmp_path / "colour.png", MAP)
    Image.effect_noise((400, 200), 50).save(tmp_path / "cut.png")
    half(tmp_path / "cut.png")
    with pytest.raises(InputError, match=r"cut\.png: cannot be read"):
        count(ConfusionMatrix(3), tmp_path / "cut.png", MAP)


def test_a_palette_mask_keeps_its_ids(tmp_path: Path) -> None:
    mask = Image.fromarray(MAP, mode="P")
    mask.putpalette(VOC.palette())
    mask.save(tmp_path / "m.png")
    matrix = ConfusionMatrix(3)
    count(matrix, tmp_path / "m.png", MAP)
    assert matrix.counts.tolist() == np.diag(np.bincount(MAP.ravel())).tolist()


def test_pictures(tmp_path: Path) -> None:
    photograph = tmp_path / "photograph.jpg"
    Image.new("RGB", (40, 20), "grey").save(photograph)
    np.savez(tmp_path / "x.npz", output_0=MAP)
    np.savez(tmp_path / "y.npz", output_0=MAP)
    Image.fromarray(MAP).save(tmp_path / "x.png")
    pictures = tmp_path / "drawn"
    steps = evaluate(
        {name: tmp_path / f"{name}.npz" for name in ("x", "y")},
        tmp_path,
        SHAPE,
        generic(3),
        ConfusionMatrix(3),
        pictures=pictures,
        images={"x": photograph},
    )
    first, second = steps
    assert first == AnswerScore("x", counted=True)
    assert [error.split(": ")[1] for error in second.errors] == [
        "cannot be read",
        "no photograph of this id to draw on",
    ]
    assert sorted(content(pictures)) == ["x.png", "x_overlay.jpg"]
    with Image.open(pictures / "x.png") as mask:
        assert (mask.mode, mask.size) == ("P", (40, 20))
        np.testing.assert_array_equal(np.asarray(mask)[::10, ::10], MAP)
    with Image.open(pictures / "x_overlay.jpg") as overlay:
        assert overlay.size[0] == 40


def test_pictures_are_drawn_again_and_never_over_others(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20), "grey").save(tmp_path / "x.jpg")
    np.savez(tmp_path / "x.npz", output_0=MAP)
    Image.fromarray(MAP).save(tmp_path / "x.png")

    def draw(folder: Path, force: bool = False) -> tuple[str, ...]:
        [score] = evaluate(
            {"x": tmp_path / "x.npz"}, tmp_path, SHAPE, generic(3), ConfusionMatrix(3),
            pictures=folder, images={"x": tmp_path / "x.jpg"}, force=force,
        )  # fmt: skip
        return score.errors

    assert draw(tmp_path / "drawn") == draw(tmp_path / "drawn") == ()
    truth = (tmp_path / "x.png").read_bytes()
    [error] = draw(tmp_path)
    assert "x.png: is in the way and kept" in error
    assert (tmp_path / "x.png").read_bytes() == truth
    assert not (tmp_path / "x_overlay.jpg").exists()
    assert draw(tmp_path, force=True) == ()


def test_pictures_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (40, 20), "grey").save(tmp_path / "x.jpg")
    np.savez(tmp_path / "x.npz", output_0=MAP)
    Image.fromarray(MAP).save(tmp_path / "x.png")

    def full(*arguments: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("atrous.image.write_atomic", full)
    steps = evaluate(
        {"x": tmp_path / "x.npz"},
        tmp_path,
        SHAPE,
        generic(3),
        ConfusionMatrix(3),
        pictures=tmp_path / "drawn",
        images={"x": tmp_path / "x.jpg"},
    )
    with pytest.raises(AtrousError, match="the pictures of x cannot be written: No space left"):
        next(steps)


def test_an_npz_file_of_another_range_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    png(tmp_path / "in" / "a.png", np.full((1, 4, 4), 819, np.uint16), 16)

    def made(value_range: tuple[float, float] | None) -> tuple[str, int]:
        reading = Reading(Taking(value_range))
        arguments = (tmp_path / "in", None, tmp_path / "out", tmp_path / "list.txt")
        [step] = npz.make(*arguments, reading=reading)
        assert step.path is not None
        return step.status, int(npz.read_input(step.path)[0, 0, 0])

    assert made(None) == ("written", 3)
    assert made(None) == ("kept", 3)
    assert made((0, 4095)) == ("written", 51)
    assert made((0, 4095)) == ("kept", 51)
