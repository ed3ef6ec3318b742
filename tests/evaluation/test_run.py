import io
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous.artifact import Calibration, Metadata
from atrous.data import Dataset, Sample, open_dataset
from atrous.data.masks import read_ids
from atrous.engines.base import Options
from atrous.engines.fake import FakeEngine
from atrous.engines.signature import Signature
from atrous.errors import ConfigError, EngineError, InputError
from atrous.evaluation.protocols import Protocol
from atrous.evaluation.report import write_report
from atrous.evaluation.result import Evaluation
from atrous.evaluation.run import Evaluator
from atrous.labels import LabelSet, generic
from atrous.metrics import ConfusionMatrix
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor
from tests.builders.html import Page
from tests.builders.rasters import png

OWN = Preprocess(size=(32, 32), normalisation="div255")
COUNT = 12


@dataclass
class Pictures:
    """Pictures whose class is their brightest channel, some left out on purpose."""

    labels: LabelSet = field(default_factory=lambda: generic(3))
    name: str = "pictures:val"
    spec: str = "pictures:val"
    broken: tuple[int, ...] = ()
    read: list[str] = field(default_factory=list)

    @property
    def samples(self) -> tuple[Sample, ...]:
        return tuple(Sample(f"{i:02}", Path(f"{i}.png"), Path(f"{i}.png")) for i in range(COUNT))

    def read_image(self, sample: Sample) -> NDArray[np.uint8]:
        self.read.append(sample.id)
        if int(sample.id) in self.broken:
            raise InputError(f"{sample.image}: cannot be read")
        rng = np.random.default_rng(int(sample.id))
        return rng.integers(0, 256, (20 + int(sample.id), 30, 3), np.uint8)

    def read_label(self, sample: Sample) -> NDArray[np.uint8]:
        image = self.read_image(sample)
        label = image.argmax(2).astype(np.uint8)
        label[:2] = 255
        return label

    def reading(self) -> str:
        return ""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path / "cache"))


def predictor(
    function: Any = lambda x: x, calibrated: tuple[str, ...] = (), batch: int | None = None
) -> Predictor:
    engine = FakeEngine(function, 3, batch=batch)
    engine.metadata = Metadata(
        name="bright",
        labels=generic(3),
        preprocess=OWN,
        calibration=Calibration(method="max", images=calibrated) if calibrated else None,
    )
    return Predictor(engine, OWN, generic(3))


def evaluation(data: Pictures | None = None, protocol: str = "whole", **options: Any) -> Evaluator:
    model = options.pop("model", None) or predictor()
    return Evaluator(model, data or Pictures(), Protocol.parse(protocol), name="x", **options)


def test_a_perfect_model_is_perfect() -> None:
    result = evaluation().run()
    assert (result.mean_iou, result.pixel_accuracy) == (100.0, 100.0)
    assert result.health == result.failed == []
    assert result.stamp.model_dump(exclude={"ids", "identity"}) == {
        "protocol": "whole",
        "resize": "opencv-bilinear",
        "data": "pictures:val",
        "images": COUNT,
        "labels": "generic",
        "ignore_index": 255,
        "absent": "skip",
        "model": "bright",
        "precision": "fp32",
        "engine": "fake  cpu",
        "calibrated_on": 0,
    }


def test_a_network_of_fixed_batch_is_scored_as_one_of_any() -> None:
    free, fixed = (
        evaluation(model=predictor(batch=batch), protocol="squash-32").run() for batch in (None, 5)
    )
    assert fixed == free


def test_ignored_pixels_do_not_count() -> None:
    result = evaluation().run()
    pixels = sum((18 + i) * 30 for i in range(COUNT))
    assert np.sum(result.confusion) == pixels


def test_a_trimap_scores_what_is_near_borders() -> None:
    """Two halves, and a model that is wrong far from their border alone."""

    class Halves(Pictures):
        def read_image(self, sample: Sample) -> NDArray[np.uint8]:
            image = np.zeros((24, 40, 3), np.uint8)
            image[:, :20, 0] = image[:, 20:, 1] = 255
            return image

        def read_label(self, sample: Sample) -> NDArray[np.uint8]:
            label: NDArray[np.uint8] = self.read_image(sample).argmax(2).astype(np.uint8)
            return label

    def wrong_far_away(x: NDArray[np.float32]) -> NDArray[np.float32]:
        x = x.copy()
        x[..., :10] = x[..., ::-1][..., :10]
        return x

    scores = {}
    for trimap in (0, 1, 10, 11):
        protocol = Protocol.parse("whole", trimap=trimap)
        one = Evaluator(predictor(wrong_far_away), Halves(), protocol, name="x")
        result = one.run()
        scores[result.stamp.protocol] = result.pixel_accuracy
    assert scores == {
        "whole": 75.0,
        "whole+trimap-1": 100.0,
        "whole+trimap-10": 100.0,
        "whole+trimap-11": pytest.approx(100 * 21 / 22),
    }
    with pytest.raises(ConfigError, match="trimap: expected pixels, or 0 to score all, got -1"):
        Protocol.parse("whole", trimap=-1)


@pytest.mark.parametrize("stop_at", [1, 7, 11])
def test_resumes_where_it_stopped_and_ends_with_the_same_figures(stop_at: int) -> None:
    def noisy(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return x + np.sin(x * 40)

    whole = evaluation(model=predictor(noisy)).run(restart=True)
    data = Pictures()
    half = evaluation(data, model=predictor(noisy))

    def stop(done: int, miou: float) -> None:
        if done == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half.run(stop)
    data.read.clear()
    resumed = evaluation(data, model=predictor(noisy)).run()
    assert resumed == whole
    assert min(data.read) == f"{stop_at:02}"
    data.read.clear()
    assert evaluation(data, model=predictor(noisy)).run() == whole
    assert min(data.read) == "00"  # a finished run leaves nothing to go on from


def test_an_interruption_while_an_image_is_added_counts_it_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = evaluation().run(restart=True)
    half = evaluation()
    score, calls = ConfusionMatrix.mean_iou.fget, []
    assert score is not None

    def interrupted(matrix: ConfusionMatrix) -> float:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return float(score(matrix))

    with monkeypatch.context() as patch:
        patch.setattr(ConfusionMatrix, "mean_iou", property(interrupted))
        with pytest.raises(KeyboardInterrupt):
            half.run()
    assert evaluation().run() == whole


def test_instances_change_nothing() -> None:
    one = evaluation().run()
    model = predictor()
    model.engine.streams = 3
    data = Pictures(broken=(4, 5))
    done: list[int] = []
    found = evaluation(data, model=model).run(lambda number, miou: done.append(number))
    assert done == list(range(1, COUNT + 1))
    assert found.failed == ["4.png: cannot be read", "5.png: cannot be read"]
    model = predictor()
    model.engine.streams = 3
    assert evaluation(model=model).run() == one


def test_an_engine_that_fails_stops_the_run_and_what_was_counted_is_kept() -> None:
    calls: list[int] = []

    def fails(x: NDArray[np.float32]) -> NDArray[np.float32]:
        calls.append(1)
        if len(calls) == 5:
            raise EngineError("out of memory")
        return x

    with pytest.raises(EngineError, match="out of memory"):
        evaluation(model=predictor(fails)).run()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("atrous")]
    data = Pictures()
    assert evaluation(data).run() == evaluation().run()
    assert min(data.read) == "04"


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": "native"},
        {"options": Options(threshold=0.9)},
        {"options": Options(layout="nhwc")},
    ],
)
def test_what_is_measured_otherwise_does_not_resume_this_one(changes: dict[str, Any]) -> None:
    def stop(done: int, miou: float) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluation().run(stop)
    data = Pictures()
    evaluation(data, **changes).run()
    assert min(data.read) == "00"


@pytest.mark.parametrize("what", ["mask", "image", "meaning", "folder", "nothing"])
def test_a_data_set_that_was_changed_meanwhile_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Counts of masks that were mended since, or of another set of the same name, count nowhere."""
    for root in (tmp_path / "a", tmp_path / "b"):
        for folder, pixels in (("images", np.zeros((8, 8, 3))), ("masks", np.ones((8, 8)))):
            (root / folder).mkdir(parents=True)
            for name in ("0.png", "1.png", "2.png"):
                Image.fromarray(pixels.astype(np.uint8)).save(root / folder / name)
        (root / "own.yaml").write_text("images: images\nmasks: masks\nclasses: [a, b, c]\n")
    monkeypatch.chdir(tmp_path / "a")
    spec, begun = "folder:own.yaml:all", []

    def stop(done: int, miou: float) -> None:
        if done == 2:
            raise KeyboardInterrupt

    def scored(stopping: Any) -> Evaluation:
        data = open_dataset(spec)
        return Evaluator(predictor(), data, Protocol.parse("whole"), name="x").run(stopping)

    with pytest.raises(KeyboardInterrupt):
        scored(stop)
    if what == "mask":
        Image.fromarray(np.full((8, 8), 2, np.uint8)).save("masks/0.png")
    elif what == "image":
        Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save("images/0.png")
    elif what == "meaning":
        Path("own.yaml").write_text(
            "images: images\nmasks: masks\nclasses: [a, b, c]\nvalues: {0: b, 1: a, 2: c}\n"
        )
    elif what == "folder":
        monkeypatch.chdir(tmp_path / "b")
    scored(lambda done, miou: begun.append(done))
    assert begun[0] == (3 if what == "nothing" else 1)


def kept(**changes: Any) -> bytes:
    """A state of the first three images, in which some entries are other ones."""
    entries = {"counts": 9 * np.ones((3, 3), int), "scores": np.ones(3), "numbers": [0, 0, 0],
               "failed": np.array([], str)} | changes  # fmt: skip
    file = io.BytesIO()
    np.savez(file, **entries)
    return file.getvalue()


def array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.ones(3))
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK nonsense",
        b"PK\x03\x04 cut short",
        kept()[:300],
        array(),
        kept(numbers=[0, 0]),
        kept(counts=np.ones((2, 2), int)),
    ],
    ids=["empty", "PK", "cut short", "cut", "array", "two numbers", "other classes"],
)
def test_a_damaged_state_counts_as_none(content: bytes) -> None:
    one = evaluation()
    state = one._state_file()
    state.parent.mkdir(parents=True)
    state.write_bytes(content)
    assert one.run().pixel_accuracy == 100


def test_files_that_cannot_be_read_are_named_and_the_rest_scored() -> None:
    result = evaluation(Pictures(broken=(3, 7))).run()
    assert result.failed == ["3.png: cannot be read", "7.png: cannot be read"]
    assert result.pixel_accuracy == 100


def test_a_label_of_another_size_is_named_and_the_rest_scored() -> None:
    class Odd(Pictures):
        def read_label(self, sample: Sample) -> NDArray[np.uint8]:
            label = super().read_label(sample)
            return label[1:] if sample.id == "04" else label

    result = evaluation(Odd()).run()
    assert result.failed == ["4.png: label is (23, 30), its image (24, 30)"]
    assert result.pixel_accuracy == 100


def test_broken_models_are_caught() -> None:
    def nothing(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.full_like(x, np.nan)

    def favours_one(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return x + np.array([0, 5, 0], np.float32)[:, None, None]

    assert "NaN or infinite on 12 images" in evaluation(model=predictor(nothing)).run().health[0]
    [finding] = evaluation(model=predictor(favours_one)).run().health
    assert "100.0% of the pixels are predicted as 'class 1'" in finding


def test_agreement_with_a_reference() -> None:
    same = evaluation(reference=predictor()).run()
    assert same.health == []
    other = evaluation(reference=predictor(lambda x: -x)).run()
    assert "agrees with the reference model on" in other.health[0]


def test_calibration_images_are_counted() -> None:
    model = predictor(calibrated=("00", "05", "99"))
    assert evaluation(model=model).run().stamp.calibrated_on == 2


def test_models_and_data_must_fit() -> None:
    with pytest.raises(InputError, match="the model has 3 classes but pictures:val has 4"):
        evaluation(Pictures(labels=generic(4)))
    fixed = predictor()
    fixed.engine.signature = Signature.of(3, batch=1, size=(32, 32))
    with pytest.raises(InputError, match="whole needs a model of free size"):
        evaluation(model=fixed)
    with pytest.raises(InputError, match=r"makes inputs of \(64, 64\), the model takes \(32, 32\)"):
        evaluation(model=fixed, protocol="squash-64")


@pytest.mark.parametrize("protocol", ["whole", "center-crop-32", "pad-32", "slide-32"])
def test_report_is_one_file_with_everything(protocol: str, tmp_path: Path) -> None:
    one = evaluation(Pictures(broken=(3,)), protocol=protocol)
    result: Evaluation = one.run()
    path = write_report(one, result, tmp_path / "report")
    page = Page(path.read_text())
    assert [file.name for file in path.parent.iterdir()] == ["index.html"]
    assert "://" not in path.read_text()  # no picture in base64 holds that
    assert page.tags["img"] == 4 * (COUNT - 1)
    for part in (f"{result.mean_iou:.2f} %", result.stamp.ids, "class 2", "3.png: cannot be read"):
        assert part in page.text


def test_classes_that_do_not_occur_come_after_those_never_found(tmp_path: Path) -> None:
    one = evaluation()
    result = one.run()
    iou = dict(zip(result.iou, (None, 0.0, 61.25), strict=True))
    path = write_report(one, result.model_copy(update={"iou": iou}), tmp_path)
    bars = Page(path.read_text()).text.partition("IoU per class, % ")[2].partition("Where")[0]
    names = list(iou)
    assert bars == f"{names[2]} 61.2 {names[1]} 0.0 {names[0]} – does not occur "


def test_an_id_that_stands_twice_is_refused() -> None:
    class Twice(Pictures):
        @property
        def samples(self) -> tuple[Sample, ...]:
            return super().samples + super().samples[:1]

    with pytest.raises(InputError, match="lists '00' more than once"):
        evaluation(Twice())


def test_an_image_that_there_is_no_memory_for_costs_no_other() -> None:
    def small_alone(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        if pixels.shape[2] == 20 + 7:
            raise MemoryError
        return pixels

    result = evaluation(model=predictor(small_alone)).run()
    assert result.failed == ["7.png: not enough memory for it"]
    assert result.mean_iou == 100


def test_images_are_read_by_the_range_of_the_network(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", np.full((1, 8, 8), 819, np.uint16), 16)
    labels = generic(3)
    dataset = Dataset("deep:val", "deep:val", labels, (Sample("a", path, None),), read_ids)
    preprocess = OWN.model_copy(update={"value_range": (0, 4095)})
    engine = FakeEngine(lambda batch: batch, num_classes=3)
    predictor = Predictor(engine, preprocess, labels)
    evaluator = Evaluator(predictor, dataset, Protocol.parse("squash-32"), name="m")
    assert evaluator.dataset.read_image(dataset.samples[0])[0, 0, 0] == 51
    assert evaluator.stamp.data == "deep:val, range 0,4095"
