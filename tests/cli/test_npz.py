import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous import image
from tests.builders.cases import Cases
from tests.builders.command import Run
from tests.builders.voc import EVAL, FIRST_WRONG, IDS, MAKE, RUN


def test_the_chain_with_the_seeds_flags(atrous: Run, voc: Path) -> None:
    done = atrous("npz", "make", *MAKE, "--copy_dir", "JPEGImages_val")
    assert (done.code, done.out) == (0, "6 written; the list is list.txt\n")
    listed = Path("list.txt").read_text().splitlines()
    assert listed == [str(voc.parent / "in" / f"{name}.npz") for name in IDS]
    assert {path.stem for path in Path("JPEGImages_val").iterdir()} == set(IDS)

    seeds = ("-i", "1", "p", "1", "-b", "1", "-s", "[3,513,513]")
    done = atrous("npz", "run", *RUN[:4], *seeds, *RUN[4:], "--path_output", "out")
    assert (done.code, done.out) == (0, "6 written; see out\n")
    assert "note: ignored: -p 1 -s [3,513,513]: npz run is one process" in done.err
    with np.load(f"out/{IDS[0]}.npz") as answer:
        assert (answer["output_0"].dtype, answer["output_0"].shape) == ("float16", (1, 21, 32, 32))

    done = atrous("npz", "eval", *EVAL, "--draw_dir", "drawn", "--vamp_flag")
    assert done.code == 0
    stamp, accuracy = done.out.splitlines()
    assert accuracy == FIRST_WRONG
    assert stamp.startswith("squash-32: 6 of 6 images, paired by id; truth resized (nearest) to")
    assert "classes that occur nowhere left out" in stamp
    assert "they are paired by id" in done.err
    drawn = {path.name for path in Path("drawn").iterdir()}
    assert drawn == {f"{name}{end}" for name in IDS for end in (".png", "_overlay.jpg")}


def test_instances_and_batches(atrous: Run, voc: Path) -> None:
    atrous("npz", "make", *MAKE)
    assert atrous("npz", "run", *RUN, "-o", "out", "-i", 2, "-b", 1, "-p", 3).code == 0
    assert atrous("npz", "eval", *EVAL).out.splitlines()[-1] == FIRST_WRONG
    done = atrous("npz", "run", *RUN, "-o", "more", "-b", 2)
    assert (done.code, "-b 2: the network takes 1 image at a time" in done.err) == (2, True)
    assert not Path("more").exists()


def test_class_maps_give_the_same_figures(atrous: Run, voc: Path) -> None:
    atrous("npz", "make", *MAKE)
    done = atrous("npz", "run", *RUN, "--path_output", "out", "--output", "classmap")
    assert done.code == 0
    with np.load(f"out/{IDS[0]}.npz") as answer:
        assert (answer["output_0"].dtype, answer["output_0"].shape) == ("uint8", (1, 32, 32))
    assert atrous("npz", "eval", *EVAL).out.splitlines()[-1] == FIRST_WRONG


def test_the_seeds_rule_for_absent_classes(atrous: Run, voc: Path) -> None:
    """A quarter of one picture of six, 1/24 of all, is class 2 but seen as 0: IoU 11/12, 1, 0."""
    atrous("npz", "make", *MAKE)
    atrous("npz", "run", *RUN, "-o", "out")
    out = atrous("npz", "eval", *EVAL, "--absent", "zero").out
    assert "classes that occur nowhere counted as 0" in out
    assert (
        out.splitlines()[-1] == f"validation pixAcc: 95.833, mIoU: {100 * (11 / 12 + 1) / 21:.3f}"
    )
    found = json.loads(atrous("npz", "eval", *EVAL, "--json").out)
    assert found.pop("mean_iou") == pytest.approx(100 * (11 / 12 + 1) / 3)
    assert found.pop("pixel_accuracy") == pytest.approx(100 * 23 / 24)
    assert found == {
        "protocol": "squash-32",
        "pairing": "id",
        "images": 6,
        "listed": 6,
        "absent": "skip",
    }


def numbered(answers: dict[str, NDArray[np.float16]], folder: Path) -> None:
    folder.mkdir()
    for number, answer in enumerate(answers.values()):
        np.savez(folder / f"output_{number:06}.npz", output_0=answer)


@pytest.mark.parametrize("flag", [(), ("--vamp_flag",)])
def test_numbered_answers_of_the_seeds_tool(flag: tuple[str, ...], atrous: Run, voc: Path) -> None:
    atrous("npz", "make", *MAKE)
    atrous("npz", "run", *RUN, "-o", "by_id")
    answers = {name: np.load(f"by_id/{name}.npz")["output_0"] for name in IDS}
    # One answer is wrong where its truth is special, so the figures tell whether pairs are right.
    answers[IDS[0]][:, 2, :16, :16] = 9
    numbered(answers, Path("out"))
    done = atrous("npz", "eval", *EVAL, *flag)
    assert "6 of 6 images, paired by position" in done.out
    assert done.out.splitlines()[-1] == "validation pixAcc: 100.000, mIoU: 100.000"
    Path("out/output_000003.npz").unlink()
    done = atrous("npz", "eval", *EVAL, *flag)
    assert (done.code, done.out) == (1, "")
    assert "5 answers for the 6 of the list" in done.err


def test_the_flag_pairs_answers_called_otherwise(atrous: Run, voc: Path) -> None:
    atrous("npz", "make", *MAKE)
    atrous("npz", "run", *RUN, "-o", "out")
    for letter, name in zip("uvwxyz", IDS, strict=True):
        Path(f"out/{name}.npz").rename(f"out/{letter}.npz")
    done = atrous("npz", "eval", *EVAL)
    assert (done.code, done.out) == (1, "")
    assert "u.npz is neither an id of the list" in done.err
    done = atrous("npz", "eval", *EVAL, "--vamp_flag")
    assert "paired by position" in done.out
    assert done.out.splitlines()[-1] == FIRST_WRONG


def test_numpys_own_files_are_read(atrous: Run, voc: Path) -> None:
    """Inputs and list as the seed's script writes them: in whatever order the folder has."""
    Path("in").mkdir()
    lines = []
    for name in sorted(IDS):
        with Image.open(voc / "JPEGImages" / f"{name}.jpg") as photograph:
            data = np.asarray(photograph).transpose(2, 0, 1)
        np.savez(f"in/{name}.npz", input_0=data)
        lines.append(f"{Path('in').resolve()}/{name}.npz\n")
    Path("list.txt").write_text("".join(lines))
    assert atrous("npz", "run", *RUN, "-o", "out").code == 0
    assert atrous("npz", "eval", *EVAL, "--vamp_flag").out.splitlines()[-1] == FIRST_WRONG


def test_damage_is_reported_and_the_rest_goes_on(atrous: Run, voc: Path) -> None:
    (voc / "JPEGImages" / f"{IDS[1]}.jpg").write_bytes(b"no image")
    done = atrous("npz", "make", *MAKE)
    assert (done.code, done.out) == (1, "5 written, 1 failed; the list is list.txt\n")
    assert f"failed: VOC2012/JPEGImages/{IDS[1]}.jpg: not a picture" in done.err

    Path(f"in/{IDS[2]}.npz").write_bytes(b"PK")
    done = atrous("npz", "run", *RUN, "-o", "out")
    assert (done.code, done.out) == (1, "4 written, 1 failed; see out\n")
    assert f"in/{IDS[2]}.npz: not an npz file that can be read" in done.err

    Path(f"out/{IDS[3]}.npz").write_bytes(Path(f"out/{IDS[3]}.npz").read_bytes()[:-1])
    (voc / "SegmentationClass" / f"{IDS[4]}.png").unlink()
    done = atrous("npz", "eval", *EVAL)
    assert done.code == 1
    assert "2 of 5 images" in done.out
    failures = [line for line in done.err.splitlines() if line.startswith("failed: ")]
    assert len(failures) == 3
    assert "Traceback" not in done.err

    # Once the cause is gone, the same commands make what is missing and nothing else.
    with Image.open(voc / "JPEGImages" / f"{IDS[0]}.jpg") as photograph:
        photograph.save(voc / "JPEGImages" / f"{IDS[1]}.jpg")
    assert atrous("npz", "make", *MAKE).out.startswith("2 written, 4 kept;")
    assert atrous("npz", "run", *RUN, "-o", "out").out.startswith("3 written, 3 kept;")
    assert atrous("npz", "run", *RUN, "-o", "out").out.startswith("6 kept;")
    assert atrous("npz", "run", *RUN, "-o", "out", "--force").out.startswith("6 written;")


def test_a_broken_model_is_noticed(atrous: Run, voc: Path) -> None:
    """Nothing in the seed's chain saw that a model answered with background alone."""
    atrous("npz", "make", *MAKE)
    Path("out").mkdir()
    for name in IDS:
        np.savez(f"out/{name}.npz", output_0=np.zeros((1, 21, 32, 32), np.float16))
    done = atrous("npz", "eval", *EVAL)
    assert done.code == 1
    assert "validation pixAcc: 45.833" in done.out
    assert "health: 100.0% of the pixels are predicted as 'background'" in done.err


def test_ids(atrous: Run, voc: Path) -> None:
    assert atrous("npz", "make", *MAKE, "--ids", "all").out.startswith("7 written")
    Path("ids.txt").write_text(f"{IDS[3]}\nnot_there\n")
    done = atrous("npz", "make", *MAKE, "--ids", "ids.txt")
    assert (done.code, done.out) == (1, "1 kept, 1 failed; the list is list.txt\n")
    assert "VOC2012/JPEGImages: no image of the id not_there" in done.err
    assert [Path(line).stem for line in Path("list.txt").read_text().splitlines()] == [IDS[3]]


def test_hyphens_do_as_well(atrous: Run, voc: Path) -> None:
    hyphens = [str(a).replace("_", "-") if str(a).startswith("--") else a for a in MAKE]
    assert atrous("npz", "make", *hyphens, "--copy-dir", "copies").code == 0
    hyphens = [str(a).replace("_", "-") if str(a).startswith("--") else a for a in RUN]
    assert atrous("npz", "run", *hyphens, "--path-output", "out").code == 0
    hyphens = [str(a).replace("_", "-") if str(a).startswith("--") else a for a in EVAL]
    assert atrous("npz", "eval", *hyphens, "--draw-dir", "d", "--vamp-flag").code == 0


def test_a_disk_that_is_too_small_is_said_beforehand(
    atrous: Run, voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atrous("npz", "make", *MAKE)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("", (), {"free": 258047})())
    assert "--output classmap takes" in atrous("npz", "run", *RUN, "-o", "out").err
    assert "--output classmap takes" not in atrous("npz", "run", *RUN, "-o", "out").err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("make", "--dataset_path", ".", "--target_path", "in"), 2, "val.txt: no such file; --ids"),
        (("make", *MAKE, "--ids", "no.txt"), 2, "error: no.txt: No such file"),
        (("make", "--dataset_path", "no", "--target_path", "in", "--ids", "all"), 2, "error: no: "),
        (("make", *MAKE[2:]), 2, "Missing option '--dataset_path'"),
        (("run", *RUN, "-o", "out"), 2, "error: list.txt: No such file"),
        (("run", *RUN, "-o", "out", "q", "1"), 2, "expected options alone, got 'q 1'"),
        (("run", *RUN, "-o", "out", "p", "x"), 2, "expected options alone, got 'p x'"),
        (("run", *RUN, "-o", "out", "--output", "png"), 2, "'png' is not one of 'logits'"),
        (("eval", *EVAL), 2, "error: list.txt: No such file"),
        (("eval", *EVAL, "--input_shape", 0, 32), 2, "expected height and width in pixels"),
        (("eval", *EVAL[2:], "--draw_dir", "d"), 2, "--draw_dir needs --src_dir"),
        (("eval", *EVAL, "--labels", "coco"), 2, "expected voc, cityscapes"),
    ],
)
def test_errors_are_one_line_and_nothing_is_written(
    arguments: tuple[object, ...], code: int, message: str, atrous: Run, voc: Path
) -> None:
    before = set(voc.parent.rglob("*"))
    done = atrous("npz", *arguments)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert "Traceback" not in done.err
    assert set(voc.parent.rglob("*")) == before


def test_answers_of_another_model_are_made_again(atrous: Run, voc: Path) -> None:
    atrous("npz", "make", *MAKE)
    atrous("npz", "run", *RUN, "-o", "out")
    done = atrous("npz", "run", *RUN, "-o", "out", "--output", "classmap")
    assert (done.code, done.out) == (0, "6 written; see out\n")
    np.savez(f"out/{IDS[0]}.npz", output_0=np.zeros((1, 32, 32), np.uint8))
    done = atrous("npz", "run", *RUN, "-o", "out", "--output", "classmap")
    assert (done.code, done.out) == (1, "5 kept, 1 failed; see out\n")
    assert f"out/{IDS[0]}.npz: is in the way and kept" in done.err
    assert "replace it with --force" in done.err


def test_pictures_that_share_a_name_or_have_a_long_one(
    atrous: Run, cases: Cases, tmp_path: Path
) -> None:
    make = ("npz", "make", "--ids", "all", "--target_path", tmp_path / "in", "--dataset_path")
    text = ("--text_path", tmp_path / "list.txt")
    for group, count in (("clash", 3), ("long", 2)):
        for word in ("written", "kept"):
            done = atrous(*make, cases("names") / group, *text)
            assert (done.code, done.out.startswith(f"{count} {word};")) == (0, True), done.err
    folder = cases("names") / "clash"
    for name in ("a.jpg", "a.png", "a.jpg.png"):
        with np.load(tmp_path / "in" / f"{name}.npz") as found:
            pixels = found["input_0"].transpose(1, 2, 0)
        np.testing.assert_array_equal(pixels, image.read(folder / name))


def test_answers_of_another_size(atrous: Run, voc: Path) -> None:
    atrous("npz", "make", *MAKE)
    atrous("npz", "run", *RUN, "-o", "out")
    done = atrous("npz", "eval", *EVAL, "--input_shape", 33, 32)
    assert (done.code, done.out) == (1, "")
    assert "is float16 (1, 21, 32, 32), expected logits (1, 21, 33, 32)" in done.err
    assert "error: no image was scored" in done.err


@pytest.mark.parametrize("ids", ["ids.txt", "ids_windows.txt"])
def test_lists_from_windows(ids: str, atrous: Run, cases: Cases, tmp_path: Path) -> None:
    folder = cases("lists")
    listing = tmp_path / "list.txt"
    done = atrous(
        "npz", "make", "--dataset_path", folder / "images", "--ids", folder / ids,
        "--target_path", tmp_path / "npz", "--text_path", listing,
    )  # fmt: skip
    assert (done.code, done.out) == (0, f"3 written; the list is {listing}\n")
    assert [Path(line).stem for line in listing.read_text().splitlines()] == ["a", "b", "c"]


def test_the_limit_on_pixels_has_a_way_out(atrous: Run, voc: Path) -> None:
    done = atrous("npz", "make", *MAKE, "--max-pixels", "10")
    assert done.code == 1
    assert f"failed: VOC2012/JPEGImages/{IDS[0]}.jpg: " in done.err
    assert "the limit is 10; make it smaller, or raise --max-pixels if you trust" in done.err
