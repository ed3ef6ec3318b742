"""What a compile may replace, and that the old folder outlives all that goes wrong."""

import errno
import fcntl
import os
from pathlib import Path

import onnx
import pytest
from onnx import helper

from atrous import artifact, locks
from atrous.compiler.folder import FILES, check, replacing
from atrous.errors import AtrousError, ConfigError

OLD = {name: f"old {name}" for name in FILES}


def compiled(folder: Path, key: str = artifact.KEY) -> Path:
    """A folder that holds what a compile writes."""
    folder.mkdir(parents=True)
    for name, text in OLD.items():
        (folder / name).write_text(text)
    model = helper.make_model(helper.make_graph([], "empty", [], []))
    model.metadata_props.append(onnx.StringStringEntryProto(key=key, value="{}"))
    onnx.save(model, folder / "mod.onnx")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_a_compile_made_is_replaced_only_if_asked_for(tmp_path: Path) -> None:
    folder = compiled(tmp_path / "net")
    with pytest.raises(ConfigError, match=r"net exists; `force` replaces what an earlier compile"):
        check(folder, replace=False)
    with replacing(folder, replace=True) as work:
        (work / "mod.onnx").write_text("new")
        assert (folder / "resolved.yaml").read_text() == OLD["resolved.yaml"]
    assert contents(tmp_path) == {"net/mod.onnx": b"new"}


def test_a_new_or_empty_folder_needs_nothing_replaced(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, replace in (("new/net", False), ("empty", True)):
        check(tmp_path / name, replace=replace)
        with replacing(tmp_path / name, replace=replace) as work:
            (work / "mod.onnx").write_text(name)
        assert contents(tmp_path / name) == {"mod.onnx": name.encode()}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "notes.txt").write_text("mine"), "holds notes.txt, which no"),
        (lambda folder: (folder / ".git").mkdir(), "holds .git, which no compile writes"),
        (lambda folder: (folder / "resolved.yaml").unlink(), "but no resolved.yaml"),
        (lambda folder: (folder / "mod.onnx").unlink(), "but no mod.onnx"),
        (lambda folder: (folder / "mod.onnx").write_text("no model"), "without the metadata that"),
    ],
)
def test_anything_else_is_refused_and_left_alone(
    tmp_path: Path, spoil: object, reason: str
) -> None:
    folder = compiled(tmp_path / "net")
    spoil(folder)  # type: ignore[operator]
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=f"^{folder} .*{reason}.*; `force` replaces only"):
        check(folder, replace=True)
    with pytest.raises(ConfigError, match="move it away"), replacing(folder, replace=True) as work:
        (work / "mod.onnx").write_text("new")
    assert contents(tmp_path) == before
    assert folder.exists()


def test_somebody_elses_model_and_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds a mod\.onnx without the metadata"):
        check(compiled(tmp_path / "net", key="theirs"), replace=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="file is not a folder; "):
        check(tmp_path / "file", replace=True)


@pytest.mark.parametrize("earlier", [True, False])
def test_all_is_as_it_was_if_the_new_folder_cannot_be_moved(
    earlier: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "net"
    if earlier:
        compiled(folder)
    before = contents(tmp_path)
    rename = Path.rename

    def broken(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("no space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(OSError, match="no space"), replacing(folder, replace=True) as work:
        (work / "mod.onnx").write_text("new")
    assert contents(tmp_path) == before
    assert folder.exists() == earlier


def test_what_a_link_leads_to_is_replaced(tmp_path: Path) -> None:
    compiled(tmp_path / "disk" / "net")
    (tmp_path / "net").symlink_to(tmp_path / "disk" / "net")
    with replacing(tmp_path / "net", replace=True) as work:
        (work / "mod.onnx").write_text("new")
    assert (tmp_path / "net").is_symlink()
    assert contents(tmp_path / "disk") == {"net/mod.onnx": b"new"}


def test_what_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    with pytest.raises(ConfigError, match="net exists"), replacing(folder, replace=False):
        compiled(folder)
    assert len(contents(folder)) == len(FILES)


def scratch_of(folder: Path) -> Path:
    """What a compile was working in, as a killed one leaves it."""
    scratch = folder.parent / f"{locks.prefix(folder)}abcd1234"
    (scratch / "new").mkdir(parents=True)
    (scratch / "new" / "mod.onnx").write_text("half")
    return scratch


def test_what_a_killed_compile_left_is_removed_by_the_next_of_its_folder(tmp_path: Path) -> None:
    folder, other = tmp_path / "net", tmp_path / "other"
    scratch_of(folder)
    others = scratch_of(other)
    earlier, young = tmp_path / ".net.abcdefgh", tmp_path / ".net.ABCDEFGH"
    mine = tmp_path / ".net.settings"
    for path in (earlier / "new", young / "new", mine / "theirs"):
        path.mkdir(parents=True)
    for path in (earlier, mine):
        os.utime(path, (0, 0))
    with replacing(folder, replace=False) as work:
        (work / "mod.onnx").write_text("new")
    assert set(tmp_path.iterdir()) == {folder, others, young, mine}


def test_where_nobody_is_known_to_be_at_work_nothing_of_others_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system without locks, what lies there may be what another compile works in."""

    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    folder = compiled(tmp_path / "net")
    theirs = scratch_of(folder)
    with replacing(folder, replace=True) as work:
        (work / "mod.onnx").write_text("new")
    assert contents(folder) == {"mod.onnx": b"new"}
    assert contents(theirs) == {"new/mod.onnx": b"half"}


def test_a_compile_that_was_killed_between_two_names_gives_the_old_one_back(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    scratch = scratch_of(folder)
    compiled(scratch / "old")
    before = contents(scratch / "old")
    with pytest.raises(ConfigError, match="net exists; `force` replaces"):
        replacing(folder, replace=False).__enter__()
    assert contents(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_two_compiles_of_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    with replacing(folder, replace=True) as work:
        (work / "mod.onnx").write_text("first")
        with pytest.raises(AtrousError, match=r"net: process \d+ on .* works in it since"):
            replacing(folder, replace=True).__enter__()
    assert contents(folder) == {"mod.onnx": b"first"}
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
