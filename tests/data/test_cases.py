"""Data sets from the field come out right, or are refused with what helps."""

from pathlib import Path

import pytest

from atrous.data import open_dataset
from atrous.data.doctor import DataReport, examine
from atrous.errors import ConfigError
from tests.builders.cases import Cases, expected


def look(folder: Path) -> DataReport:
    return examine(open_dataset(f"folder:{folder / 'own.yaml'}:all"))


def shares(report: DataReport) -> dict[str, float]:
    return {one.name: round(100 * one.share, 2) for one in report.classes}


def test_0_and_255_are_two_classes(cases: Cases, caplog: pytest.LogCaptureFixture) -> None:
    folder = cases("masks")
    report = look(folder / "zero_and_255")
    assert (report.healthy, report.ignored, report.findings) == (True, 0, ())
    assert shares(report)["road"] == expected(folder)["zero_and_255/own.yaml"]["road"]
    assert "values: {0: ground, 255: road}" in caplog.text


def test_palettes_are_read_by_colour(cases: Cases) -> None:
    assert shares(look(cases("masks") / "palette_order"))["road"] == 37.5


@pytest.mark.parametrize("name", ["one_folder", "mask_suffix"])
def test_masks_with_a_suffix(name: str, cases: Cases, tmp_path: Path) -> None:
    folder = cases("masks") / name
    with pytest.raises(ConfigError, match="write mask_suffix: _mask"):
        look(folder)
    described = (folder / "own.yaml").read_text() + "mask_suffix: _mask\n"
    own = tmp_path / "own.yaml"
    own.write_text(described)
    for part in ("train", "images", "masks"):
        if (folder / part).is_dir():
            (tmp_path / part).symlink_to(folder / part)
    report = look(tmp_path)
    assert (report.samples, report.healthy, shares(report)["road"]) == (3, True, 37.5)


def test_0_that_is_not_labelled(cases: Cases, tmp_path: Path) -> None:
    folder = cases("masks") / "zero_unlabelled"
    with pytest.raises(ConfigError, match=r"write ignore: \[0\] instead"):
        look(folder)
    described = (folder / "own.yaml").read_text().replace("ignore_index: 0", "ignore: [0]")
    (tmp_path / "own.yaml").write_text(described)
    for part in ("images", "masks"):
        (tmp_path / part).symlink_to(folder / part)
    right = expected(cases("masks"))["zero_unlabelled/own.yaml"]
    report = look(tmp_path)
    assert (report.healthy, round(100 * report.ignored, 2)) == (True, right["ignored"])
    assert shares(report) == {name: right[name] for name in "abc"}
