"""The page's files, the OpenAPI document, errors; and what is beneath: results out of order."""

import threading
from pathlib import Path

import httpx
import pytest

from atrous.runtime.pipeline import Pipeline
from atrous.runtime.worker import Stage
from atrous.serve.app import make_app
from atrous.serve.service import Service
from atrous.serve.settings import Settings
from tests.builders.server import Live, Network, halves, png, segmenter, serving


@pytest.mark.anyio
async def test_the_page_is_open_and_the_rest_is_not(tmp_path: Path) -> None:
    page = tmp_path / "page"
    (page / "parts").mkdir(parents=True)
    (page / "index.html").write_text("<title>Atrous</title>")
    (page / "parts" / "page.js").write_text("1")
    (tmp_path / "secret").write_text("no")
    service = Service({"small": segmenter()}, Settings(key="k"))
    try:
        transport = httpx.ASGITransport(make_app(service, page))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            start = await client.get("/")
            assert start.text == "<title>Atrous</title>"
            assert "default-src 'self'" in start.headers["content-security-policy"]
            script = await client.get("/parts/page.js")
            assert "javascript" in script.headers["content-type"]
            for path in ("/secret", "/../secret", "/%2e%2e/secret", "/parts", "/v1/models"):
                assert (await client.get(path)).status_code == 401
            key = {"x-api-key": "k"}
            assert (await client.get("/parts/../../secret", headers=key)).status_code == 404
            assert (await client.get("/v1/models", headers=key)).status_code == 200
    finally:
        service.close()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_the_document_describes_what_there_is(live: Live) -> None:
    document = live.client.get("/openapi.json").json()
    assert {"/v1/models", "/v1/segment", "/v2/models/{name}/infer", "/metrics"} <= set(
        document["paths"]
    )
    segment = document["paths"]["/v1/segment"]["post"]
    assert {row["name"] for row in segment["parameters"]} == {
        "model", "output", "opacity", "range", "bands",
    }  # fmt: skip
    assert "multipart/form-data" in segment["requestBody"]["content"]
    assert "HTTPValidationError" not in document["components"]["schemas"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("DELETE", "/v1/segment", 405),
        ("GET", "/v2/models/small/versions/2", 404),
        ("GET", "/docs", 404),
    ],
)
def test_errors_have_one_form(live: Live, method: str, path: str, status: int) -> None:
    answer = live.client.request(method, path)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]


def test_a_network_that_hangs_stops_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atrous.serve.model.TIMEOUT", 0.3)
    engine = Network()
    with serving(engine) as live:
        engine.go.clear()
        answer = live.segment(png(halves()))
        assert answer.status_code == 503
        assert "infer: stuck" in answer.json()["error"]
        assert live.client.get("/v2/health/live").status_code == 503
        assert live.client.get("/v2/models/small/ready").status_code == 503
        assert live.client.get("/v2/models/voc/ready").status_code == 503
        assert live.segment(png(halves()), model="voc").status_code == 200


def test_results_come_when_they_are_done() -> None:
    go = threading.Event()

    def work(value: list[int]) -> None:
        if value == [0]:
            assert go.wait(10)

    with Pipeline([Stage({"work": work}, workers=2)], capacity=4) as pipeline:
        results = pipeline.results(ordered=False)
        for number in range(3):
            pipeline.submit([number])
        assert [next(results).index for _ in range(2)] == [1, 2]
        for number in range(3, 6):  # the room of those that came out is free again
            pipeline.submit([number])
        assert next(results).index == 3
        go.set()
        assert {next(results).index for _ in range(3)} == {0, 4, 5}
        results.close()  # type: ignore[attr-defined]
