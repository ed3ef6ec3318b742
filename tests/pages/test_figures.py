"""Charts and pictures as a page shows them."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from atrous.labels import VOC
from atrous.pages.figures import Chart, embedded, levels, painted, scaled, swatches


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0.158, 2.34, ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5"]),
        (0, 10, ["0", "2", "4", "6", "8", "10"]),
        (1.39e-5, 0.00999, ["0.000", "0.002", "0.004", "0.006", "0.008", "0.010"]),
        (61, 72, ["60.0", "62.5", "65.0", "67.5", "70.0", "72.5"]),
        (-3, 4, ["-4", "-2", "0", "2", "4"]),
        (70, 70, ["60", "80"]),
        (0, 0, ["0", "1"]),
        (1e6, 3.1e6, ["1000000", "1500000", "2000000", "2500000", "3000000", "3500000"]),
    ],
)
def test_levels_enclose_what_is_drawn(low: float, high: float, texts: list[str]) -> None:
    found = levels(low, high)
    assert list(found.values()) == texts
    assert min(found) <= low <= high <= max(found)


def test_a_chart_places_values() -> None:
    chart = Chart("dB", (0, 10), (20, 40), "10 layers")
    left, top = chart.place(0, 40)
    right, bottom = chart.place(10, 20)
    assert (left, top, bottom) == (chart.left, 8, chart.height - 8)
    assert right < chart.width
    assert chart.place(5, 30) == ((left + right) / 2, (top + bottom) / 2)
    assert chart.place(5, 90)[1] == top, "beyond the edge is at the edge"
    chart.line([(0, 40), (10, 20)])
    assert chart.lines == [("mean", f"{left},{top} {right},{bottom}")]


def test_a_chart_with_two_scales_and_values_below() -> None:
    chart = Chart("loss and mIoU", (0, 10), (0, 2), size=(760, 280), right=50)
    chart.second({0: "0", 100: "100"})
    assert chart.place(10, 2) == chart.place(10, 100, second=True)
    assert [text for _, text in chart.others] == ["0", "100"]
    chart.tick(5, "5")
    assert chart.ticks == [(chart.place(5, 0)[0], "5")]


def test_a_chart_of_one_value() -> None:
    assert Chart("loss", (0, 0), (0, 1)).place(0, 1) == (60, 8)


def test_pictures() -> None:
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:, 20:] = 200
    assert scaled(picture, 10).shape == (5, 10, 3)
    class_map = np.zeros((20, 40), np.uint8)
    class_map[:, 20:] = 15
    shown = painted(picture, class_map, VOC, 320)
    assert shown.shape[0] > 160, "a legend stands below"
    assert shown.shape[1] == 320
    assert painted(picture, class_map, VOC, 320, legend=False).shape == (160, 320, 3)
    assert swatches(VOC, [15, 0, 255]) == [("person", "#" + bytes(VOC.paint()[45:48]).hex())]
    kind, content = embedded(shown).split(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as decoded:
        assert decoded.size == (320, shown.shape[0])
