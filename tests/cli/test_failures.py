"""One rule of exit codes: 2, the command could never have worked; 1, a part of the work failed."""

from pathlib import Path

import pytest

from atrous.cli import failures
from atrous.errors import (
    ArtifactError,
    AtrousError,
    ConfigError,
    EngineError,
    InputError,
    MissingInput,
    MissingModel,
    StreamError,
)
from tests.builders.command import Run


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ConfigError, failures.USAGE),
        (MissingInput, failures.USAGE),
        (MissingModel, failures.USAGE),
        (InputError, failures.FAILED),
        (ArtifactError, failures.FAILED),
        (EngineError, failures.FAILED),
        (StreamError, failures.FAILED),
        (AtrousError, failures.FAILED),
        (OSError, failures.FAILED),
    ],
)
def test_the_rule(kind: type[Exception], code: int) -> None:
    assert failures.exit_code(kind("why")) == code


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("predict gone.jpg -o out", 2),
        ("predict empty -o out", 2),
        ("predict gone.mp4 -o out.mp4", 2),
        ("predict broken.mp4 -o out.mp4", 1),
        ("predict broken.jpg -o out -m defautl", 2),
        ("predict broken.jpg -o out -m gone.onnx", 2),
        ("predict broken.jpg -o out -m broken.onnx", 1),
        ("predict broken.jpg -o out --cache broken.jpg", 2),
        ("predict gone.jpg -o out --tile 513", 2),
        ("bench -m defautl", 2),
        ("serve -m defautl", 2),
        ("export gone.pth -o out.onnx", 2),
        ("compile gone.yaml", 2),
        ("train gone.yaml", 2),
        ("eval --data voc:gone:val", 2),
    ],
)
def test_what_is_not_there_is_a_wrong_command(
    arguments: str,
    code: int,
    atrous: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if ".mp4" in arguments:
        pytest.importorskip("av", reason="needs the extra video")
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    for name in ("broken.jpg", "broken.mp4", "broken.onnx"):
        Path(name).write_bytes(b"broken")
    done = atrous(*arguments.split())
    assert done.code == code, done.err
    assert "error: " in done.err
