"""What is OpenVINO's own: compiled models kept, operators it lacks, and being picked."""

import errno
import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from atrous import artifact, engines
from atrous.engines import built
from atrous.engines.base import Options
from atrous.errors import EngineError
from tests.builders.sketch import Sketch

pytest.importorskip("openvino", reason="needs openvino: pip install 'atrous[openvino]'")

Model = Callable[..., onnx.ModelProto]


@pytest.fixture
def model(tmp_path: Path, small_model: Model) -> Path:
    onnx.save(small_model(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def unsupported(tmp_path: Path, small_model: Model) -> Path:
    """Adds the determinants of the pooled image, which OpenVINO cannot compute, to the logits."""
    model = small_model()
    model.graph.node[1].output[0] = "conv"
    axes = numpy_helper.from_array(np.array([2, 3]), "axes")
    model.graph.initializer.append(axes)
    for place, node in enumerate(
        [
            helper.make_node("Det", ["p"], ["det"]),
            helper.make_node("Unsqueeze", ["det", "axes"], ["dets"]),
            helper.make_node("Add", ["conv", "dets"], ["logits"]),
        ]
    ):
        model.graph.node.insert(2 + place, node)
    onnx.checker.check_model(model)
    onnx.save(model, tmp_path / "det.onnx")
    return tmp_path / "det.onnx"


def batch(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 3, 32, 32)).astype(np.float32)


@pytest.mark.heavy
def test_the_model_of_the_package_says_what_onnx_runtime_says() -> None:
    image = np.random.default_rng(0).normal(size=(1, 3, 513, 513)).astype(np.float32)
    with (
        engines.open_engine(artifact.DEFAULT, engine="openvino") as opened,
        engines.open_engine(artifact.DEFAULT, engine="onnxruntime") as other,
    ):
        assert (opened.identity, opened.metadata) == (other.identity, other.metadata)
        assert opened.signature == other.signature
        found, expected = opened.run(image), other.run(image)
    # Far under the 1e-3 of bf16, which it would choose by itself on some CPUs.
    assert np.abs(found - expected).max() < 1e-5 * np.ptp(expected)


def test_what_it_builds_is_kept_in_a_folder_of_the_model(model: Path, tmp_path: Path) -> None:
    options = Options(cache=tmp_path / "a" / "b")
    with engines.open_engine(model, engine="openvino", options=options) as opened:
        first = opened.run(batch()).copy()
        folder = tmp_path / "a" / "b" / f"openvino-{opened.identity[:16]}"
    there = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert there
    with engines.open_engine(model, engine="openvino", options=options) as opened:
        np.testing.assert_array_equal(opened.run(batch()), first)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == there


def test_a_kept_model_in_which_a_bit_has_changed_is_built_again(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = Options(cache=tmp_path / "cache")
    with engines.open_engine(model, engine="openvino", options=options) as opened:
        first = opened.run(batch()).copy()
    [path] = (tmp_path / "cache").rglob("*.built")
    whole = path.read_bytes()
    places = np.random.default_rng(0).integers(0, len(whole), 8)
    spoilt = [_flipped(whole, int(at)) for at in places]
    for content in (*spoilt, b"", b"damaged", whole[:-1], whole + b"x"):
        path.write_bytes(content)
        built.warn_once.cache_clear()
        caplog.clear()
        with engines.open_engine(model, engine="openvino", options=options) as opened:
            np.testing.assert_array_equal(opened.run(batch()), first)
        [record] = caplog.records
        assert record.getMessage() == f"{path}: damaged, and built again"
        assert path.read_bytes()[:32] == hashlib.sha256(path.read_bytes()[32:]).digest()


def _flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_what_another_version_kept_is_built_again(model: Path, tmp_path: Path) -> None:
    options = Options(cache=tmp_path / "cache")
    with engines.open_engine(model, engine="openvino", options=options) as opened:
        first = opened.run(batch()).copy()
    [path] = (tmp_path / "cache").rglob("*.built")
    path.write_bytes(hashlib.sha256(b"of another version").digest() + b"of another version")
    with engines.open_engine(model, engine="openvino", options=options) as opened:
        np.testing.assert_array_equal(opened.run(batch()), first)


@pytest.mark.parametrize("engine", ["openvino", "auto"])
def test_a_cache_that_cannot_be_used_is_said_once_and_changes_nothing(
    model: Path, tmp_path: Path, engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    def folder(options: Options) -> Path:
        with engines.open_engine(model, engine="openvino", options=options):
            return next(options.cache.iterdir())  # type: ignore[union-attr]

    blocked = tmp_path / "blocked"
    for path in folder(Options(cache=blocked)).iterdir():
        path.unlink()
        path.mkdir()
    (tmp_path / "file").touch()
    places = {Path("/proc/x"): "cannot be made", tmp_path / "file" / "x": "cannot be made"}
    places |= {blocked: "is not kept", Path("x" * 300): "cannot be made"}
    for place, said in places.items():
        built.warn_once.cache_clear()
        caplog.clear()
        options = Options(cache=place)
        for _ in range(2):
            with engines.open_engine(model, engine=engine, options=options) as opened:
                assert opened.name == "openvino"
                assert np.isfinite(opened.run(batch())).all()
        assert said in caplog.text
        warned = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert len(warned) <= (2 if place == blocked else 1)  # it is read, and written


def test_a_disk_without_room_for_it_costs_time_alone(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(built, "write_whole", full)
    built.warn_once.cache_clear()
    with engines.open_engine(model, options=Options(cache=tmp_path / "cache")) as opened:
        assert opened.name == "openvino"
    assert "what was built is not kept there: No space left on device" in caplog.text


def test_an_operator_it_lacks_is_named(unsupported: Path) -> None:
    line = r"det\.onnx: OpenVINO refuses it: [\w :]+ Det(-18)?; engine onnxruntime may run it$"
    with pytest.raises(EngineError, match=line):
        engines.open_engine(unsupported, engine="openvino")


def test_other_devices_are_left_to_onnx_runtime(model: Path) -> None:
    with pytest.raises(EngineError, match="openvino runs on cpu, not on cuda; use engine onnxrun"):
        engines.open_engine(model, engine="openvino", options=Options("cuda"))


def test_auto_takes_it_and_says_so_quietly(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "atrous"), engines.open_engine(model) as opened:
        assert opened.name == "openvino"
    [record] = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage() == f"{model}: engine openvino, which is usually the fastest on CPUs"


def test_auto_falls_back_aloud(unsupported: Path, caplog: pytest.LogCaptureFixture) -> None:
    with engines.open_engine(unsupported) as opened:
        assert opened.name == "onnxruntime"
        assert np.isfinite(opened.run(batch())).all()
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "using engine onnxruntime instead of openvino" in record.getMessage()
    assert ": Det" in record.getMessage()


def test_auto_without_it(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with caplog.at_level(logging.INFO, "atrous"), engines.open_engine(model) as opened:
        assert opened.name == "onnxruntime"
    assert "openvino, which is usually faster, is not installed" in caplog.text
    with pytest.raises(EngineError, match=r"pip install 'atrous\[openvino\]', or use engine onnxr"):
        engines.open_engine(model, engine="openvino")


def test_auto_with_a_broken_installation(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "atrous.engines.openvino", None)
    with engines.open_engine(model) as opened:
        assert opened.name == "onnxruntime"
    assert "engine openvino is installed but does not load" in caplog.text


@pytest.mark.heavy
def test_nothing_is_reported_or_left_behind(tmp_path: Path) -> None:
    """Neither runtime sends usage or writes into the home folder, and no import warns."""
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD")}
    kept.pop("ORT_DISABLE_TELEMETRY", None)
    code = (
        "import sys, numpy as np\n"
        "from atrous import engines\n"
        "for name in ('onnxruntime', 'openvino'):\n"
        "    with engines.open_engine('fast', engine=name) as opened:\n"
        "        opened.run(np.zeros((1, 3, 513, 513), np.float32))\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry.')])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={**kept, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / ".cache")},
        check=True,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("sizes", "runs_on"), [((8, 8), "onnxruntime"), ((32, 32), "openvino")])
def test_antialiasing_that_openvino_leaves_out_is_done_elsewhere(
    sizes: tuple[int, int], runs_on: str, tmp_path: Path
) -> None:
    """It shows where a map is made smaller alone."""
    sketch = Sketch()
    small = sketch.resize(sketch.input(1, 3, 16, 16), 1, 3, *sizes, antialias=1)
    model = sketch.model(sketch.conv(small, 3, 4))
    onnx.save(model, tmp_path / "antialias.onnx")
    noise = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
    expected = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    ).run(None, {"x0": noise})[0]
    with engines.open_engine(tmp_path / "antialias.onnx") as opened:
        assert opened.name == runs_on
        np.testing.assert_allclose(opened.run(noise), expected, atol=1e-4)
