import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from atrous.data.synthetic import NAMES, draw
from tests.builders.cases import Cases
from tests.builders.command import Run


@pytest.fixture
def spec(tmp_path: Path) -> str:
    """Four drawn pictures to train on and four to validate on."""
    for number in range(8):
        split = "train" if number < 4 else "val"
        for folder, values in zip(("images", "masks"), draw(0, number), strict=True):
            path = tmp_path / folder / split / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
    content = {"images": "images/{split}", "masks": "masks/{split}", "classes": list(NAMES)}
    (tmp_path / "set.yaml").write_text(yaml.safe_dump(content | {"mask_type": "ids"}))
    return f"folder:{tmp_path / 'set.yaml'}:val"


def test_doctor_passes_a_healthy_set(atrous: Run, spec: str) -> None:
    done = atrous("doctor", "--data", spec)
    assert done.code == 0, done.err
    for name in NAMES:
        assert name in done.out
    assert "set:val: 4 samples, " in done.out
    assert "compared with set:train" in done.out
    assert done.out.endswith("no error\n")


def test_doctor_fails_a_broken_set(atrous: Run, spec: str, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "images/train/1.png", tmp_path / "images/val/5.png")
    (tmp_path / "masks/val/6.png").unlink()
    done = atrous("doctor", "--data", spec)
    assert done.code == 1
    assert "error: missing label (1): add the files" in done.out
    assert "error: seen in another split (1): " in done.out
    assert "  5 looks like 1 of set:train" in done.out
    alone = atrous("doctor", "--data", spec, "--alone")
    assert "compared with no other split" in alone.out
    assert "seen in another split" not in alone.out


def test_doctor_says_how_a_data_set_says_its_range(atrous: Run, spec: str, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((120, 160), np.float32)).save(
        tmp_path / "images/val/4.png", format="TIFF"
    )
    done = atrous("doctor", "--data", spec)
    assert done.code == 1
    assert "; `range: [LOW, HIGH]` in its file says which values they are" in done.out


def test_doctor_as_json(atrous: Run, spec: str, tmp_path: Path) -> None:
    Image.fromarray(np.full((120, 160), 9, np.uint8)).save(tmp_path / "masks/val/4.png")
    done = atrous("doctor", "--data", spec, "--json")
    assert done.code == 1
    report = json.loads(done.out)
    assert report["healthy"] is False
    assert report["samples"] == 4
    assert [one["name"] for one in report["classes"]] == list(NAMES)
    [finding] = report["findings"]
    assert finding == {
        "kind": "ids outside the classes",
        "severity": "error",
        "count": 1,
        "examples": [
            f"{tmp_path / 'masks/val/4.png'}: id 9 on 19200 pixels; say what they stand for in "
            "values, and what is not scored in ignore"
        ],
        "next_step": finding["next_step"],
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "voc"), "expected voc:ROOT:SPLIT"),
        (("--data", "synthetic:0"), "expected synthetic:SEED:COUNT"),
        (("--alone",), "--alone belongs to --data SPEC"),
        (("--report", "x"), "--report belongs to --data SPEC"),
        (("--data", "synthetic:0:2", "--write", "x"), "--write belongs to --data FOLDER"),
        (("--data", ".", "--report", "x"), "--report shows a data set that a file describes"),
    ],
)
def test_wrong_commands(arguments: tuple[str, ...], message: str, atrous: Run) -> None:
    done = atrous("doctor", *arguments)
    assert (done.code, message in done.err) == (2, True), done.err


def test_data_voc(atrous: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "atrous.data.download.download_voc", lambda root, progress: root / "VOCdevkit" / "VOC2012"
    )
    done = atrous("data", "voc", "--download", tmp_path)
    assert done.code == 0
    assert f"atrous doctor --data voc:{tmp_path}:val" in done.out
    assert "SegmentationClassAug" in done.out
    assert atrous("data", "voc").code == 2


def test_masks_of_a_labelme_folder(atrous: Run, tmp_path: Path) -> None:
    root = tmp_path / "own"
    for number, name in enumerate(("road", "car")):
        (root / "images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(0, number)[0]).save(root / f"images/{number}.png")
        shape = {"label": name, "points": [[0, 0], [80, 0], [80, 120], [0, 120]]}
        content = {"shapes": [shape], "imagePath": f"{number}.png"}
        text = json.dumps(content | {"imageHeight": 120, "imageWidth": 160})
        (root / f"images/{number}.json").write_text(text)
    done = atrous("data", "masks", str(root / "images"), "-o", str(root / "masks"))
    assert (done.code, done.err) == (0, "")
    assert "2 masks of background, car, road" in done.out
    assert yaml.safe_load((root / "own.yaml").read_text()) == {
        "images": "images",
        "masks": "masks",
        "classes": ["background", "car", "road"],
        "val_share": 0.2,
        "mask_type": "ids",
    }
    checked = atrous("doctor", "--data", f"folder:{root / 'own.yaml'}:all")
    assert "no error" in checked.out
    again = atrous("data", "masks", str(root / "images"), "-o", str(root / "masks"))
    assert (again.code, "is there already" in again.err) == (2, True)


def test_doctor_guesses_what_a_folder_is(atrous: Run, spec: str, tmp_path: Path) -> None:
    (tmp_path / "set.yaml").unlink()
    seen = atrous("doctor", "--data", str(tmp_path))
    assert (seen.code, "images: images/{split}" in seen.out) == (0, True)
    assert not list(tmp_path.glob("*.yaml"))
    as_json = json.loads(atrous("doctor", "--data", str(tmp_path), "--json").out)
    assert as_json["file"]["images"] == "images/{split}"
    assert as_json["reasons"]
    own = tmp_path / "own.yaml"
    done = atrous("doctor", "--data", str(tmp_path), "--write", str(own))
    assert (done.code, "own:train: 4 samples" in done.out) == (0, True)
    assert yaml.safe_load(own.read_text())["masks"] == "masks/{split}"
    again = atrous("doctor", "--data", str(tmp_path), "--write", str(own))
    assert (again.code, "own.yaml: exists" in again.err) == (2, True)


def test_doctor_counts_pictures_that_are_turned(atrous: Run, cases: Cases, tmp_path: Path) -> None:
    spec = f"folder:{cases('masks') / 'turned_square/own.yaml'}:all"
    done = atrous("doctor", "--data", spec, "--report", str(tmp_path / "shown"))
    assert "warning: turned by EXIF (4): masks have to be drawn on the picture as it is" in done.out
    assert "p0 as it is shown, turned by EXIF, under its mask" in done.out
    assert [path.name for path in (tmp_path / "shown").iterdir()] == ["p0.jpg"]


def outlined(folder: Path, *labels: str) -> Path:
    """Two labelme files, with a shape of each label in both."""
    folder.mkdir()
    for number in range(2):
        shapes = [
            {"label": label, "points": [[8 * i, 0], [8 * i + 8, 0], [8 * i + 8, 8], [8 * i, 8]]}
            for i, label in enumerate(labels)
        ]
        content = {"shapes": shapes, "imagePath": f"{number}.png"}
        text = json.dumps(content | {"imageHeight": 8, "imageWidth": 8 * len(labels)})
        (folder / f"{number}.json").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("own", "arguments", "message"),
    [
        ("classes: road, car", (), "own.yaml: classes: expected a list, found road, car"),
        ("clases: [road, car]", (), "own.yaml: clases: unknown key; did you mean classes?"),
        (
            "classes: [background, car, road]",
            ("--classes", "road,car"),
            "own.yaml: its classes are background, car, road, and the masks would be of "
            "background, road, car; let both have the same order, with --classes, --unlabelled or "
            "in the file, or describe these masks in another file with --write",
        ),
        (
            "classes: [road, car]",
            (),
            "its classes are road, car, and the masks would be of background, road, car",
        ),
        (
            "values: {0: background, 128: road, 255: car}",
            (),
            "own.yaml: values: masks are drawn in the numbers of the classes, which this file "
            "reads otherwise; describe these masks in another file with --write",
        ),
        (
            "classes: {background: [0, 0, 0], car: [0, 128, 0], road: [128, 0, 0]}\nmask_type: rgb",
            (),
            "own.yaml: mask_type: rgb: masks are drawn in the numbers",
        ),
        ("classes: [road, car]\nignore: [0]", ("--unlabelled", "ignored"), "own.yaml: ignore: "),
        ("", ("--classes", "road,car,road"), "--classes: road occurs twice; name each class once"),
        (
            "",
            ("--classes", "road,car,background"),
            "--classes: background, which is class 0 by itself, occurs twice",
        ),
        ("", ("--classes", "road"), "the class 'car' is not among road"),
        ("", ("--unlabelled", "Ignored"), "expected background or ignored, got Ignored"),
    ],
)
def test_masks_whose_numbers_would_mean_something_else_are_not_drawn(
    own: str, arguments: tuple[str, ...], message: str, atrous: Run, tmp_path: Path
) -> None:
    if own:
        (tmp_path / "own.yaml").write_text(own)
    labelled = outlined(tmp_path / "labelled", "road", "car")
    done = atrous("data", "masks", labelled, "-o", tmp_path / "masks", *arguments)
    assert (done.code, message in done.err) == (2, True), done.err
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize(
    ("own", "arguments", "row"),
    [
        ("", ("--classes", "road, car"), [1, 2]),
        ("", ("--classes", "background,road,car"), [1, 2]),
        ("", ("--classes", "road,car", "--unlabelled", "ignored"), [0, 1]),
        ("classes: [_background_, road, car]", (), [1, 2]),
        ("classes: [background, road, car]", ("--classes", "road,car"), [1, 2]),
        ("classes: [road, car]", ("--unlabelled", "ignored"), [0, 1]),
        ("classes: [background, road, car]\nignore: [255, background]", (), [1, 2]),
    ],
)
def test_masks_have_the_numbers_that_the_description_says(
    own: str, arguments: tuple[str, ...], row: list[int], atrous: Run, tmp_path: Path
) -> None:
    if own:
        (tmp_path / "own.yaml").write_text(own)
    labelled = outlined(tmp_path / "labelled", "road", "car")
    done = atrous("data", "masks", labelled, "-o", tmp_path / "masks", *arguments)
    assert (done.code, done.err) == (0, "")
    mask = np.asarray(Image.open(tmp_path / "masks/0.png"))
    assert mask[4, 4::8].tolist() == row
    described = yaml.safe_load((tmp_path / "own.yaml").read_text())
    assert [described["classes"][i] for i in row] == ["road", "car"]


@pytest.mark.parametrize(
    ("masks", "seen"),
    [
        ("older", False),
        ("masks", True),
        (".", True),
        ("{split}", True),
        ("{a: older, b: masks}", True),
    ],
)
def test_masks_that_the_description_does_not_name_are_said(
    masks: str, seen: bool, atrous: Run, tmp_path: Path
) -> None:
    """Whoever looked them over, or trained, would have had the older ones."""
    masks = f"'{masks}'" if masks.startswith("{s") else masks
    (tmp_path / "own.yaml").write_text(f"classes: [background, road]\nmasks: {masks}\n")
    done = atrous(
        "data", "masks", outlined(tmp_path / "labelled", "road"), "-o", tmp_path / "masks"
    )
    assert done.code == 0
    assert ("look them over" in done.out) == seen
    said = f"names other masks, not {tmp_path / 'masks'}: change its `masks`, or describe these in"
    assert (said in " ".join(done.err.split())) != seen


def test_a_file_of_outlines_that_cannot_be_drawn_is_named(atrous: Run, tmp_path: Path) -> None:
    labelled = outlined(tmp_path / "labelled", "road")
    (labelled / "1.json").write_text("{")
    done = atrous("data", "masks", labelled, "-o", tmp_path / "masks")
    assert done.code == 1
    assert f"error: {labelled / '1.json'}: " in done.out
    assert "1 masks of background, road" in done.out
    # One picture has none to be held out.
    assert "val_share" not in yaml.safe_load((tmp_path / "own.yaml").read_text())


def test_doctor_shows_the_first_picture_that_fits_its_mask(
    atrous: Run, spec: str, tmp_path: Path
) -> None:
    masks = sorted((tmp_path / "masks/val").iterdir())
    Image.new("L", (3, 3)).save(masks[0])
    masks[1].write_bytes(b"broken")
    done = atrous("doctor", "--data", spec, "--report", tmp_path / "shown")
    assert done.code == 1
    assert f"written: {tmp_path / 'shown/6.jpg'}: 6 under its mask" in done.out
    for mask in masks[2:]:
        Image.new("L", (3, 3)).save(mask)
    done = atrous("doctor", "--data", spec, "--report", tmp_path / "none")
    assert "no picture could be shown under its mask" in done.out
    assert not (tmp_path / "none").exists()
