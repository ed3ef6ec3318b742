"""Two models of one network: layers with noise computed by hand, images, pages, and refusals."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous import artifact, labels
from atrous.artifact import Metadata
from atrous.compiler.explain import layers as explain_layers
from atrous.compiler.explain import page as explain_page
from atrous.compiler.explain.explain import explain
from atrous.compiler.explain.explanation import Explanation, Seen, Side
from atrous.compiler.explain.layers import Common, LayerNoise, common, layers, measure
from atrous.errors import ArtifactError, ConfigError, EngineError, InputError
from atrous.exporters.half import store_half
from atrous.image import photograph
from atrous.preprocess import Preprocess
from tests.builders.html import Page
from tests.builders.sketch import Sketch
from tests.builders.told import Told

SIDE = 16
CLASSES = 4
LABELS = labels.LabelSet("four", tuple(f"<{n}>" for n in "abcd"), ((0, 0, 0),) * 4)

Write = Callable[..., Path]


def net(
    scale: float = 1.0, *, quantised: bool = False, side: int = SIDE, classes: int = CLASSES
) -> onnx.ModelProto:
    """Convolution and ReLU, a second convolution scaled by `scale`, a resize."""
    draft = Sketch()
    x = draft.input(1, 3, side, side, name="input")
    first = draft.node("Conv", x, draft.constant(np.eye(3)[:, :, None, None], "stem.weight"))
    relu = draft.node("Relu", first, name="relu")
    if quantised:
        settings = draft.constant(0.02), draft.constant(0, dtype=np.uint8)
        stored = draft.node("QuantizeLinear", relu, *settings)
        relu = draft.node("DequantizeLinear", stored, *settings)
    weight = np.random.default_rng(0).normal(size=(classes, 3, 1, 1)) * scale
    grid = draft.node(
        "Conv", relu, draft.constant(weight, "head.weight"), name="grid", strides=[2, 2]
    )
    return draft.model(draft.resize(grid, 1, classes, side, side, name="output"), rank=4)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a model as an artefact, or without metadata."""

    def made(name: str, model: onnx.ModelProto, known: bool = True, **more: Any) -> Path:
        path = tmp_path / f"{name}.onnx"
        if not known:
            onnx.save(model, path)
            return path
        side = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value
        values: dict[str, Any] = {
            "name": name,
            "labels": LABELS,
            "preprocess": Preprocess(size=(side, side)),
        }
        artifact.save(model, Metadata(**(values | more)), path)
        return path

    return made


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Eight photographs, each a little brighter than the one before."""
    folder = tmp_path / "images"
    folder.mkdir()
    paths = [folder / f"{number}.png" for number in range(8)]
    for number, path in enumerate(paths):
        Image.fromarray(photograph() // 2 + 10 * np.uint8(number)).save(path)
    return paths


def ratios(
    before: onnx.ModelProto, after: onnx.ModelProto, *values: NDArray[np.float32]
) -> dict[str, float]:
    def inputs(index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return values[index], values[index]

    return measure(before, after, common(before, after), inputs, len(values), lambda step: None)


def scaled(factor: float, offset: float = 0.0) -> onnx.ModelProto:
    draft = Sketch()
    x = draft.input(1, 2, 2, 2)
    by = draft.constant(np.full((1, 2, 1, 1), factor))
    made = draft.node("Mul", x, by, name="made")
    return draft.model(
        draft.node("Add", made, draft.constant(np.full((1, 1, 1, 1), float(offset))), name="end")
    )


SWING = np.array([[[[1, -1], [1, -1]], [[2, -2], [-2, 2]]]], np.float32)
"""No channel has a mean; the mean square is 2.5."""


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (scaled(1.0), math.inf),
        (scaled(1.1), 20.0),
        (scaled(1.01), 40.0),
        (scaled(2.0), 0.0),
        (scaled(11.0), -20.0),
    ],
)
def test_noise_over_signal_by_hand(after: onnx.ModelProto, expected: float) -> None:
    found = ratios(scaled(1.0), after, SWING, 3 * SWING)
    assert found["made"] == found["end"] == pytest.approx(expected, abs=1e-3)


def test_the_mean_of_a_channel_is_no_signal() -> None:
    found = ratios(scaled(1.0, 100), scaled(1.0, 100.5), SWING)
    assert found["made"] == math.inf
    assert found["end"] == pytest.approx(10 * math.log10(2.5 / 0.25))
    constant = ratios(scaled(1.0), scaled(2.0), np.ones_like(SWING))
    assert constant["made"] == -math.inf
    assert layers(scaled(1.0), constant) == ()


def test_a_vector_varies_over_its_channels() -> None:
    draft = Sketch()
    draft.node("GlobalAveragePool", draft.input(1, 2, 2, 2), name="mean")
    model = draft.model("mean")
    other = Sketch()
    x = other.node("Mul", other.input(1, 2, 2, 2), other.constant(1.1))
    other.node("GlobalAveragePool", x, name="mean")
    value = np.array([1, -1], np.float32)[None, :, None, None] * np.ones_like(SWING)
    assert ratios(model, other.model("mean"), value)["mean"] == pytest.approx(20, abs=1e-3)


def test_tensors_that_cannot_be_subtracted_are_left_out() -> None:
    def made(kind: str, size: int) -> onnx.ModelProto:
        draft = Sketch()
        x = draft.input(1, 2, 4, 4)
        draft.node("AveragePool", x, name="pool", kernel_shape=[size] * 2, strides=[size] * 2)
        draft.node(kind, x, name="text")
        y = draft.node("Cast", draft.node("Shape", "pool", name="shape"), to=1)
        return draft.model(draft.node("ReduceSum", y, name="end"), "pool", "text")

    values = np.ones((1, 2, 4, 4), np.float32)
    same = {"pool", "end"}
    assert ratios(made("IsNaN", 2), made("IsNaN", 2), values).keys() == same
    assert ratios(made("IsNaN", 2), made("IsNaN", 4), values).keys() == {"end"}


def test_the_names_of_moved_values_do_not_count() -> None:
    draft = Sketch()
    x = draft.node("Relu", draft.input(1, 2, 4, 4), name="relu")
    x = draft.node("Concat", x, x, name="both", axis=1)
    model = draft.model(draft.resize(x, 1, 4, 8, 8, name="end"))
    assert common(model, model) == [Common("relu", "relu", "relu")]


def test_a_quantised_tensor_is_what_its_readers_see() -> None:
    """The quantiser takes a ReLU out, as its range does the same."""
    draft = Sketch()
    x = draft.input(1, 2, 2, 2)
    draft.node("Relu", draft.node("Mul", x, draft.constant(1.0)), name="relu")
    float_model = draft.model("relu")
    draft = Sketch()
    x = draft.node("Mul", draft.input(1, 2, 2, 2), draft.constant(1.0), name="relu")
    settings = draft.constant(0.01), draft.constant(0, dtype=np.uint8)
    stored = draft.node("QuantizeLinear", x, *settings, name="stored")
    model = draft.model(draft.node("DequantizeLinear", stored, *settings, name="back"))
    assert common(float_model, model) == [Common("relu", "relu", "back")]
    assert ratios(float_model, model, SWING)["relu"] == math.inf


def test_a_tensor_that_layers_read_in_bytes_is_seen_as_it_is() -> None:
    """Nothing makes floats of the bytes again, nor is a scale what a quantiser quantises."""
    draft = Sketch()
    x = draft.node("Relu", draft.input(1, 2, 2, 2), name="relu")
    scale = draft.node("ReduceMax", x, keepdims=0, name="scale")
    stored = draft.node("QuantizeLinear", x, scale, draft.constant(0, dtype=np.uint8))
    product = draft.node("MatMulInteger", stored, stored, name="product")
    model = draft.model(draft.node("Cast", product, to=1))
    names = ("relu", "scale", "product")
    assert common(model, model) == [Common(name, name, name) for name in names]


def test_layers_lose_against_the_noisiest_that_they_read() -> None:
    draft = Sketch()
    x = draft.input(1, 3, 4, 4)
    weight = draft.weight(3, 3, 1, 1, name="stem.weight")
    left = draft.node("Relu", draft.node("Conv", x, weight, name="stem"), name="left")
    right = draft.node("Sigmoid", x, name="right")
    both = draft.resize(draft.node("Concat", left, right, axis=1, name="both"), 1, 6, 8, 8)
    end = draft.node("Conv", both, draft.weight(2, 6, 1, 1, name="head.weight"), name="end")
    model = draft.model(draft.node("Neg", end, name="last"))
    known = {"stem": math.inf, "left": 90.0, "right": 30.0, "end": 25.0, "last": 28.126}
    assert layers(model, known) == (
        LayerNoise(
            tensor="stem",
            name="stem",
            excluded_as="stem",
            operator="Conv",
            decibels=None,
            lost=0,
        ),
        LayerNoise(
            tensor="left",
            name="stem",
            excluded_as="stem",
            operator="Conv, Relu",
            decibels=90,
            lost=0,
        ),
        LayerNoise(tensor="right", name="right", operator="Sigmoid", decibels=30, lost=10),
        LayerNoise(
            tensor="end", name="head", excluded_as="end", operator="Conv", decibels=25, lost=5
        ),
        LayerNoise(tensor="last", name="last", operator="Neg", decibels=28.13, lost=0),
    )


def test_tensors_are_taken_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).normal(size=(1, 3, SIDE, SIDE)).astype(np.float32)
    whole = ratios(net(), net(1.1, quantised=True), values, -values)
    assert whole.keys() == {"conv0", "relu", "grid"}
    monkeypatch.setattr(explain_layers, "_MEMORY", 0)
    assert ratios(net(), net(1.1, quantised=True), values, -values) == whole


def test_a_model_that_the_runtime_refuses() -> None:
    draft = Sketch()
    draft.node("Unheard", draft.input(1, 2, 2, 2), name="made")
    with pytest.raises(EngineError, match="measuring layers: ONNX Runtime refuses it: "):
        ratios(draft.model("made", rank=4), draft.model("made", rank=4), SWING)


def test_numbers_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(InputError, match="made: not finite in the second model"):
        ratios(scaled(1.0), scaled(math.inf), SWING)


@pytest.mark.heavy
def test_a_pair(write: Write, images: list[Path]) -> None:
    before, after = write("float", net()), write("int8", net(quantised=True), precision="int8")
    steps = Told()
    found = explain(before, after, images, engine="onnxruntime", tell=steps)
    assert [(layer.tensor, layer.name) for layer in found.layers] == [
        ("conv0", "stem"),
        ("relu", "stem"),
        ("grid", "head"),
    ]
    exact, relu, grid = found.layers
    assert exact.decibels is None
    assert relu.decibels is not None
    # Rounding to steps of 0.02 makes noise of 0.02² / 12.
    assert 30 < relu.decibels < 60
    assert grid.decibels is not None
    assert grid.decibels < 60
    assert 0.9 < found.agreement < 1
    assert found.agreement == pytest.approx(np.mean([one.agreement for one in found.images]))
    assert [one.image for one in found.images] == [path.name for path in images]
    shown = [seen.agreement for seen, _ in found.pictures]
    assert len(shown) == 6
    assert shown == sorted(one.agreement for one in found.images)[:6]
    assert all(list(one) == ["image", "before", "after", "difference"] for _, one in found.pictures)
    assert (found.engine, found.measured) == ("onnxruntime", 8)
    assert (found.after.name, found.after.precision) == ("int8", "int8")
    assert found.before.identity != found.after.identity
    assert found.notes == found.unreadable == ()
    assert steps[:2] == ["reading", "comparing class maps: 1 of 8"]
    assert steps[-1] == "measuring layers: 8 of 8"


def test_the_pictures_that_differ_most_are_shown_in_whatever_order_they_come(
    write: Write, images: list[Path]
) -> None:
    before, after = write("float", net()), write("int8", net(quantised=True))
    found = explain(before, after, images[::-1], engine="onnxruntime")
    worst = sorted(found.images, key=lambda one: one.agreement)[:6]
    assert [seen for seen, _ in found.pictures] == worst


def test_float_and_fp16(write: Write) -> None:
    """Also without images, on the photograph in the package."""
    found = explain(write("float", net()), write("fp16", store_half(net())), engine="onnxruntime")
    assert [one.image for one in found.images] == ["photograph.jpg"]
    assert found.agreement > 0.999
    assert all(layer.lost == 0 for layer in found.layers)
    assert "no layer falls below 40 dB" in found.lines()


def test_a_model_and_itself(write: Write) -> None:
    path = write("float", net())
    found = explain(path, path, engine="onnxruntime")
    assert found.agreement == 1
    assert [layer.shown for layer in found.layers] == ["exact"] * 3
    assert found.images == (Seen(image="photograph.jpg", agreement=1.0, change=""),)


def test_the_commonest_change_of_class(write: Write) -> None:
    before, after = (write(f"{one}", shifted(one)) for one in (1, 2))
    [seen] = explain(before, after, engine="onnxruntime").images
    assert seen == Seen(image="photograph.jpg", agreement=0, change="<b> → <c>")


def shifted(winner: int) -> onnx.ModelProto:
    """The network of `net` with a class that always wins."""
    model = net()
    grid = next(node for node in model.graph.node if node.output[0] == "grid")
    grid.input.append("bias")
    bias = np.float32(1000) * np.eye(CLASSES, dtype=np.float32)[winner]
    model.graph.initializer.append(onnx.numpy_helper.from_array(bias, "bias"))
    return model


def test_uint8_input_counts_as_the_same_network(write: Write) -> None:
    draft = Sketch()
    x = draft.node("Cast", draft.input(1, 3, SIDE, SIDE, dtype=2, name="input"), to=1)
    x = draft.node("Mul", x, draft.constant(1 / 255), name="scaled")
    eye = draft.constant(np.eye(3)[:, :, None, None])
    grid = draft.node("Conv", x, eye, name="conv0")
    bytes_model = draft.model(draft.resize(grid, 1, 3, 32, 32, name="output"), rank=4)
    draft = Sketch()
    grid = draft.node(
        "Conv",
        draft.input(1, 3, SIDE, SIDE, name="input"),
        draft.constant(np.eye(3)[:, :, None, None]),
        name="conv0",
    )
    float_model = draft.model(draft.resize(grid, 1, 3, 32, 32, name="output"), rank=4)
    size = (SIDE, SIDE)
    three = labels.generic(3)
    before = write(
        "float", float_model, labels=three, preprocess=Preprocess(size=size, normalisation="div255")
    )
    after = write(
        "bytes", bytes_model, labels=three, preprocess=Preprocess(size=size, normalisation="none")
    )
    [layer] = explain(before, after, engine="onnxruntime").layers
    assert layer.decibels is None or layer.decibels > 100


@pytest.mark.parametrize("first", [True, False])
def test_what_one_does_not_say_the_other_does(
    write: Write, first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    known = Preprocess(size=(SIDE, SIDE), fit="crop")
    before = write("one", net(), known=first, preprocess=known)
    after = write("two", net(), known=not first, preprocess=known)
    assert explain(before, after, engine="onnxruntime").agreement == 1
    assert not caplog.records


def test_unreadable_images_are_left_out(write: Write, images: list[Path]) -> None:
    path = write("float", net())
    images[1].write_bytes(b"")
    found = explain(path, path, images[:3], engine="onnxruntime")
    assert [one.image for one in found.images] == ["0.png", "2.png"]
    assert found.unreadable == (f"{images[1]}: the file is empty",)
    assert found.lines()[-1] == f"left out: {images[1]}: the file is empty"
    with pytest.raises(InputError, match=r"none of 1 images can be read: .*: the file is empty"):
        explain(path, path, images[1:2], engine="onnxruntime")


def test_other_sources_are_noted_where_the_classes_differ(write: Write) -> None:
    first, second = ({"weights_sha256": letter * 64} for letter in "ab")
    before, same = write("one", shifted(1), **first), write("two", shifted(1), **second)
    assert explain(before, same, engine="onnxruntime").notes == ()
    other = write("three", shifted(2), **second)
    [note] = explain(before, other, engine="onnxruntime").notes
    assert note.startswith(f"made from two files, {'a' * 12}… and {'b' * 12}…: ")
    assert explain(before, write("four", shifted(2), **first), engine="onnxruntime").notes == ()


def test_pairs_that_cannot_be_compared(write: Write, tmp_path: Path) -> None:
    plain = write("plain", net())
    draft = Sketch()
    other = draft.conv(draft.input(1, 3, SIDE, SIDE, name="input"), 3, CLASSES)
    stranger = draft.model(draft.resize(other, 1, CLASSES, 32, 32, name="end"), rank=4)
    crop = Preprocess(size=(SIDE, SIDE), fit="crop")
    pairs = {
        r"cannot be compared: input size \(16, 16\) and \(32, 32\)": write("large", net(side=32)),
        "cannot be compared: number of classes 4 and 5": write(
            "five", net(classes=5), labels=labels.generic(5)
        ),
        "cannot be compared: fit squash and crop": write("crop", net(), preprocess=crop),
        "share no tensor and are not two forms of one network": write("stranger", stranger),
        "net.pth: expected an ONNX file; atrous export makes one": tmp_path / "net.pth",
    }
    for message, path in pairs.items():
        with pytest.raises(ConfigError, match=message):
            explain(plain, path, engine="onnxruntime")
    with pytest.raises(ArtifactError, match="no such file"):
        explain(tmp_path / "none.onnx", plain)


def made(**more: Any) -> Explanation:
    values: dict[str, Any] = {
        "before": Side(
            file="a/float.onnx", name="n<et", precision="fp32", identity="f00", bytes=2_000_000
        ),
        "after": Side(file="b/mod.onnx", name="", precision="", identity="f01", bytes=500_000),
        "engine": "openvino",
        "engine_version": "2026.1",
        "agreement": 0.985,
        "images": (
            Seen(image="x<1>.jpg", agreement=0.99, change="cat → dog"),
            Seen(image="y.jpg", agreement=0.98, change="dog → <cat>"),
        ),
        "measured": 2,
        "layers": (
            LayerNoise(tensor="t0", name="stem", operator="Conv", decibels=None, lost=0),
            LayerNoise(tensor="t1", name="<mid>", operator="Conv, Relu", decibels=31.25, lost=8.75),
            LayerNoise(tensor="t2", name="end", operator="Conv", decibels=22.3, lost=8.95),
        ),
    }
    return Explanation(**(values | more))


def test_the_terminal() -> None:
    assert made().lines() == [
        "a/float.onnx → b/mod.onnx",
        "same class on 98.5000 % of the pixels of 2 images (openvino), least on y.jpg: 98.0000 %",
        "common layers: 3, the last at 22.3 dB",
        "  end loses 8.9 dB, down to 22.3 dB",
        "  <mid> loses 8.8 dB, down to 31.2 dB",
    ]


def test_the_page_and_the_file(tmp_path: Path) -> None:
    figures = dict.fromkeys(("image", "before"), "data:image/jpeg;base64,AA")
    one = made(notes=("made <somewhere>",), unreadable=("z.jpg: empty",))
    shown = one.model_copy(update={"pictures": ((one.images[1], figures),)})
    explain_page.save(shown, tmp_path / "new")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["explain.html", "explain.json"]
    stored = json.loads((tmp_path / "new/explain.json").read_text())
    assert Explanation.model_validate(stored) == one
    assert stored["layers"][0]["decibels"] is None
    page = Page((tmp_path / "new/explain.html").read_text(encoding="utf-8"))
    assert page.headings == [
        "Signal to noise along the network, dB",
        "Layers that lose most",
        "Images that differ most",
        "Every layer",
        "What was compared",
    ]
    assert (page.tags["img"], page.tags["circle"]) == (2, 3)
    for text in (
        "n<et (fp32) → b/mod.onnx",
        "98.5000 %",
        "made <somewhere>",
        "left out: z.jpg: empty",
        "<mid> (Conv, Relu t1): 31.2 dB, loses 8.8 dB",
        "mostly dog → <cat>",
        "≥",
        "-8.9 dB",
        "openvino 2026.1, 2 images",
    ):
        assert text in page.text, text
    assert page.text.count("-8.8 dB") == 1
    assert page.text.count("-8.9 dB") == 2  # also among the numbers on top


@pytest.mark.parametrize(
    "decibels", [(None, None), (120.0, 118.0), (-3.0, -25.0), (30.0, 30.0)], ids=str
)
def test_a_chart_of_anything(decibels: tuple[float | None, ...], tmp_path: Path) -> None:
    """Also of a network that is exact, nearly exact, destroyed or flat."""
    found = [
        LayerNoise(tensor="t", name="n", operator="Conv", decibels=one, lost=0) for one in decibels
    ]
    explain_page.save(made(layers=tuple(found), images=made().images[:1]), tmp_path)
    text = (tmp_path / "explain.html").read_text()
    assert Page(text).tags["circle"] == 2
    assert "nan" not in text
    assert "None: whatever is made of clean inputs" in text
