"""Which layers become int8 and which stay in float, and why."""

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import atrous
from atrous import artifact, image
from atrous.compiler import rewrites
from atrous.compiler.config import CompileConfig, DatasetSection, Frontend, Sampler
from atrous.compiler.form import Form
from atrous.compiler.graph import opset
from atrous.compiler.graph.graph import Graph
from atrous.compiler.int8 import classes, noise, plan, qdq
from atrous.compiler.int8.plan import Prepared, named_layers, prepare
from atrous.compiler.progress import Tell, silent
from atrous.compiler.rewrites import Rewritten
from atrous.compiler.sections import Backend, Quantize
from atrous.data import open_dataset
from atrous.data.synthetic import draw
from atrous.errors import AtrousError, ConfigError
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor
from tests.builders.sketch import Sketch, as_written, decibels, feeds, kinds, run
from tests.builders.told import Told

SIDE = 32
PREPROCESS = Preprocess(size=(SIDE, SIDE))
Make = Callable[..., Prepared]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        Image.fromarray(draw(0, number)[0]).save(folder / f"{number}.png")
    return folder


def asked(dataset: DatasetSection | None, **settings: Any) -> CompileConfig:
    """A compile file with that part."""
    backend = Backend(quantize=Quantize(**settings))
    frontend = Frontend(checkpoint="network.onnx")
    return CompileConfig(name="net", frontend=frontend, backend=backend, dataset=dataset)


@pytest.fixture
def make(images: Path) -> Make:
    """Prepare a network on those images."""

    def prepared(
        model: onnx.ModelProto,
        *,
        original: onnx.ModelProto | None = None,
        preprocess: Preprocess = PREPROCESS,
        sampler: Sampler | None = None,
        engine: str = "onnxruntime",
        tell: Tell = silent,
        **settings: Any,
    ) -> Prepared:
        return prepare(
            Rewritten(original or model, model, preprocess),
            asked(DatasetSection(path=str(images), sampler=sampler or Sampler()), **settings),
            Form.of(engine, Quantize(**settings)),
            tell=tell,
        )

    return prepared


def same(draft: Sketch, x: str) -> str:
    return x


def network(
    outlier: float = 1.0,
    dtype: int = onnx.TensorProto.FLOAT,
    batch: int = 1,
    between: Callable[[Sketch, str], str] = same,
) -> onnx.ModelProto:
    """Three convolutions, a pooled gate and a head; `outlier` scales one channel before `hurt`.

    The layer behind takes the scale back, so that the function stays the same.
    """
    draft = Sketch(seed=4)
    x = draft.input(batch, 3, SIDE, SIDE, dtype=dtype, name="input")
    if dtype == onnx.TensorProto.UINT8:
        x = draft.node("Cast", x, to=onnx.TensorProto.FLOAT)
        x = draft.node("Sub", x, draft.constant(np.full((1, 3, 1, 1), 114.0)))
        x = draft.node("Mul", x, draft.constant(np.full((1, 3, 1, 1), 1 / 58)))
    x = draft.node("Relu", draft.conv(x, 3, 8, size=3, strides=[2, 2], name="first"))
    scale = np.ones((8, 1, 1, 1), np.float32)
    scale[3] = outlier
    weight = np.random.default_rng(1).normal(size=(8, 8, 1, 1)).astype(np.float32)
    x = draft.node("Conv", x, draft.constant(weight * scale), name="before")
    x = between(draft, x)
    back = np.random.default_rng(2).normal(size=(8, 8, 1, 1)) / scale.reshape(1, 8, 1, 1)
    x = draft.node("Conv", x, draft.constant(back), name="hurt")
    gate = draft.node("GlobalAveragePool", draft.node("Relu", x))
    gate = draft.node("Sigmoid", draft.conv(gate, 8, 8, name="pooled gate"))
    x = draft.node("Mul", draft.conv(x, 8, 8, name="gated"), gate)
    return draft.model(draft.conv(x, 8, 3, name="last"), rank=4)


def norms() -> onnx.ModelProto:
    """Convolution, norm and activation; the decoder pattern; a matrix product at the end."""
    draft = Sketch()
    x = draft.input(1, 3, SIDE, SIDE, name="input")
    low = draft.conv(x, 3, 6, strides=[4, 4], pads=[0] * 4, name="coarse")
    low = draft.node("Relu", draft.norm(low, 6, name="coarse norm"))
    high = draft.node(
        "Relu", draft.norm(draft.conv(low, 6, 12, size=3, strides=[4, 4]), 12, name="high norm")
    )
    both = draft.node("Concat", low, draft.resize(high, 1, 12, 8, 8), axis=1)
    mixed = draft.norm(draft.conv(both, 18, 12, size=3, name="mix"), 12, name="mixed")
    logits = draft.conv(draft.node("Relu", mixed), 12, 4, name="head")
    rows = draft.node("Reshape", logits, draft.constant([1, 4, 64], dtype=np.int64))
    rows = draft.node("MatMul", rows, draft.weight(64, 64), name="product")
    back = draft.constant([1, 4, 8, 8], dtype=np.int64)
    model = draft.model(draft.node("Reshape", rows, back), rank=4)
    for number, node in enumerate(model.graph.node):
        node.name = f"/node/{number}"
    return model


ORIGINAL = norms()
OPERATORS = kinds(ORIGINAL)
MIX = [node.output[0] for node in ORIGINAL.graph.node].index("mix")


def excluded(layout: Any, **settings: Any) -> dict[str, str]:
    model, _ = rewrites.apply(ORIGINAL, layout=layout)
    return named_layers(ORIGINAL, qdq.layers(Graph(model)), Quantize(**settings))


PARTS = {
    "planar": {"mixed_fine", "mixed_coarse1_0"},
    "channels-last": {"mixed_fine", *(f"mixed_coarse1_{number}" for number in (2, 3, 4))},
}


@pytest.mark.parametrize("layout", PARTS)
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ()),
        ({"skip_conv_layers": (0,)}, {"coarse norm"}),
        ({"skip_conv_layers": (2,)}, "mixed"),
        ({"skip_conv_layers": (0, 3)}, {"coarse norm", "head"}),
        ({"skip_matmul_layers": (0,)}, {"product"}),
        ({"exclude_layers": (MIX,)}, "mixed"),
        ({"exclude_layers": (MIX + 1,)}, "mixed"),  # its norm
        ({"exclude_layers": (f"/node/{MIX}",)}, "mixed"),
        ({"exclude_layers": ("mixed",)}, "mixed"),
        ({"exclude_layers": ("mix",)}, "mixed"),
        ({"exclude_layers": ("mixed_fine",)}, {"mixed_fine"}),
        ({"exclude_layers": ("head", 0)}, {"head", "coarse norm"}),
        ({"exclude_layers": (OPERATORS.index("Relu"),)}, ()),
        ({"ops_usingfp": ("MatMul",)}, {"product"}),
        ({"ops_usingfp": ("Conv",)}, "convolutions"),
    ],
    # A set has another order in every process, and pytest-xdist compares names.
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),
)
def test_layers_are_counted_in_the_file_as_it_was(
    layout: str,
    settings: dict[str, Any],
    expected: Collection[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = excluded(layout, **settings)
    [*warnings] = caplog.messages
    assert [("has no effect" in warning) for warning in warnings] == [True] * (
        bool(settings) and expected == ()
    )
    if expected == "convolutions":
        expected = PARTS[layout] | {"coarse norm", "high norm", "head"}
    elif expected == "mixed":
        expected = PARTS[layout]
    assert set(found) == set(expected)
    assert set(found.values()) <= set(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"skip_conv_layers": (4,)},
            "skip_conv_layers: 4 is not in the network; expected an index",
        ),
        ({"skip_conv_layers": (-1,)}, "an index below 4, or the name of a node"),
        ({"skip_matmul_layers": (1,)}, "skip_matmul_layers: 1 is not in the network"),
        ({"exclude_layers": (len(OPERATORS),)}, f"an index below {len(OPERATORS)}"),
        ({"exclude_layers": ("mixd",)}, "exclude_layers: 'mixd' is not in the network"),
        ({"exclude_layers": ("",)}, "exclude_layers: '' is not in the network"),
    ],
    ids=str,
)
def test_what_is_not_there_is_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        excluded("planar", **settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_that_only_looks_like_a_part() -> None:
    draft = Sketch()
    x = draft.conv(draft.input(1, 3, 8, 8), 3, 3, name="a")
    model = draft.model(draft.conv(x, 3, 3, name="a_fine"), rank=4)
    layers = qdq.layers(Graph(model))
    assert set(named_layers(model, layers, Quantize(exclude_layers=("a",)))) == {"a"}


def test_an_index_is_no_name() -> None:
    """torch's older exporter calls tensors by numbers."""
    draft = Sketch()
    x = draft.conv(draft.input(1, 3, 8, 8), 3, 3, name="1")
    model = draft.model(draft.conv(x, 3, 3, name="0"), rank=4)
    layers = qdq.layers(Graph(model))
    assert set(named_layers(model, layers, Quantize(skip_conv_layers=(0,)))) == {"1"}
    assert set(named_layers(model, layers, Quantize(exclude_layers=("0",)))) == {"0"}


@pytest.mark.parametrize("dtype", [onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8])
@pytest.mark.parametrize("batch", [1, 2])
def test_what_stays_in_float(make: Make, dtype: int, batch: int) -> None:
    model = network(dtype=dtype, batch=batch)
    taken = {"normalisation": "none", "mean": (0.0,) * 3, "std": (1.0,) * 3}
    bare = PREPROCESS.model_copy(update=taken)
    prepared = make(model, preprocess=bare if dtype == onnx.TensorProto.UINT8 else PREPROCESS)
    assert prepared.kept == {"first": plan.FIRST, "pooled gate": plan.POOLED, "last": plan.LAST}
    assert set(prepared.noise) == {layer.name for layer in prepared.layers}
    assert all(batch == len(one) for one in prepared.inputs)
    written = prepared.write()
    assert kinds(written).count("QuantizeLinear") > 3
    onnx.checker.check_model(written, full_check=True)
    feed = {"input": prepared.inputs[0]}
    assert decibels(*run(model, feed), *as_written(written, feed)) > 25


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "tensorrt"])
def test_scores_are_finer_than_bytes(make: Make, engine: str) -> None:
    """Of 256 steps, classes tie over whole regions, and edges become stairs once enlarged."""
    prepared = make(network(), engine=engine)
    [scores] = as_written(prepared.write(), {"input": prepared.inputs[0]})
    assert scores.size == 768
    assert len(np.unique(scores)) > 600


def test_a_harmful_layer_is_found(make: Make) -> None:
    prepared = make(network(outlier=3000), calibrate_mode="max")
    assert set(prepared.kept) == {"first", "pooled gate", "hurt", "last"}
    said = re.fullmatch(
        r"in int8 it changes the class of (.+) % of the pixels", prepared.kept["hurt"]
    )
    assert said is not None
    assert float(said[1]) > classes.PIXELS
    assert prepared.noise["hurt"] < noise.SUSPECT
    assert not set(make(network(), calibrate_mode="max").kept) & {"hurt"}


BETWEEN: dict[str, Callable[[Sketch, str], str]] = {
    "nothing": same,
    "activation": lambda d, x: d.node("Relu", x),
    "pooling": lambda d, x: d.node("MaxPool", d.node("Relu", x), kernel_shape=[3, 3], pads=[1] * 4),
    "another shape": lambda d, x: d.node("Reshape", x, d.constant([-1, 8, 16, 16], dtype=np.int64)),
}


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "tensorrt"])
@pytest.mark.parametrize("between", BETWEEN)
def test_what_a_layer_in_float_reads_is_exact(make: Make, between: str, engine: str) -> None:
    """Else the range that does the harm would do it in the quantisers of the layer before."""
    model = network(3000, between=BETWEEN[between])
    prepared = make(model, calibrate_mode="max", engine=engine)
    assert "hurt" in prepared.kept
    feed = {"input": prepared.inputs[0]}
    assert decibels(*run(model, feed), *as_written(prepared.write(), feed)) > 20
    names = {layer.name for layer in prepared.chosen()}
    assert ("before" in names) == (engine != "onnxruntime")
    assert "gated" in names


def test_what_only_disturbs_the_logits_is_int8(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer is suspected; none changes a class."""
    monkeypatch.setattr(noise, "SUSPECT", np.inf)
    monkeypatch.setattr(noise, "LOUD", np.inf)
    monkeypatch.setattr(classes, "PIXELS", 5.0)  # of 32×32 pixels with random weights
    monkeypatch.setattr(classes, "CLASS", 50.0)
    assert set(make(network()).kept) == {"first", "pooled gate", "last"}


def test_layers_named_by_the_user_are_not_judged(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise, "SUSPECT", np.inf)
    monkeypatch.setattr(noise, "LOUD", np.inf)
    seen: list[str] = []

    def harmful(model: Any, groups: list[list[str]], *rest: Any, **more: Any) -> dict[str, str]:
        seen.extend(name for group in groups for name in group)
        return {"before": "why"}

    monkeypatch.setattr(classes, "harmful", harmful)
    prepared = make(network(), exclude_layers=("hurt",))
    assert sorted(seen) == ["before", "gated"]
    assert prepared.kept["hurt"] == "exclude_layers"
    assert prepared.kept["before"] == "why"


def test_layers_can_be_left_out_of_what_is_written(make: Make) -> None:
    prepared = make(network())
    everything = [layer.name for layer in prepared.layers]
    assert kinds(prepared.write(everything)) == kinds(prepared.model)
    fewer = prepared.write(["before"])
    [node] = [node for node in fewer.graph.node if node.name == "before"]
    graph = Graph(fewer)
    assert graph.constant(node.input[1]) is not None


@pytest.mark.heavy
@pytest.mark.parametrize("mode", ["percentile", "kl_divergence", "mse", "max"])
def test_every_mode_stays_close(make: Make, mode: str) -> None:
    prepared = make(network(), calibrate_mode=mode)
    assert prepared.calibration.method == mode
    feed = {"input": prepared.inputs[0]}
    assert decibels(*run(prepared.model, feed), *as_written(prepared.write(), feed)) > 20


def test_the_same_bytes_every_time(make: Make) -> None:
    first, second = (
        make(network(), calibrate_mode="kl_divergence").write().SerializeToString()
        for _ in range(2)
    )
    assert first == second


def test_biases_are_corrected_with_one_scale_for_all_weights_too(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = make(network(), quantize_per_channel=False)
    feed = {"input": prepared.inputs[0]}

    def shift() -> float:
        [exact], [actual] = run(prepared.model, feed), run(prepared.write(), feed)
        return float(np.abs((exact - actual).mean(axis=(0, 2, 3))).mean())

    corrected = shift()
    monkeypatch.setattr(qdq, "correct_biases", lambda *a, **k: 0)
    assert corrected < shift()


@pytest.mark.parametrize(
    ("engine", "zero", "biases"), [("onnxruntime", np.uint8, 0), ("tensorrt", np.int8, 2)]
)
def test_the_form_follows_the_engine(make: Make, engine: str, zero: Any, biases: int) -> None:
    prepared = make(network(), engine=engine)
    symmetric = [low == -high for low, high in prepared.spans.values()]
    assert all(symmetric) == (engine == "tensorrt")
    graph = Graph(prepared.write())
    zeros = [node.input[2] for node in graph.nodes if node.op_type == "QuantizeLinear"]
    assert {np.asarray(graph.constant(name)).dtype for name in zeros} == {np.dtype(zero)}


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_results_for_float_are_left_in_float_for_openvino(make: Make, engine: str) -> None:
    written = make(network(), engine=engine).write()
    quantised = [node.input[0] for node in written.graph.node if node.op_type == "QuantizeLinear"]
    assert ("gated" in quantised) == (engine == "onnxruntime")


def test_the_images(make: Make, images: Path) -> None:
    said = Told()
    prepared = make(network(), sampler=Sampler(get_data_num=3, suffix="PNG"), tell=said)
    assert prepared.calibration.images == ("1", "3", "5")
    assert len(prepared.inputs) == 3
    assert make(network()).calibration.images == tuple("012345")
    assert len(make(network()).inputs) == 6
    assert "measuring the noise of each layer: 3 of 3" in said
    assert any(step.startswith("choosing ranges: 1 of ") for step in said)
    said.clear()
    make(network(), sampler=Sampler(get_data_num=9), tell=said)
    assert any("holds 6 images, fewer than the 9 wanted" in step for step in said)
    (images / "7.png").write_bytes(b"no image")
    assert len(make(network()).unreadable) == 1


def weightless() -> onnx.ModelProto:
    draft = Sketch()
    return draft.model(draft.node("Relu", draft.input(1, 3, SIDE, SIDE)), rank=4)


def halved() -> onnx.ModelProto:
    draft = Sketch()
    image = draft.node("Cast", draft.input(1, 3, SIDE, SIDE), to=onnx.TensorProto.FLOAT16)
    weight = draft.constant(np.ones((4, 3, 1, 1)), dtype=np.float16)
    scores = draft.node("Conv", image, weight)
    return draft.model(draft.node("Cast", scores, to=onnx.TensorProto.FLOAT), rank=4)


def quantised() -> onnx.ModelProto:
    draft = Sketch()
    steps = draft.constant(np.ones((4, 3, 1, 1)), dtype=np.int8)
    weight = draft.node("DequantizeLinear", steps, draft.constant(0.1))
    return draft.model(draft.node("Conv", draft.input(1, 3, SIDE, SIDE), weight), rank=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": Sampler(suffix="bmp")}, "no bmp file in"),
        ({"weight_scale": "power2"}, "weight_scale: expected max, found power2"),
        ({"calibrate_range": "wide"}, "calibrate_range: expected a percentile, as 99.99 or 0.9999"),
        ({"calibrate_range": [0.1, 2]}, "calibrate_range: expected a percentile"),
        ({"calibrate_range": 3}, "calibrate_range: expected a percentile, as 99.99 or 0.9999"),
        ({"model": weightless()}, "backend.dtype: int8 needs convolutions or matrix products"),
        ({"model": halved()}, "those of the network are float16; start from its float32 file"),
        ({"model": quantised()}, "the network is quantised already; start from its float32 file"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_errors_come_before_the_work(make: Make, changes: dict[str, Any], message: str) -> None:
    said = Told()
    with pytest.raises(AtrousError) as caught:
        make(**{"model": network(), "tell": said, **changes})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert said == []


def test_the_range_only_counts_for_its_mode(make: Make) -> None:
    make(network(), calibrate_mode="max", calibrate_range="ignored")
    narrow, wide = (
        make(network(), calibrate_mode="percentile", calibrate_range=value) for value in (0.9, 1)
    )
    assert narrow.spans["before"][1] < wide.spans["before"][1]
    share, percent = (make(network(), calibrate_range=value).spans for value in (0.999, 99.9))
    assert share["before"] == pytest.approx(percent["before"])


@pytest.mark.parametrize("dataset", [None, DatasetSection()])
def test_images_have_to_be_named(dataset: DatasetSection | None) -> None:
    with pytest.raises(ConfigError, match=r"^dataset\.path: missing; int8 needs images to calibra"):
        prepare(Rewritten(network(), network(), PREPROCESS), asked(dataset), Form(), tell=print)


def test_an_empty_folder(tmp_path: Path) -> None:
    empty = asked(DatasetSection(path=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"no image in .*; there are: no files"):
        prepare(Rewritten(network(), network(), PREPROCESS), empty, Form(), tell=print)


def lraspp() -> onnx.ModelProto:
    """The head of MobileNetV3 (arXiv:1905.02244, figure 10): a gate, and one enlarged map."""
    draft = Sketch(seed=6)
    x = draft.input(1, 3, SIDE, SIDE, name="input")
    low = draft.node("HardSwish", draft.conv(x, 3, 8, size=3, strides=[4, 4]))
    high = draft.conv(low, 8, 16, size=3, strides=[2, 2])
    branch = draft.node("Relu", draft.conv(high, 16, 16))
    gate = draft.node("GlobalAveragePool", high)
    gate = draft.node("Sigmoid", draft.conv(gate, 16, 16))
    large = draft.resize(draft.node("Mul", branch, gate), 1, 16, 8, 8)
    logits = draft.node("Add", draft.conv(low, 8, 4), draft.conv(large, 16, 4))
    return draft.model(draft.resize(logits, 1, 4, SIDE, SIDE), rank=4)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_another_family(make: Make, engine: str) -> None:
    whole = lraspp()
    model, changes = rewrites.apply(whole)
    assert [change.name for change in changes if change.places] == ["commute-enlargement"]
    prepared = make(model, original=whole, engine=engine)
    last = [name for name, why in prepared.kept.items() if why == plan.LAST]
    assert last == ([] if engine == "openvino" else ["conv10", "conv11_small"])
    assert len(prepared.layers) - len(prepared.kept) == 4 - len(last)
    feed = {"input": prepared.inputs[0]}
    [expected] = run(whole, feed)
    written = prepared.write()
    if engine == "onnxruntime":
        [actual] = run(written, feed)
    else:
        ov = pytest.importorskip("openvino")
        core = ov.Core()
        compiled = core.compile_model(core.read_model(written.SerializeToString()), "CPU")
        [actual] = compiled(feed).values()
    assert decibels(expected, np.asarray(actual)) > 25
    assert set(feeds(whole)) == {"input"}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_default_model(tmp_path: Path, shared: Path, engine: str) -> None:
    pytest.importorskip(engine)
    source = Path(atrous.__file__).parent / "assets" / "default.onnx"
    whole = artifact.load(source)
    metadata = artifact.metadata_of(whole, source)
    assert metadata is not None
    root = shared / "data" / "VOCdevkit"
    images = DatasetSection(path=f"voc:{root}:train", sampler=Sampler(get_data_num=24))
    config = asked(images, calibrate_mode="kl_divergence")
    form = Form.of(engine, config.backend.quantize)
    model, _ = rewrites.apply(opset.fixed(whole, source, (1, 3, 513, 513)), layout=form.layout)
    prepared = prepare(
        Rewritten(whole, model, metadata.preprocess),
        config,
        form,
        tell=silent,
    )
    assert len(prepared.chosen()) > 50
    path = tmp_path / "mod.onnx"
    artifact.save(prepared.write(), metadata, path)
    with (
        Predictor.open(source, engine=engine) as exact,
        Predictor.open(path, engine=engine) as coarse,
    ):
        same = [
            (exact(picture).class_map() == coarse(picture).class_map()).mean()
            for sample in open_dataset(f"voc:{root}:val").samples[:12]
            for picture in [image.read(sample.image)]
        ]
    assert np.mean(same) > 0.99
