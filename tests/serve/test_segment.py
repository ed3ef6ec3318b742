"""`/v1`: pictures in, masks, overlays and JSON out; several models; the page's files."""

import gzip
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from atrous.labels import VOC
from tests.builders.server import BROKEN, Live, Pixels, halves, png, serving


def test_mask_is_a_palette_png_of_class_ids(live: Live) -> None:
    answer = live.segment(png(halves()))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    mask = Image.open(BytesIO(answer.content))
    assert mask.mode == "P"
    expected = live.service.models["small"].predictor(halves()).class_map()
    np.testing.assert_array_equal(np.asarray(mask), expected)
    assert set(np.unique(expected)) == {0, 1}
    assert "infer;dur=" in answer.headers["server-timing"]


def test_json_has_runs_that_make_the_mask(live: Live) -> None:
    document = live.segment(png(halves(6, 10)), output="json").json()
    assert (document["model"], document["width"], document["height"]) == ("small", 10, 6)
    ids, lengths = np.array(document["runs"]).T
    expected = live.service.models["small"].predictor(halves(6, 10)).class_map()
    np.testing.assert_array_equal(np.repeat(ids, lengths).reshape(6, 10), expected)
    assert len(document["runs"]) == 12
    assert {row["id"]: row["pixels"] for row in document["classes"]} == {0: 30, 1: 30}
    assert sum(row["share"] for row in document["classes"]) == pytest.approx(1)
    assert document["classes"][0]["name"] == "class 0"
    steps = {"queue", "decode", "preprocess", "infer", "postprocess", "encode"}
    assert set(document["seconds"]) == steps


def test_overlay_follows_the_opacity(live: Live) -> None:
    def painted(opacity: float) -> Pixels:
        answer = live.segment(png(halves(40, 60)), output="overlay", opacity=opacity)
        return np.asarray(Image.open(BytesIO(answer.content)).convert("RGB"))

    faint, strong = painted(0), painted(1)
    np.testing.assert_array_equal(faint[5, 5], (200, 0, 0))
    assert tuple(strong[5, 5]) != (200, 0, 0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_kinds_of_pictures(live: Live, kind: str) -> None:
    assert live.segment(png(halves(), kind)).status_code == 200


def test_form_and_compressed_bodies(live: Live) -> None:
    data = png(halves())
    plain = live.segment(data).content
    form = live.client.post("/v1/segment", files={"image": ("a.png", data, "image/png")})
    assert form.content == plain
    for name, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        headers = {"content-encoding": name}
        answer = live.client.post("/v1/segment", content=pack(data), headers=headers)
        assert answer.content == plain, name


def test_models_are_chosen_by_name(live: Live) -> None:
    models = live.client.get("/v1/models").json()["models"]
    assert [(row["name"], row["default"]) for row in models] == [("small", True), ("voc", False)]
    assert models[1]["labels"]["ignore_index"] == 255
    assert models[1]["labels"]["classes"][8] == {
        "id": 8, "name": "cat", "colour": "#400000", "paint": "#009e73",
        "painted": True,
    }  # fmt: skip
    assert models[1]["input"] == {"height": 8, "width": 8}
    assert len(models[1]["labels"]["classes"]) == VOC.num_classes
    document = live.segment(png(halves()), model="voc", output="json").json()
    assert document["model"] == "voc"
    assert [row["name"] for row in document["classes"]] == ["background", "aeroplane"]


BAD = {
    "empty": (b"", {}, {}, 400, "expected an image file"),
    "no picture": (b"not a picture", {}, {}, 422, "not a picture of a known kind"),
    "cut off": (png(halves(64, 64))[:80], {}, {}, 422, "cannot be read"),
    "program": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        {},
        {},
        422,
        "PostScript, which is not opened",
    ),
    "model": (b"x", {"model": "big"}, {}, 404, "no model 'big'; there are small, voc"),
    "output": (b"x", {"output": "text"}, {}, 422, "query.output"),
    "misspelt": (
        b"x",
        {"ouput": "json"},
        {},
        422,
        "query.ouput: unknown; expected model, output, opacity, range, bands",
    ),
    "opacity": (b"x", {"opacity": 2}, {}, 422, "query.opacity"),
    "not a number": (b"x", {"opacity": "nan"}, {}, 422, "query.opacity"),
    "encoding": (b"x", {}, {"content-encoding": "br"}, 415, "expected gzip or deflate"),
    "not gzip": (b"x", {}, {"content-encoding": "gzip"}, 400, "damaged or cut off"),
    "half a gzip": (gzip.compress(bytes(999))[:20], {}, {"content-encoding": "gzip"}, 400, "cut"),
    "form": (b"x", {}, {"content-type": "multipart/form-data; boundary=b"}, 400, "form"),
    "no boundary": (b"x", {}, {"content-type": "multipart/form-data"}, 400, "form"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said(live: Live, name: str) -> None:
    content, query, headers, status, message = BAD[name]
    answer = live.client.post("/v1/segment", content=content, params=query, headers=headers)
    assert answer.status_code == status
    assert message in answer.json()["error"]


def test_a_form_without_the_field(live: Live) -> None:
    answer = live.client.post("/v1/segment", files={"picture": ("a.png", b"x", "image/png")})
    assert answer.status_code == 400
    assert "'image'" in answer.json()["error"]


def test_a_network_that_fails_is_the_servers_fault(live: Live) -> None:
    answer = live.segment(png(np.full((8, 8, 3), BROKEN, np.uint8)))
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] in answer.json()["error"]
    assert live.segment(png(halves())).status_code == 200


def test_metrics_count_by_route_model_and_status() -> None:
    with serving() as live:
        live.segment(png(halves()))
        live.segment(b"no picture")
        live.client.get("/nowhere")
        text = live.client.get("/metrics").text
    route = 'method="POST",model="small",route="/v1/segment"'
    assert f'atrous_requests_total{{{route},status="200"}} 1.0' in text
    assert f'atrous_requests_total{{{route},status="422"}} 1.0' in text
    assert 'atrous_requests_total{method="other",model="",route="",status="404"} 1.0' in text
    assert 'atrous_step_seconds_count{model="small",step="infer"} 1.0' in text
    assert 'atrous_batch_images_count{model="small"} 1.0' in text
    assert 'atrous_under_way{model="small"} 0.0' in text
    assert 'atrous_model_info{engine="fake",identity="",model="voc",precision=""} 1.0' in text
    assert "process_resident_memory_bytes" in text


def test_request_ids(live: Live) -> None:
    echoed = live.client.get("/v2", headers={"x-request-id": "job-7"})
    assert echoed.headers["x-request-id"] == "job-7"
    made = live.client.get("/v2", headers={"x-request-id": 'a" b'}).headers["x-request-id"]
    assert len(made) == 32


def deep() -> bytes:
    """`halves` in 12 of 16 bits, as red alone."""
    file = BytesIO()
    Image.fromarray(halves()[..., 0].astype(np.uint16) * 16).save(file, "PNG")
    return file.getvalue()


def test_a_range_of_stored_values(live: Live) -> None:
    answer = live.segment(deep(), output="json")
    assert answer.headers["atrous-note"] == answer.json()["notes"][0]
    assert "the image: most values are between 0 and 3200 of" in answer.headers["atrous-note"]
    assert "`range` 0,4095 would take these" in answer.headers["atrous-note"]
    told = live.segment(deep(), output="json", range="0,4080")
    assert "atrous-note" not in told.headers
    grey = Image.fromarray(halves()[..., 0])
    file = BytesIO()
    grey.save(file, "PNG")
    assert told.json()["runs"] == live.segment(file.getvalue(), output="json").json()["runs"]
    assert told.json()["notes"] == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"range": "5,5"}, "`range`: expected LOW,HIGH, two numbers of which the first is smaller"),
        ({"range": "a"}, "range"),
        ({"bands": "0"}, "`bands`: expected one band"),
        ({"bands": "1,2,9"}, "has 3 bands, `bands` asks for 9"),
    ],
)
def test_a_range_or_bands_that_are_none(live: Live, wrong: dict[str, str], message: str) -> None:
    answer = live.segment(png(halves()), **wrong)
    assert answer.status_code == 422
    assert message in answer.text


def test_bands(live: Live) -> None:
    swapped = live.segment(png(halves()), output="json", bands="2,1,3").json()["runs"]
    plain = live.segment(png(halves()), output="json").json()["runs"]
    assert [1 - one for one, _ in swapped] == [one for one, _ in plain]


def test_pixels_without_data_count_in_no_share(live: Live) -> None:
    pixels, file = halves(8, 12), BytesIO()
    opaque = np.full((8, 12), 255, np.uint8)
    opaque[:, :6] = 0
    Image.fromarray(np.dstack([pixels, opaque])).save(file, "TIFF")
    document = live.segment(file.getvalue(), output="json").json()
    assert document["runs"][0][0] == live.service.models["small"].predictor.labels.ignore_index
    [only] = document["classes"]
    assert (only["pixels"], only["share"]) == (48, 1)
