"""Layers return to float, the worst first, until int8 loses no more than it may."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import yaml
from PIL import Image

from atrous import artifact
from atrous.artifact import Calibration
from atrous.compiler import config as configs
from atrous.compiler.build import build
from atrous.compiler.config import CompileConfig
from atrous.compiler.form import Form
from atrous.compiler.graph.graph import Graph
from atrous.compiler.int8 import budget, noise, qdq
from atrous.compiler.int8.plan import Prepared
from atrous.compiler.progress import silent
from atrous.compiler.report.report import CompileReport
from atrous.data.synthetic import NAMES, draw
from atrous.errors import ConfigError
from atrous.preprocess import Preprocess
from tests.builders.sketch import Array, Sketch, feeds, spans
from tests.builders.told import Told

SIDE = 33
FORM = Form(int8_outputs=True)


def prepared(layers: int = 6, kept: tuple[str, ...] = ()) -> Prepared:
    """A chain of convolutions `c0`, `c1`, …, of which the later ones read wider ranges."""
    draft = Sketch()
    x = draft.input(1, 4, 8, 8)
    for number in range(layers):
        x = draft.node("Sigmoid", draft.conv(x, 4, 4, name=f"layer{number}"))
    model = draft.model(x, rank=4)
    graph = Graph(model)
    found = tuple(qdq.layers(graph))
    ranges = spans(model)
    for number, layer in enumerate(found):
        ranges[layer.source] = (-(2.0**number), 2.0**number)
    inputs = tuple(feeds(model).values())
    return Prepared(
        model=model,
        layers=found,
        spans=ranges,
        means={},
        noise=noise.local(graph, found, ranges, inputs, FORM),
        kept=dict.fromkeys(kept, "told"),
        calibration=Calibration(method="max", images=("a",)),
        unreadable=(),
        inputs=inputs,
        form=FORM,
    )


def in_float(model: onnx.ModelProto) -> set[str]:
    """The layers of `prepared` that are not int8."""
    graph = Graph(model)
    return {
        str(node.output[0])
        for node in graph.nodes
        if node.op_type == "Conv" and graph.constant(node.input[1]) is not None
    }


def fixed(found: float, model: onnx.ModelProto) -> float:
    return found


def test_the_worst_come_first() -> None:
    said = Told()
    ranked = budget.rank(prepared(kept=("layer4",)), said)
    # By what it does to the logits: the last layers, with their wide ranges.
    assert [layer.name for layer in ranked][:2] == ["layer5", "layer3"]
    assert "layer4" not in [layer.name for layer in ranked]
    assert said[-1] == "ranking layers: 5 of 5"


def test_only_the_noisiest_are_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "RANKED", 2)
    assert [layer.name for layer in budget.rank(prepared(), silent)] == ["layer5", "layer4"]


def test_a_budget_that_holds_costs_one_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*arguments: object) -> None:
        raise AssertionError("ranked")

    monkeypatch.setattr(budget, "rank", no)
    for found in (69.75, 70.0, 71.0):
        steps = budget.hold(
            prepared(), max_drop=0.25, reference=70, score=partial(fixed, found), tell=silent
        )
        assert [(step.floats, step.drop) for step in steps] == [((), 70 - found)]


@pytest.mark.parametrize(
    ("needed", "tried"),
    [
        (1, [0, 1]),
        (2, [0, 1, 2]),
        (3, [0, 1, 2, 4, 3]),
        (4, [0, 1, 2, 4, 3]),
        (5, [0, 1, 2, 4, 6, 5]),
        (6, [0, 1, 2, 4, 6, 5]),
    ],
)
def test_no_more_layers_than_needed(needed: int, tried: list[int]) -> None:
    seen: list[set[str]] = []

    def score(model: onnx.ModelProto) -> float:
        seen.append(in_float(model))
        return 70 - max(0, needed - len(seen[-1]))

    said = Told()
    steps = budget.hold(prepared(), max_drop=0, reference=70, score=score, tell=said)
    assert [len(floats) for floats in seen] == tried
    assert {frozenset(step.floats) for step in steps} == {frozenset(floats) for floats in seen}
    assert all(step.drop == max(0, needed - len(step.floats)) for step in steps)
    failed = [step for step in steps if step.drop > 0]
    assert steps[: len(failed)] == failed
    assert len(steps[-1].floats) == needed
    assert set(steps[0].floats) < set(steps[-1].floats)
    assert said[-1] == f"{tried[-1]} layer{'s' * (tried[-1] != 1)} back to float"


@pytest.mark.parametrize("found", [60.0, float("nan")])
def test_what_cannot_be_held(found: float) -> None:
    with pytest.raises(ConfigError) as caught:
        budget.hold(prepared(), max_drop=0.5, reference=70, score=lambda model: found, tell=silent)
    lost = "nan" if np.isnan(found) else "10.00"
    assert str(caught.value) == (
        "backend.quantize.max_drop: 0.5 points cannot be held: with the 6 worst layers in float "
        f"int8 still loses {lost}; allow more, or compile to fp16"
    )


def test_without_layers_to_return() -> None:
    everything = tuple(f"layer{number}" for number in range(6))
    with pytest.raises(
        ConfigError, match=r"with the 0 worst layers in float int8 still loses 1\.00"
    ):
        budget.hold(
            prepared(kept=everything), max_drop=0, reference=70, score=lambda m: 69, tell=silent
        )


def shades(weight: Array, images: int = 6) -> tuple[Array, Array]:
    """Features and classes of the pixels that `tinted` sees, after its first layer."""
    preprocess = Preprocess(size=(SIDE, SIDE))
    features, classes = [], []
    for number in range(images):
        image, label = draw(0, number)
        pixels = preprocess(image).reshape(3, -1)
        small = cv2.resize(label, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST).reshape(-1)
        seen = small < len(NAMES)
        features.append(np.maximum(weight @ pixels, 0)[:, seen])
        classes.append(small[seen])
    return np.concatenate(features, axis=1), np.concatenate(classes)


def tinted(path: Path, outlier: float) -> Path:
    """A network that tells the shapes of the synthetic set by their colours.

    One channel between the layers `before` and `hurt` is `outlier` times as large as the others.
    A layer `faint` hardly counts.
    """
    random = np.random.default_rng(0)
    first = random.normal(size=(8, 3))
    features, classes = shades(first)
    stacked = np.concatenate([features, np.ones((1, features.shape[1]))])
    fitted = np.linalg.lstsq(stacked.T, np.eye(len(NAMES))[classes], rcond=None)[0].T
    turn = np.linalg.qr(random.normal(size=(8, 8)))[0]
    scale = np.ones(8)
    scale[2] = outlier
    draft = Sketch()

    def conv(x: str, weight: Array, name: str, bias: Array | None = None) -> str:
        more = [] if bias is None else [draft.constant(bias)]
        return draft.node("Conv", x, draft.constant(weight[:, :, None, None]), *more, name=name)

    x = draft.input(1, 3, SIDE, SIDE, name="input")
    x = draft.node("Relu", conv(x, first, "first"))
    faint = conv(x, random.normal(size=(5, 8)), "faint")
    x = conv(x, scale[:, None] * turn, "before")
    x = conv(x, 10 * fitted[:, :8] @ turn.T / scale, "hurt", 10 * fitted[:, 8])
    x = draft.node("Add", x, draft.node("Mul", faint, draft.constant(np.float32(1e-4))))
    x = conv(x, np.eye(5), "head")
    onnx.save(draft.model(draft.resize(x, 1, 5, SIDE, SIDE, name="output"), rank=4), path)
    return path


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CompileConfig]:
    """A compile file for `tinted` with one channel that is 3000 times the others."""
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(noise, "LOUD", -np.inf)  # it would find the layer without a budget
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        Image.fromarray(draw(0, number)[0]).save(folder / f"train{number}.png")
    content = {
        "name": "net",
        "frontend": {"checkpoint": str(tinted(tmp_path / "tinted.onnx", 3000))},
        "backend": {
            "dtype": "int8",
            "engine": "onnxruntime",
            "quantize": {"calibrate_mode": "max", "weight_bits": 7},
        },
        "dataset": {"path": str(folder)},
        "evaluate": {"data": "synthetic:0:6", "protocol": f"squash-{SIDE}"},
        "workspace": {"path": str(tmp_path / "out")},
    }
    file = tmp_path / "compile.yaml"
    file.write_text(yaml.safe_dump(content))
    return lambda *overrides: configs.load(file, overrides)


@pytest.mark.heavy
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_layer_behind_an_outlier_is_found(
    config: Callable[..., CompileConfig], tmp_path: Path, engine: str
) -> None:
    pytest.importorskip(engine)
    done = config("backend.quantize.max_drop=0.5", f"backend.engine={engine}")
    report = build(done, profiled=False)
    assert report.int8 is not None
    assert report.int8.returned == ("hurt",)
    first, last = report.int8.attempts
    assert (first.floats, last.floats) == ((), ("hurt",))
    assert first.drop > 5
    assert last.drop <= 0.5
    assert "hurt" not in report.int8.kept
    feeding = "a layer in float reads it" if engine == "onnxruntime" else None
    assert report.int8.kept.get("before") == feeding
    assert report.int8.layers == (1 if feeding else 3)  # there the head is int8, too
    assert next(iter(report.int8.noise)) == "hurt"
    text = "\n".join(report.lines())
    assert f"returned to float: hurt; drop {first.drop:.2f} → {last.drop:.2f} points" in text
    assert [stage.name for stage in report.stages] == ["input", "rewritten", "fp16", "int8"]
    assert report.stages[0].mean_iou > 25
    assert CompileReport.load(tmp_path / "out/net") == report

    resolved = tmp_path / "out/net/resolved.yaml"
    again = configs.load(resolved, [f"workspace.path={tmp_path / 'again'}"])
    assert again.backend.quantize.exclude_layers == ("hurt",)
    repeated = build(again, profiled=False)
    assert repeated.int8 is not None
    assert repeated.int8.kept["hurt"] == "exclude_layers"
    assert len(repeated.int8.attempts) == 1
    assert repeated.int8.returned == ()
    one, two = (artifact.load(tmp_path / where / "net/mod.onnx") for where in ("out", "again"))
    assert one.graph.SerializeToString() == two.graph.SerializeToString()


def test_the_automatic_rule_needs_no_budget(
    config: Callable[..., CompileConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    report = build(config("evaluate=null"), profiled=False)
    assert report.int8 is not None
    assert "hurt" in report.int8.kept
    assert not report.int8.attempts


def test_a_model_is_measured_once(config: Callable[..., CompileConfig]) -> None:
    said = Told()
    report = build(config("backend.quantize.max_drop=100"), profiled=False, tell=said)
    drop = report.stages[0].mean_iou - report.stages[-1].mean_iou
    assert report.int8.attempts[-1].drop == pytest.approx(drop)
    assert any(step.startswith("evaluating trying int8") for step in said)
    assert not any(step.startswith("evaluating int8") for step in said)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["backend.quantize.max_drop=0", "evaluate.protocol=squash-33"], ""),
        (
            ["backend.quantize.skip_conv_layers=[0,1,2,3]"],
            "backend.dtype: int8, but all 5 layers stay in float; compile to fp16",
        ),
        (["backend.quantize.max_drop=0.05", "evaluate=null"], "backend.quantize.max_drop: needs e"),
    ],
)
def test_errors_leave_nothing(
    config: Callable[..., CompileConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    message: str,
) -> None:
    if not message:
        monkeypatch.setattr(budget, "RANKED", 0)
        message = "backend.quantize.max_drop: 0.0 points cannot be held"
    with pytest.raises(ConfigError) as caught:
        build(config(*overrides), profiled=False)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").rglob("*"))
