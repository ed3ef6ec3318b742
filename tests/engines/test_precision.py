"""Arithmetic in bf16: asked for, never assumed; refused where it is not there."""

from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest

from atrous import artifact
from atrous.artifact import Metadata
from atrous.compiler import config as configs
from atrous.engines import open_engine
from atrous.engines import openvino as on_openvino
from atrous.engines.base import Options
from atrous.errors import ConfigError, EngineError
from atrous.labels import generic
from atrous.preprocess import Preprocess
from tests.builders.networks import make_small_model

HAS_BF16 = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
needs_bf16 = pytest.mark.skipif(not HAS_BF16, reason="this processor has no bf16")


def saved(folder: Path, arithmetic: str = "fp32") -> Path:
    path = folder / f"{arithmetic}.onnx"
    metadata = Metadata(name="small", labels=generic(3), preprocess=Preprocess(size=(32, 32)))
    artifact.save(make_small_model(), metadata.model_copy(update={"arithmetic": arithmetic}), path)
    return path


def settings(precision: str | None) -> dict[str, str]:
    return on_openvino.settings_for(Options(precision=precision))  # type: ignore[arg-type]


def test_nothing_but_a_wish_makes_it_bf16(tmp_path: Path) -> None:
    assert settings(None)["INFERENCE_PRECISION_HINT"] == "f32"
    assert settings("fp32")["INFERENCE_PRECISION_HINT"] == "f32"
    assert settings("bf16")["INFERENCE_PRECISION_HINT"] == "bf16"
    with open_engine(saved(tmp_path)) as engine:
        assert (engine.arithmetic, engine.title) == ("fp32", "openvino")


@needs_bf16
@pytest.mark.parametrize("asked", ["by the model", "by an option"])
def test_computed_in_bf16_and_told_apart(asked: str, tmp_path: Path) -> None:
    plain = saved(tmp_path)
    by_option = asked == "by an option"
    path = plain if by_option else saved(tmp_path, "bf16")
    batch = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    with (
        open_engine(plain) as exact,
        open_engine(path, options=Options(precision="bf16" if by_option else None)) as rounded,
    ):
        assert (rounded.arithmetic, rounded.title) == ("bf16", "openvino in bf16")
        assert rounded.identity != exact.identity
        wanted, found = exact.run(batch).copy(), rounded.run(batch)
    assert 0 < np.abs(found - wanted).max() < 0.02 * np.ptp(wanted)


@needs_bf16
def test_an_option_undoes_what_the_model_asks_for(tmp_path: Path) -> None:
    path = saved(tmp_path, "bf16")
    with open_engine(path, options=Options(precision="fp32")) as engine:
        assert engine.arithmetic == "fp32"
    with open_engine(path, engine="onnxruntime", options=Options(precision="fp32")) as engine:
        assert engine.name == "onnxruntime"


@pytest.mark.parametrize("engine", ["auto", "openvino"])
def test_a_processor_without_it(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In silence it would be slower there, or fp32."""
    monkeypatch.setattr(ov.Core, "get_property", lambda *_: ["FP32", "INT8"])
    with pytest.raises(EngineError, match=r"no instructions for bf16 .* use `precision` fp32"):
        open_engine(saved(tmp_path, "bf16"), engine=engine)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_engines_without_it(device: str, tmp_path: Path) -> None:
    options = Options(device=device)  # type: ignore[arg-type]
    engine = "onnxruntime" if device == "cpu" else "auto"
    with pytest.raises(EngineError, match=r"onnxruntime does not compute in bf16|openvino runs on"):
        open_engine(saved(tmp_path, "bf16"), engine=engine, options=options)


def test_a_compile_file_for_another_engine(tmp_path: Path) -> None:
    onnx.save(make_small_model(), tmp_path / "m.onnx")
    (tmp_path / "c.yaml").write_text(
        "name: x\nfrontend: {type: onnx, checkpoint: m.onnx}\n"
        "backend: {precision: bf16, engine: onnxruntime}\n"
    )
    with pytest.raises(ConfigError, match="bf16 is computed by engine openvino, found engine onnx"):
        configs.load(tmp_path / "c.yaml")
