"""The web page in a real browser: a photograph goes in, and a person sees and hears its classes."""

import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import atrous
from atrous import image
from atrous.serve.app import PAGE
from tests.builders.browser import LABELS, Pair, Watched, chromium, serving_pair
from tests.builders.server import Pixels, halves, png, until

pytestmark = pytest.mark.heavy

PHOTOGRAPH = image.photograph()
CAT = png(PHOTOGRAPH)
WIDE = {"width": 1280, "height": 860}


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with serving_pair() as pair:
        yield pair


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport=WIDE)
    yield context
    context.close()


@pytest.fixture
def page(context: Any, pair: Pair) -> Iterator[Watched]:
    """The page, which asks nobody else, is not refused and has nothing to complain of."""
    watched = Watched(context.new_page(), pair.url)
    yield watched
    assert watched.complaints == []
    assert watched.refused == []
    assert watched.hosts <= {pair.url.removeprefix("http://"), ""}


def shares(class_map: Pixels) -> dict[str, str]:
    found = image.class_shares(class_map)
    return {LABELS.names[i]: f"{100 * share:.1f} %" for i, share in found.items()}


def test_a_photograph_gets_an_overlay_a_legend_and_times(page: Watched, pair: Pair) -> None:
    page.page.wait_for_selector("#empty")  # as soon as the page is laid out
    assert not page.page.is_visible("#result")
    page.show(CAT, "cat.png")
    assert not page.page.is_visible("#empty")
    expected = shares(pair.class_map("bright", PHOTOGRAPH))
    assert [tuple(row) for row in page.legend()] == list(expected.items())
    assert page.page.inner_text("#name") == "cat.png, 451 × 300"
    times = page.page.inner_text("#times").split()
    steps = {"queue", "decode", "preprocess", "infer", "postprocess", "encode", "transfer"}
    assert steps < set(times)
    assert float(times[-1]) > 0
    assert page.page.locator(".stage:visible").count() == 1


def test_the_slider_changes_the_paint(page: Watched) -> None:
    page.show(png(halves(300, 400)))  # background and cat
    slider = page.page.locator("#opacity")

    def left_and_right(opacity: int) -> list[list[int]]:
        slider.fill(str(opacity))
        seen = page.pixels(".stage")
        height, width = seen.shape[:2]
        return [seen[height // 2, width // 4].tolist(), seen[height // 2, 3 * width // 4].tolist()]

    assert left_and_right(0) == [[200, 0, 0], [0, 200, 0]]
    assert left_and_right(100) == [[200, 0, 0], [220, 40, 0]]  # the background has no paint
    assert left_and_right(50)[1] == pytest.approx([110, 120, 0], abs=2)
    assert page.page.inner_text("#percent") == "50 %"


def test_models_are_switched_and_compared(page: Watched, pair: Pair) -> None:
    page.show(CAT)
    page.page.select_option("#first", "dark")
    page.page.locator("figure strong").filter(has_text="dark").first.wait_for()
    bright, dark = (pair.class_map(name, PHOTOGRAPH) for name in ("bright", "dark"))
    assert [tuple(row) for row in page.legend()] == list(shares(dark).items())
    page.page.select_option("#second", "bright")
    page.page.wait_for_selector(".difference:visible")
    assert page.page.locator(".stage:visible").count() == 3
    differ = f"{100 * np.mean(bright != dark):.1f} %"
    assert f"{differ} of the pixels differ" in page.page.inner_text(".difference")
    firsts = {name: share for name, share, _ in page.legend()}
    seconds = {name: share for name, _, share in page.legend()}
    assert shares(dark).items() <= firsts.items()
    assert shares(bright).items() <= seconds.items()
    said = page.hover(0.5, 0.5)
    y, x = (side // 2 for side in dark.shape)
    names = [LABELS.names[found[y, x]] for found in (dark, bright)]
    assert said.startswith(f"dark: {names[0]}, bright: {names[1]}")
    # The one that is compared with becomes the first: then nothing is left to compare with.
    page.page.select_option("#first", "bright")
    page.page.wait_for_selector(".difference", state="hidden")
    assert page.page.input_value("#second") == ""


def is_grey(pixel: Pixels) -> bool:
    return int(np.ptp(pixel)) <= 2


def test_the_difference_picture_shows_where(page: Watched, pair: Pair) -> None:
    picture = np.full((300, 300, 3), 128, np.uint8)  # a tie is the first class for both
    picture[:, :150] = (200, 100, 0)  # brightest in red, background; darkest in blue, sky
    page.page.select_option("#second", "dark")
    page.show(png(picture))
    page.page.wait_for_selector(".difference:visible")
    seen = page.pixels(".difference .stage")
    height, width = seen.shape[:2]
    assert seen[height // 2, width // 4].tolist() == [255, 45, 120]
    assert is_grey(seen[height // 2, 3 * width // 4])
    share = 100 * np.mean(pair.class_map("bright", picture) != pair.class_map("dark", picture))
    assert f"{share:.1f} %  background → sky" in page.page.inner_text(".difference")


def test_pointing_says_the_class(page: Watched) -> None:
    page.show(png(halves(300, 400)))
    assert page.hover(0.25, 0.5) == "background · column 100, row 150"
    assert page.hover(0.751, 0.25) == "cat · column 300, row 75"
    assert page.page.inner_text(".cursor:visible") == "cat"
    page.page.mouse.move(5, 5)
    assert page.readout.startswith("Point at the picture")


def test_a_class_alone(page: Watched) -> None:
    page.show(png(halves(300, 400)))
    page.page.locator("#opacity").fill("100")
    swatch = "getComputedStyle(document.querySelector('[data-name={}] .swatch')).backgroundColor"
    assert page.page.evaluate(swatch.format("cat")) == "rgb(220, 40, 0)"
    assert page.page.evaluate(swatch.format("background")) == "rgba(0, 0, 0, 0)"  # bare
    page.page.click("[data-name=background]")
    assert page.page.evaluate(swatch.format("background")) == "rgb(0, 0, 0)"
    assert page.page.get_attribute("[data-name=background]", "aria-pressed") == "true"
    seen = page.pixels(".stage")
    height, width = seen.shape[:2]
    assert seen[height // 2, width // 4].tolist() == [0, 0, 0]  # now it has paint
    assert is_grey(seen[height // 2, 3 * width // 4])
    page.page.click("#all")
    assert page.pixels(".stage")[height // 2, 3 * width // 4].tolist() == [220, 40, 0]


def test_keys_are_enough(page: Watched) -> None:
    keys = page.page.keyboard
    page.tab_to("#sample")
    keys.press("Enter")
    page.page.wait_for_selector("#result:visible")
    assert page.page.inner_text("#name") == "cat.jpg, 451 × 300"
    assert page.page.evaluate("document.activeElement.className") == "stage"
    keys.press("ArrowRight")
    assert page.readout.endswith("column 225, row 150")
    keys.press("ArrowDown")
    keys.press("Shift+ArrowLeft")
    assert page.readout.endswith("column 224, row 162")
    name = page.readout.partition(" · ")[0]
    keys.press("Enter")
    assert page.page.get_attribute(f"[data-name='{name}']", "aria-pressed") == "true"
    keys.press("Escape")
    assert page.page.locator("[aria-pressed=true]").count() == 0
    for _ in range(20):
        keys.press("ArrowDown")
    assert page.readout.endswith(", row 299")
    page.tab_to(".class")
    keys.press("Enter")
    assert page.page.evaluate("document.activeElement.ariaPressed") == "true"
    keys.press("Space")
    assert page.page.evaluate("document.activeElement.ariaPressed") == "false"
    page.tab_to("#opacity")
    keys.press("Home")
    assert page.page.inner_text("#percent") == "0 %"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.page.evaluate(outline) == "solid"


def test_everything_has_a_name(page: Watched) -> None:
    page.show(CAT)
    nameless = """() => [...document.querySelectorAll('button, input, select, [tabindex]')]
        .filter(one => one.checkVisibility())
        .filter(one => !(one.ariaLabel || one.innerText || one.labels?.length))
        .map(one => one.outerHTML)"""
    assert page.page.evaluate(nameless) == []
    assert "seen by bright: " in page.page.get_attribute(".stage", "aria-label")


def test_paste(page: Watched, context: Any) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.page.evaluate(
        """async () => {
            const canvas = new OffscreenCanvas(30, 20);
            canvas.getContext("2d").fillRect(0, 0, 9, 9);
            const blob = await canvas.convertToBlob();
            await navigator.clipboard.write([new ClipboardItem({"image/png": blob})]);
        }"""
    )
    page.page.keyboard.press("Control+V")
    page.page.wait_for_selector("#result:visible")
    assert page.page.inner_text("#name").endswith(", 30 × 20")


def test_drop(page: Watched) -> None:
    dropped = page.page.evaluate_handle(
        """bytes => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "dropped.png", {type: "image/png"}));
            return data;
        }""",
        [*png(halves(20, 30))],
    )
    page.page.dispatch_event("#empty", "drop", {"dataTransfer": dropped})
    page.page.wait_for_selector("#result:visible")
    assert page.page.inner_text("#name") == "dropped.png, 30 × 20"


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_turned_photographs(page: Watched, orientation: int) -> None:
    picture = halves(90, 120)
    picture[:45, :60] = (0, 0, 200)  # sky in one corner
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = BytesIO()
    Image.fromarray(picture).save(file, "JPEG", exif=exif, quality=95)
    page.show(file.getvalue(), "turned.jpg", "image/jpeg")
    page.page.locator("#opacity").fill("0")
    width, height = (120, 90) if orientation == 3 else (90, 120)
    assert page.page.inner_text("#name") == f"turned.jpg, {width} × {height}"
    seen = page.pixels(".stage")
    sky = {3: (0.75, 0.75), 6: (0.75, 0.25), 8: (0.25, 0.75)}[orientation]
    at = tuple(int(sky[axis] * seen.shape[1 - axis]) for axis in (1, 0))
    assert seen[at][2] > 150 > seen[at][0]
    assert page.hover(*sky).startswith("sky")


def test_a_kind_of_picture_that_the_browser_cannot_show(page: Watched) -> None:
    page.show(png(halves(90, 120), "TIFF"), "scan.tif", "image/tiff")
    assert "cannot show the picture" in page.page.inner_text("figcaption")
    assert page.hover(0.75, 0.5).startswith("cat")


@pytest.mark.parametrize("output", ["mask", "overlay"])
def test_results_are_saved(page: Watched, pair: Pair, output: str, tmp_path: Path) -> None:
    page.show(CAT, "my cat.png")
    with page.page.expect_download() as started:
        page.page.click(f"[data-output={output}]")
    assert started.value.suggested_filename == f"my cat-bright-{output}.png"
    started.value.save_as(tmp_path / "saved.png")
    saved = Image.open(BytesIO((tmp_path / "saved.png").read_bytes()))
    if output == "mask":
        assert saved.mode == "P"
        np.testing.assert_array_equal(np.asarray(saved), pair.class_map("bright", PHOTOGRAPH))
    else:
        assert saved.width == 451
        assert saved.height > 300


def test_a_narrow_screen_needs_no_sideways_scrolling(page: Watched) -> None:
    page.page.set_viewport_size({"width": 390, "height": 844})
    width = "document.documentElement.scrollWidth"
    assert page.page.evaluate(width) == 390
    page.page.select_option("#second", "dark")
    page.show(CAT)
    assert page.page.evaluate(width) == 390


def test_a_dark_theme(page: Watched) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.page.evaluate(ground) == "rgb(255, 255, 255)"
    page.page.emulate_media(color_scheme="dark")
    assert page.page.evaluate(ground) == "rgb(20, 22, 27)"


def test_refusals_are_said_and_the_last_result_stays(context: Any) -> None:
    with serving_pair(max_pixels=10_000) as pair:
        page = Watched(context.new_page(), pair.url)
        page.show(png(halves(50, 80)), "first.png")
        before = page.legend()
        for name, data, status, message in (
            ("broken.png", b"no picture", 422, "not a picture of a known kind"),
            ("large.png", png(halves(101, 100)), 413, "10100 pixels, the limit is 10000"),
            ("empty.png", b"", 400, "expected an image file"),
        ):
            page.upload(data, name)
            page.page.locator("#message").filter(has_text=name).wait_for()
            assert message in page.page.inner_text("#notice")
            assert not page.page.is_visible("#again")
            assert page.refused.pop() == status
        assert page.page.inner_text("#name").startswith("first.png")
        assert page.legend() == before
        page.page.click("#dismiss")
        assert not page.page.is_visible("#notice")
        assert page.complaints == page.refused == []


def test_a_busy_server_is_asked_again(context: Any) -> None:
    with serving_pair(queue=1) as pair:
        page = Watched(context.new_page(), pair.url)
        pair.engine.go.clear()
        other = threading.Thread(
            target=httpx.post, args=(f"{pair.url}/v1/segment",), kwargs={"content": CAT}
        )
        other.start()
        until(lambda: bool(pair.engine.calls))
        page.upload(CAT)
        page.page.get_by_text("The server is busy, trying again in 1 s").wait_for()
        pair.engine.go.set()
        other.join(10)
        page.page.wait_for_selector("#result:visible")
        assert not page.page.is_visible("#notice")
        assert set(page.refused) == {503}
        assert page.complaints == []


def test_a_picture_may_come_before_the_models_are_known(context: Any, pair: Pair) -> None:
    page = context.new_page()
    held: list[Any] = []
    page.route("**/v1/models", lambda route: held.append(route))
    watched = Watched(page, pair.url)
    watched.upload(CAT)
    assert held
    page.unroute("**/v1/models")  # lets them go
    page.wait_for_selector("#result:visible")
    assert watched.legend()
    assert not page.is_visible("#empty")


def test_the_last_wish_counts(page: Watched, pair: Pair) -> None:
    page.show(CAT)
    pair.engine.go.clear()
    try:
        page.page.click("#rerun")
        page.page.get_by_text("Segmenting with bright").wait_for()
        page.page.select_option("#first", "dark")
        page.page.locator("figure strong").filter(has_text="dark").first.wait_for()
    finally:
        pair.engine.go.set()
    page.settle()
    assert page.page.locator("figure strong").first.inner_text() == "dark"
    assert not page.page.is_visible("#notice")


def test_a_server_that_is_gone(context: Any) -> None:
    with serving_pair() as pair:
        page = Watched(context.new_page(), pair.url)
        page.show(CAT)
    page.page.select_option("#first", "dark")
    page.page.wait_for_selector("#again:visible")
    assert "does not answer" in page.page.inner_text("#message")
    assert page.page.is_visible("#result")


def test_a_key_is_asked_for(context: Any) -> None:
    with serving_pair(key="open-sesame") as pair:
        page = Watched(context.new_page(), pair.url)
        page.page.get_by_text("This server asks for an API key").wait_for()
        page.page.fill("#secret", "wrong")
        page.page.keyboard.press("Enter")
        page.page.get_by_text("This server does not accept this API key").wait_for()
        page.page.fill("#secret", "open-sesame")
        page.page.keyboard.press("Enter")
        page.page.wait_for_selector("#empty:visible")
        assert not page.page.is_visible("#notice")
        page.show(CAT)
        page.page.reload()
        page.page.wait_for_selector("#empty:visible")  # the key is kept as long as the tab is open
        assert page.refused == [401, 401]
        assert page.complaints == []


def test_the_sample_is_the_packages_photograph() -> None:
    """One picture with one licence, in NOTICE."""
    asset = Path(atrous.__file__).parent / "assets" / "photograph.jpg"
    assert (PAGE / "sample.jpg").read_bytes() == asset.read_bytes()


def test_modules_stay_small() -> None:
    lines = {file.name: len(file.read_text().splitlines()) for file in PAGE.glob("*.js")}
    assert len(lines) >= 4
    assert max(lines.values()) <= 400
