import re
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from atrous import image
from atrous.compiler.int8 import calibrate
from atrous.compiler.int8.calibrate import Collected, collect
from atrous.compiler.progress import Progress
from atrous.errors import ArtifactError, ConfigError, EngineError, InputError
from atrous.preprocess import Preprocess
from atrous.vastai import npz
from tests.builders.sketch import Sketch
from tests.builders.told import Told

SIZE = 4
PLAIN = Preprocess(size=(SIZE, SIZE), normalisation="none")


def write(folder: Path, name: str, *levels: int) -> Path:
    """An image of one grey level per channel, or of one for all."""
    path = folder / name
    colour = levels if len(levels) == 3 else levels * 3
    picture = np.full((SIZE, SIZE, 3), colour, np.uint8)
    cv2.imwrite(str(path), picture[:, :, ::-1])
    return path


def network(batch: int | str = 1, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """`half = x / 2 - 10`, `rest = relu(half)`, `flat` of rank two, `same` of one value."""
    sketch = Sketch()
    x = sketch.input(batch, 3, SIZE, SIZE, dtype=dtype, name="x")
    wide = sketch.node("Cast", x, to=TensorProto.FLOAT, name="wide")
    scaled = sketch.node("Mul", wide, sketch.constant(0.5))
    half = sketch.node("Add", scaled, sketch.constant(-10.0), name="half")
    sketch.node("Relu", half, name="rest")
    sketch.node("Flatten", "rest", name="flat")
    zero = sketch.node("Mul", "rest", sketch.constant(0.0))
    sketch.node("Add", zero, sketch.constant(3.0), name="same")
    return sketch.model("same")


NAMES = ["x", "half", "rest", "flat", "same"]


def histogram(bins: int, **counts: int) -> list[int]:
    found = [0] * bins
    for name, count in counts.items():
        found[int(name[1:])] = count
    return found


def assert_equal(first: Collected, second: Collected) -> None:
    assert first.used == second.used
    assert first.unreadable == second.unreadable
    assert list(first.statistics) == list(second.statistics)
    for one, two in zip(first.statistics.values(), second.statistics.values(), strict=True):
        assert (one.low, one.high, one.count) == (two.low, two.high, two.count)
        np.testing.assert_array_equal(one.histogram, two.histogram)
        assert (one.mean is None) == (two.mean is None)
        if one.mean is not None and two.mean is not None:
            np.testing.assert_array_equal(one.mean, two.mean)


def test_by_hand(tmp_path: Path) -> None:
    images = [write(tmp_path, "a.png", 0, 20, 40), write(tmp_path, "b.png", 100)]
    found = collect(network(), NAMES, images, PLAIN, bins=10)
    assert found.used == tuple(images)
    assert found.unreadable == ()
    pixels, all_of_them = SIZE * SIZE, 2 * 3 * SIZE * SIZE
    # half: -10, 0 and 10 once, 40 three times: parts of 5, and 40 in the last.
    table = {
        "x": (0, 100, {"b0": 1, "b2": 1, "b4": 1, "b9": 3}, [50, 60, 70]),
        "half": (-10, 40, {"b0": 1, "b2": 1, "b4": 1, "b9": 3}, [15, 20, 25]),
        "rest": (0, 40, {"b0": 2, "b2": 1, "b9": 3}, [20, 20, 25]),
        "flat": (0, 40, {"b0": 2, "b2": 1, "b9": 3}, None),
        "same": (3, 3, {"b0": 6}, [3, 3, 3]),
    }
    assert found.statistics.keys() == table.keys()
    for name, (low, high, bins, mean) in table.items():
        one = found.statistics[name]
        assert (one.low, one.high, one.count) == (low, high, all_of_them), name
        expected = histogram(10, **{key: n * pixels for key, n in bins.items()})
        assert one.histogram.tolist() == expected, name
        assert one.histogram.dtype == np.int64
        if mean is None:
            assert one.mean is None
        else:
            assert one.mean is not None
            assert one.mean.dtype == np.float64
            np.testing.assert_allclose(one.mean, mean)


def test_real_values_against_numpy(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = []
    for index in range(3):
        images.append(tmp_path / f"{index}.png")
        cv2.imwrite(str(images[-1]), random.integers(0, 256, (300, 300, 3), np.uint8))
    preprocess = Preprocess(size=(300, 300))
    sketch = Sketch()
    x = sketch.input(1, 3, 300, 300, name="x")
    model = sketch.model(sketch.conv(x, 3, 8, 3, pads=[1, 1, 1, 1]))
    [name] = [value.name for value in model.graph.output]
    found = collect(model, [name], images, preprocess, bins=512).statistics[name]
    inner = calibrate._Network(model, [name])
    tensors = [inner.run(preprocess(image.read(path))[None])[name] for path in images]
    values = np.concatenate(tensors).astype(np.float64)
    assert (found.low, found.high) == (values.min(), values.max())
    expected = np.histogram(values, 512, (found.low, found.high))[0]
    # Values on a border may fall on either side in float32.
    assert np.abs(found.histogram - expected).max() <= 3
    assert found.histogram.sum() == found.count == values.size
    np.testing.assert_allclose(found.mean, values.mean((0, 2, 3)), rtol=1e-5, atol=1e-6)


def test_order_and_repetition_change_nothing(tmp_path: Path) -> None:
    images = [write(tmp_path, f"{n}.png", n, 3 * n, 91 * n % 256) for n in range(1, 12)]
    first = collect(network(), NAMES, images, PLAIN)
    assert_equal(first, collect(network(), NAMES, images, PLAIN))
    assert_equal(first, collect(network(), NAMES[::-1], images[::-1], PLAIN))


def test_the_same_files_as_npz(tmp_path: Path) -> None:
    picture = write(tmp_path, "a.png", 1, 2, 3)
    pixels = np.stack([np.full((SIZE, SIZE), level, np.uint8) for level in (1, 2, 3)])
    npz.write(tmp_path / "a.npz", npz.INPUT, pixels)
    one = collect(network(), NAMES, [picture], PLAIN)
    other = collect(network(), NAMES, [tmp_path / "a.npz"], PLAIN)
    np.testing.assert_array_equal(one.statistics["x"].mean, other.statistics["x"].mean)


def test_bytes_go_in_as_bytes(tmp_path: Path) -> None:
    images = [write(tmp_path, "a.png", 0, 20, 40), write(tmp_path, "b.png", 100)]
    floats = collect(network(), NAMES, images, PLAIN)
    assert_equal(floats, collect(network(dtype=TensorProto.UINT8), NAMES, images, PLAIN))


def test_batches_are_filled(tmp_path: Path) -> None:
    images = [write(tmp_path, f"{n}.png", n) for n in (0, 40, 100)]
    (tmp_path / "1.png").write_bytes(b"no picture")
    broken = [tmp_path / "1.png"]
    found = collect(network(batch=2), ["x"], [*images, *broken], PLAIN, bins=10)
    assert found.used == (images[0], images[2], images[1])  # sorted by name: 0, 100, 40
    # 40 stands alone in the last batch and counts twice.
    one = found.statistics["x"]
    assert one.histogram.tolist() == histogram(10, b0=48, b4=96, b9=48)
    assert one.count == 4 * 48
    np.testing.assert_allclose(one.mean, [45, 45, 45])
    open_one = collect(network(batch="N"), ["x"], images, PLAIN).statistics["x"]
    assert open_one.count == 3 * 48


def test_unreadable_images_are_left_out_and_named_once(tmp_path: Path) -> None:
    good = write(tmp_path, "b.png", 7)
    (tmp_path / "a.jpg").write_bytes(b"")
    said = Told()
    images = [good, tmp_path / "a.jpg", tmp_path / "none.png"]
    found = collect(network(), ["half"], images, PLAIN, tell=said)
    assert found.used == (good,)
    assert [line.partition(": ")[0] for line in found.unreadable] == [
        str(tmp_path / "a.jpg"),
        str(tmp_path / "none.png"),
    ]
    assert said == [
        "calibrating: 1 of 3, ranges",
        f"left out: {found.unreadable[0]}",
        "calibrating: 2 of 3, ranges",
        "calibrating: 3 of 3, ranges",
        f"left out: {found.unreadable[1]}",
        "calibrating: 1 of 1, histograms",
    ]


def test_nothing_to_calibrate_on(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected at least one image, found none; see dataset"):
        collect(network(), NAMES, [], PLAIN)
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"none of the 2 images can be read; the first: .*a\.jpg"):
        collect(network(), NAMES, [tmp_path / "a.jpg", tmp_path / "b.jpg"], PLAIN)


@pytest.mark.parametrize(("operator", "level"), [("Log", 0), ("Reciprocal", 0), ("Sqrt", 10)])
def test_nan_and_infinity_name_tensor_and_image(tmp_path: Path, operator: str, level: int) -> None:
    sketch = Sketch()
    x = sketch.input(1, 3, SIZE, SIZE, name="x")
    moved = sketch.node("Sub", x, sketch.constant(20.0 if operator == "Sqrt" else 0.0))
    bad = sketch.node(operator, moved, name="first")
    sketch.node("Relu", bad, name="later")
    model = sketch.model("later")
    images = [write(tmp_path, "a.png", 200), write(tmp_path, "b.png", level)]
    expected = rf"in the tensor first, found NaN, infinite .* for {re.escape(str(images[1]))};"
    with pytest.raises(ArtifactError, match=expected):
        collect(model, ["later", "first", "x"], images, PLAIN)


def test_a_tensor_without_values_holds_nothing(tmp_path: Path) -> None:
    """As the regions that a network finds where there are none."""
    sketch = Sketch()
    x = sketch.input(1, 3, SIZE, SIZE, name="x")
    zero = sketch.constant([0], dtype=np.int64)
    none = sketch.node("Slice", x, zero, zero, zero, name="none")
    model = sketch.model(sketch.node("Concat", x, none, axis=0))
    found = collect(model, ["x", "none"], [write(tmp_path, "a.png", 9)], PLAIN, bins=4).statistics
    assert (found["x"].low, found["x"].high, found["x"].count) == (9, 9, 48)
    empty = found["none"]
    assert (empty.low, empty.high, empty.count, empty.mean) == (0, 0, 0, None)
    assert empty.histogram.tolist() == [0] * 4


def test_a_picture_that_goes_away_meanwhile_is_an_error(tmp_path: Path) -> None:
    """What the ranges were made of has to be in the histograms."""
    picture = write(tmp_path, "a.png", 9)

    def tell(progress: Progress) -> None:
        if "histograms" in str(progress):
            picture.unlink()

    with pytest.raises(InputError, match=r"a\.png"):
        collect(network(), NAMES, [picture], PLAIN, tell=tell)


def test_what_is_no_tensor_of_numbers(tmp_path: Path) -> None:
    picture = write(tmp_path, "a.png", 1)
    with pytest.raises(ArtifactError, match="the network makes no tensor 'nothing'"):
        collect(network(), ["x", "nothing"], [picture], PLAIN)
    sketch = Sketch()
    shape = sketch.node("Shape", sketch.input(1, 3, SIZE, SIZE, name="x"), name="shape")
    model = sketch.model(shape, dtype=TensorProto.INT64)
    with pytest.raises(ArtifactError, match=r"floating point in shape, found tensor\(int64\)"):
        collect(model, ["shape"], [picture], PLAIN)


def test_a_network_of_two_inputs_is_refused(tmp_path: Path) -> None:
    sketch = Sketch()
    sketch.node("Add", *(sketch.input(1, 3, SIZE, SIZE) for _ in range(2)), name="y")
    with pytest.raises(ArtifactError, match=r"calibration: expected one input, found 2$"):
        collect(sketch.model("y"), ["y"], [write(tmp_path, "a.png", 9)], PLAIN)


def test_a_network_that_cannot_run(tmp_path: Path) -> None:
    picture = write(tmp_path, "a.png", 1)
    sketch = Sketch()
    sketch.node("Unheard", sketch.input(1, 3, SIZE, SIZE), name="y")
    with pytest.raises(EngineError, match="calibration: ONNX Runtime refuses it: "):
        collect(sketch.model("y", rank=4), ["y"], [picture], PLAIN)
    with pytest.raises(EngineError, match="calibration: ONNX Runtime failed: "):
        collect(network(), NAMES, [picture], Preprocess(size=(5, 5), normalisation="none"))


def test_bins_are_limited(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bins: expected 2 to 32768, found 1"):
        collect(network(), NAMES, [write(tmp_path, "a.png", 1)], PLAIN, bins=1)


def test_tensors_keep_their_values_and_the_model_its_outputs(tmp_path: Path) -> None:
    # ReLU is fused into the convolution by higher levels of optimisation.
    sketch = Sketch()
    x = sketch.input(1, 3, SIZE, SIZE, name="x")
    before = sketch.conv(x, 3, 4, 1, name="before")
    model = sketch.model(sketch.node("Relu", before))
    untouched = model.SerializeToString()
    picture = write(tmp_path, "a.png", 1, 200, 90)
    found = collect(model, ["before"], [picture], Preprocess(size=(SIZE, SIZE)))
    assert found.statistics["before"].low < 0
    assert model.SerializeToString() == untouched


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    side = 256
    sketch = Sketch()
    x = sketch.input(1, 3, side, side, name="x")
    model = sketch.model(sketch.node("Relu", x, name="y"))
    picture = tmp_path / "a.png"
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))
    preprocess = Preprocess(size=(side, side))

    def peak(count: int) -> int:
        tracemalloc.start()
        collect(model, ["x", "y"], [picture] * count, preprocess)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(2)
    few, many = peak(2), peak(16)
    assert many < few + side * side * 3 * 4  # less than one tensor more


def test_close_and_wide_values(tmp_path: Path) -> None:
    counts = calibrate._Counts(0.0, 1e-44, 8)
    counts.add(np.array([0, 1e-44], np.float32))
    assert counts.histogram.tolist() == histogram(8, b0=2)
    counts = calibrate._Counts(1e6, 1e6 + 1, 4)
    counts.add(np.array([1e6, 1e6 + 0.25, 1e6 + 0.5, 1e6 + 1], np.float32))
    assert counts.histogram.tolist() == [1, 1, 1, 1]
    many = np.full(3 * calibrate._SLICE + 1, 0.5, np.float32)
    counts = calibrate._Counts(0.0, 1.0, 4)
    counts.add(many)
    assert counts.histogram.tolist() == [0, 0, many.size, 0]
