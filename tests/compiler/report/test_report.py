"""What a compile says it did, as JSON, on a page and in the terminal."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from atrous.compiler.int8.budget import Attempt
from atrous.compiler.report import page as report_page
from atrous.compiler.report.int8 import Int8
from atrous.compiler.report.report import (
    AccuracyChange,
    Agreement,
    CompileReport,
    StageScores,
)
from atrous.compiler.rewrites import Rewrite
from atrous.engines.profile import Layer, Profile
from atrous.errors import ConfigError
from atrous.evaluation.result import Evaluation, Stamp
from atrous.formatting import as_change, as_ms, as_points, as_share, shortened
from tests.builders.html import Page


def rewrite(name: str, summary: str, before: float, after: float, **more: Any) -> Rewrite:
    return Rewrite(name=name, summary=summary, gmacs_before=before, gmacs_after=after, **more)


REWRITES = (
    rewrite("fold", "Fold it.", 17, 17, places=("nodes removed: 112",)),
    rewrite("norm", "Norms.", 17, 17, left=("n1: two readers",)),
    rewrite("pool", "Pools.", 17, 17),
    rewrite("decoder", "Convolve.", 17, 8.5, places=("x", "y")),
    rewrite("other", "Others.", 8.5, 8.5, skipped=True),
)


def result(mean_iou: float, more: dict[str, Any] | None = None, **stamp: Any) -> Evaluation:
    plain: dict[str, Any] = {
        "protocol": "squash-513",
        "resize": "opencv-bilinear",
        "data": "voc:val",
        "images": 725,
        "ids": "abc",
        "labels": "voc",
        "ignore_index": 255,
        "absent": "skip",
        "model": "default",
        "identity": "f00",
        "precision": "fp16",
        "engine": "onnxruntime 1.0 cpu",
    }
    return Evaluation(
        stamp=Stamp(**(plain | stamp)),
        pixel_accuracy=90.0,
        mean_accuracy=75.0,
        frequency_weighted_iou=83.0,
        mean_iou=mean_iou,
        iou={"background": 91.0},
        confusion=[[1]],
        **(more or {}),
    )


def timed(milliseconds: float, count: int) -> Profile:
    return Profile(
        engine="openvino",
        version="2026.1",
        threads=2,
        runs=10,
        milliseconds=milliseconds,
        spread=(milliseconds - 1, milliseconds + 1),
        layers=tuple(
            Layer(
                name=f"layer<{n}>",
                operator="Convolution" if n else "MatMul",
                kernel="jit_avx2",
                milliseconds=milliseconds / count,
                share=1 / count,
            )
            for n in range(count)
        ),
    )


def report(**more: Any) -> CompileReport:
    values: dict[str, Any] = {
        "name": "small",
        "source": "weights/<small>.pth",
        "source_sha256": "f00d",
        "precision": "fp16",
        "input_shape": (1, 3, 513, 513),
        "input_dtype": "float32",
        "engine": "openvino",
        "engine_version": "2026.1",
        "threads": 2,
        "rewrites": REWRITES,
        "gmacs_before": 17,
        "gmacs_after": 8.5,
        "bytes_before": 21_000_000,
        "bytes_after": 10_500_000,
    }
    return CompileReport(**(values | more))


def whole() -> CompileReport:
    return report(
        notes=("Labels <voc> were assumed.",),
        without_effect=("backend.type", "a.b", "a.c", "a.d", "a.e"),
        agreement=Agreement(
            images=3, agreement=0.99999961, largest_difference=1.3e-5, logit_range=31.42
        ),
        before=timed(100, 40),
        after=timed(40, 30),
        accuracies=(AccuracyChange.between(result(64.0), result(63.99, precision="fp16")),),
    )


def quantised(**more: Any) -> Int8:
    values: dict[str, Any] = {
        "method": "mse",
        "images": 49,
        "unreadable": ("<b>.jpg: the file is empty",),
        "weight_bits": 7,
        "processor": "avx2",
        "layers": 37,
        "kept": {"first": "sees the <pixels>"},
        "noise": {f"layer<{n}>": 20.0 + n for n in range(30)} | {"first": 12.5},
        "returned": ("layer<0>", "layer<1>"),
        "attempts": (
            Attempt(floats=(), drop=0.61),
            Attempt(floats=("layer<0>",), drop=0.12),
            Attempt(floats=("layer<0>", "layer<1>"), drop=-0.02),
        ),
    }
    return Int8(**(values | more))


def staged(*scores: float) -> tuple[StageScores, ...]:
    names = ("input", "rewritten", "fp16", "int8")
    return tuple(
        StageScores(name=name, mean_iou=score, pixel_accuracy=90.5)
        for name, score in zip(names, scores, strict=False)
    )


def read_page(saved: CompileReport, folder: Path) -> Page:
    report_page.save(saved, folder)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "one",
    [report(), whole(), report(int8=quantised(), stages=staged(64, 63.5))],
    ids=["least", "whole", "int8"],
)
def test_round_trip(one: CompileReport, tmp_path: Path) -> None:
    report_page.save(one, tmp_path / "new")
    assert (
        CompileReport.load(tmp_path / "new")
        == CompileReport.load(tmp_path / "new/report.json")
        == one
    )
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["report.html", "report.json"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"name": "x"}'])
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(ConfigError, match=r"report\.json: not a report of atrous compile"):
        CompileReport.load(tmp_path)
    with pytest.raises(ConfigError, match="not a report of atrous compile"):
        CompileReport.load(tmp_path / "absent")


def test_what_was_not_measured_is_absent(tmp_path: Path) -> None:
    page = read_page(report(), tmp_path)
    stored = json.loads((tmp_path / "report.json").read_text())
    assert not {"agreement", "before", "after", "accuracies"} & set(stored)
    assert page.headings == ["What was rewritten", "What was compiled"]
    assert "mIoU" not in page.text
    assert "as fast" not in page.text
    assert not any("time on" in line or "mIoU" in line for line in report().lines())


def test_the_file_in_plain_numbers(tmp_path: Path) -> None:
    report_page.save(whole(), tmp_path)
    stored = json.loads((tmp_path / "report.json").read_text())
    assert stored["rewrites"][3] == {
        "name": "decoder",
        "summary": "Convolve.",
        "places": ["x", "y"],
        "left": [],
        "skipped": False,
        "gmacs_before": 17.0,
        "gmacs_after": 8.5,
    }
    assert stored["agreement"]["agreement"] == 0.99999961
    assert stored["accuracies"][0]["mean_iou_points"] == -0.01
    assert stored["after"]["milliseconds"] == 40
    assert stored["atrous"]


def test_the_page(tmp_path: Path) -> None:
    page = read_page(whole(), tmp_path)
    assert page.headings == [
        "What was rewritten",
        "Accuracy",
        "Time of a run on openvino 2026.1, 2 threads",
        "Slowest layers of the compiled model",
        "Time by operator",
        "What was compiled",
        "Notes",
        "No effect here",
    ]
    for text in (
        "small, fp16",
        "2.50×",
        "8.50 GMAC",
        "-50.0 %",
        "10.5 MB",
        "99.9999 %",
        "63.99 %",
        "mIoU, -0.01 points",
        "nodes removed: 112",
        "left alone: n1: two readers",
        "its pattern is not in this network",
        "switched off",
        "8.500",
        "layer<24>",
        "5 faster ones",
        "weights/<small>.pth",
        "Labels <voc> were assumed.",
        "backend.type",
        "Both models were run in turn, and do the same work.",
        "both up to the logits, without the last resize",
        "on the photograph in the package, its mirror image and its turn by 90°",
    ):
        assert text in page.text, text
    assert "layer<25>" not in page.text


def test_int8_on_the_page(tmp_path: Path) -> None:
    change = AccuracyChange.between(result(64.0), result(63.79, precision="int8"))
    stages = staged(64.0, 64.0, 64.01, 63.79)
    one = report(
        int8=quantised(), stages=stages, accuracies=(change,), source="a/<float>.onnx", name="8"
    )
    page = read_page(one, tmp_path)
    assert page.headings == [
        "What was rewritten",
        "int8",
        "Accuracy",
        "Where accuracy went",
        "Noise of each layer if it alone is int8, noisiest first",
        "What was compiled",
    ]
    for text in (
        "37 of 40 in int8",
        "by mse on 49 images",
        "7 bits, on a processor with avx2",
        "sees the <pixels>",
        "returned to float, to hold max_drop",
        "-0.61",
        "+0.02",
        "<b>.jpg: the file is empty",
        "from 63.69 to 64.11 % mIoU",
        "-0.22",
        "+0.01",
        "12.5",
        "layer<23>",
        "6 cleaner ones",
        "≥ 44.0",
        f"atrous compile --explain 'a/<float>.onnx' {tmp_path}/mod --images FOLDER",
    ):
        assert text in page.text, text
    assert "layer<24>" not in page.text
    assert page.text.count("in float") == 1 + 3 + 1  # heads, list and sentence


def test_int8_that_was_not_evaluated(tmp_path: Path) -> None:
    least = quantised(unreadable=(), kept={}, noise={}, returned=(), attempts=())
    page = read_page(report(int8=least), tmp_path)
    assert page.headings == ["What was rewritten", "int8", "What was compiled"]
    assert "37 of 37 in int8" in page.text
    for text in ("--explain", "max_drop", "in float", "not calibrated on"):
        assert text not in page.text


@pytest.mark.parametrize(
    ("scores", "bars"),
    [
        # From 0.1 or 15 % of the span below the lowest stage to as much above the highest.
        ((70, 70, 69), [("", 0, 1.15), ("", 1.15, 0), ("lost", 0.15, 1)]),
        ((50, 50), [("", 0, 0.1), ("", 0.1, 0)]),
        ((50, 50.5), [("", 0, 0.1), ("won", 0.1, 0.5)]),
        ((10, 0), [("", 0, 10), ("lost", 0, 10)]),
    ],
)
def test_steps_of_accuracy(
    scores: tuple[float, ...], bars: list[tuple[str, float, float]], tmp_path: Path
) -> None:
    report_page.save(report(stages=staged(*scores)), tmp_path)
    text = (tmp_path / "report.html").read_text()
    pattern = r'<i(?: class="(\w+)")? style="left:([\d.]+)%;width:([\d.]+)%">'
    found = re.findall(pattern, text.partition("<h2>Where accuracy went")[2])
    edge = max(0.1, 0.15 * (max(scores) - min(scores)))
    span = max(scores) + edge - max(0, min(scores) - edge)
    expected = [(kind, 100 * left / span, 100 * width / span) for kind, left, width in bars]
    assert [one[0] for one in found] == [one[0] for one in expected]
    for one, wanted in zip(found, expected, strict=True):
        assert [float(value) for value in one[1:]] == pytest.approx(wanted[1:], abs=0.01)


def test_stages_in_the_terminal() -> None:
    lines = report(stages=staged(64, 64, 63.9, 63.5), int8=quantised()).lines()
    assert (
        "mIoU after each step: input 64.00 → rewritten 64.00 → fp16 63.90 → int8 63.50 %" in lines
    )
    assert "int8: 37 of 40 layers, mse on 49 images, 7-bit weights (avx2)" in lines


@pytest.mark.parametrize(
    ("precision", "arithmetic", "text"),
    [
        ("fp16", "fp32", "fp16"),
        ("fp32", "bf16", "fp32 computed in bf16"),
        ("int8", "fp32", "int8"),
        ("int8", "bf16", "int8, the rest computed in bf16"),
    ],
)
def test_how_it_is_stored_and_computed(precision: str, arithmetic: str, text: str) -> None:
    one = report(precision=precision, arithmetic=arithmetic)
    assert one.lines()[0].startswith(f"small: {text}, input 1×3×513×513")


def test_int8_of_every_layer_says_nothing_of_others() -> None:
    least = quantised(unreadable=(), kept={}, returned=(), attempts=())
    assert least.lines() == ["int8: 37 of 37 layers, mse on 49 images, 7-bit weights (avx2)"]


def test_a_time_alone_is_no_comparison() -> None:
    assert report(after=timed(40, 3)).faster == 1
    assert report(before=timed(40, 3)).faster == 1
    assert report(before=timed(40, 3), after=timed(10, 3)).faster == 4


def test_the_input_model_may_not_run_there(tmp_path: Path) -> None:
    one = report(after=timed(40, 3))
    page = read_page(one, tmp_path)
    assert "40.0 ms" in page.text
    assert "as fast" not in page.text
    assert "Both models were run" not in page.text
    assert "time on openvino 2026.1, 2 threads: 40.0 ms a run" in one.lines()


def test_the_terminal() -> None:
    assert whole().lines() == [
        "small: fp16, input 1×3×513×513 float32, from weights/<small>.pth",
        "fold: nodes removed: 112",
        "norm: not applied; left alone: n1: two readers",
        "pool: its pattern is not in this network",
        "decoder: x; y, 8.500 GMAC saved",
        "other: switched off",
        "work: 17.00 → 8.50 GMAC (-50.0 %)",
        "file: 21.0 MB → 10.5 MB (-50.0 %)",
        "time on openvino 2026.1, 2 threads: 100.0 ms → 40.0 ms a run (2.50× as fast; both up "
        "to the logits, without the last resize)",
        "agreement with the input model: same class on 99.9999 % of the pixels of the photograph "
        "in the package, its mirror image and its turn by 90°, largest difference of a "
        "logit 1.3e-05 in a range of 31.4",
        "squash-513 on voc:val, 725 images: mIoU 64.00 → 63.99 % (-0.01 points)",
        "no effect here: backend.type, a.b, a.c, a.d and 1 more",
    ]


def test_accuracies_of_other_measurements_are_refused() -> None:
    with pytest.raises(ConfigError, match="before and after cannot stand in one table: protocol"):
        AccuracyChange.between(result(64), result(64, protocol="native"))


def test_what_speaks_against_an_accuracy_is_shown(tmp_path: Path) -> None:
    change = AccuracyChange.between(
        result(64.0, {"failed": ["a.jpg: damaged"]}),
        result(3.5, {"health": ["one class <everywhere>"]}, calibrated_on=7),
    )
    assert change.warnings == (
        "input model: not scored: a.jpg: damaged",
        "compiled model: one class <everywhere>",
        "the compiled model was calibrated on 7 of these images",
    )
    one = report(accuracies=(change,))
    assert "one class <everywhere>" in read_page(one, tmp_path).text
    assert one.lines()[-1] == "  warning: input model: not scored: a.jpg: damaged and 2 more"


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (as_share(1.0), "100 %"),
        (as_share(0.99999999), "99.9999 %"),
        (as_share(0.5), "50.0000 %"),
        (as_points(-0.004), "0.00"),
        (as_points(0.02), "+0.02"),
        (as_change(2, 2), "unchanged"),
        (as_change(2, 3), "+50.0 %"),
        (as_change(0, 3), "new"),
        (as_ms(123.456), "123.5 ms"),
        (as_ms(1.234), "1.23 ms"),
        (as_ms(0.0123), "0.012 ms"),
        (shortened(["a", "b", "c"], 2), "a; b and 1 more"),
        (shortened(["a", "b"], 2, ", "), "a, b"),
    ],
)
def test_numbers_for_people(shown: str, text: str) -> None:
    assert shown == text


@pytest.mark.parametrize(
    ("threads", "text"), [(0, "one thread per core"), (1, "1 thread"), (4, "4 threads")]
)
def test_threads_in_words(threads: int, text: str) -> None:
    assert report(threads=threads).engine_text == f"openvino 2026.1, {text}"
    assert report(threads=threads, engine_version="").engine_text == f"openvino, {text}"


def test_a_long_bar_is_much_noise(tmp_path: Path) -> None:
    noise = {"loud": 10.0, "middle": 20.0, "quiet": 40.0}
    report_page.save(report(int8=quantised(noise=noise)), tmp_path)
    text = (tmp_path / "report.html").read_text().partition("noisiest first")[2]
    assert "noise as a share of the signal" in text
    rows = re.findall(
        r'<td class="n">([\d.]+)<td class="n">([\d.]+)<td class="bar"><i style="width:([\d.]+)',
        text,
    )
    shares, decibels, widths = zip(*((float(v) for v in row) for row in rows), strict=True)
    assert decibels == (10.0, 20.0, 40.0)
    assert shares == (31.62, 10.0, 1.0)
    assert widths == pytest.approx([100 * share / shares[0] for share in shares], abs=0.05)
