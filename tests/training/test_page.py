"""The page of a run, as a browser shows it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from atrous.pages.figures import embedded
from atrous.training.checkpoint import SplitRecord, State
from atrous.training.config import Recipe
from atrous.training.progress import Entry
from atrous.training.report import PAGE, Shown, write_page
from tests.builders.browser import chromium

Make = Callable[..., Recipe]


def begun(recipe: Recipe) -> State:
    train = SplitRecord(name="own:train", images=60, ids="0" * 16)
    return State(atrous="0", recipe=recipe.values(), train=train)


def written(folder: Path, recipe: Recipe, scores: int) -> str:
    """The page of a run with so many scores, its names and hashes long."""
    classes = ("background", "a class with a long name of many words", "zebra-crossing")
    entries = [
        Entry(iteration=20 * i, loss=1 / i, rate=0.0005 * (1 - i / 26)) for i in range(1, 26)
    ]
    for i in range(1, scores + 1):
        iou = dict.fromkeys(classes, 50.0 + 4 * i)
        entries.append(Entry(iteration=100 * i, score=50.0 + 4 * i, iou=iou))
    start = [f"start: 354 tensors loaded from default (sha256 {'0123456789abcdef' * 4})"]
    state = begun(recipe).model_copy(update={"iteration": 500, "start": start})
    picture = embedded(np.zeros((128, 128, 3), np.uint8))
    shown = {name: picture for name in ("image", "truth", "prediction", "wrong pixels")}
    seen = Shown([("worst: a", shown)], [(name, "#123456") for name in classes])
    write_page(folder, recipe, state, entries, None, seen)
    return (folder / PAGE).read_text()


def test_classes_have_charts_from_the_second_score_on(tmp_path: Path, recipe: Make) -> None:
    assert "IoU of each class over iterations" not in written(tmp_path, recipe(), 1)
    assert written(tmp_path, recipe(), 2).count("<svg") == 2 + 3


def test_a_long_log_is_drawn_as_it_is_and_as_means(tmp_path: Path, recipe: Make) -> None:
    own = recipe()
    for count, raw in ((80, 0), (81, 1)):
        entries = [Entry(iteration=i, loss=1 / i, rate=0.1) for i in range(1, count + 1)]
        write_page(tmp_path, own, begun(own), entries, None, Shown())
        html = (tmp_path / PAGE).read_text()
        assert html.count('<polyline class="raw"') == raw, count


def test_a_class_that_never_occurs_has_no_chart(tmp_path: Path, recipe: Make) -> None:
    own = recipe()
    entries = [
        Entry(iteration=100 * i, score=50.0, iou={"road": 50.0, "car": None}) for i in (1, 2)
    ]
    write_page(tmp_path, own, begun(own), entries, None, Shown())
    html = (tmp_path / PAGE).read_text()
    assert "IoU of road" in html
    assert "IoU of car" not in html


@pytest.mark.heavy
@pytest.mark.parametrize("width", [1400, 500, 360])
def test_nothing_overflows_and_text_is_legible(width: int, tmp_path: Path, recipe: Make) -> None:
    written(tmp_path, recipe(), 5)
    with chromium() as browser:
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto((tmp_path / PAGE).as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width
        heights = page.evaluate(
            "[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)"
        )
        assert min(heights) > 10
