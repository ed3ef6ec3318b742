"""Hostile requests: each costs a bounded amount of memory and holds up nobody."""

import gc
import gzip
import json
import logging
import socket
import weakref
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.requests import Request

from atrous.labels import generic
from atrous.limits import VARIABLE
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor
from atrous.runtime.stages import Frame
from atrous.serve import json_tensor, model
from atrous.serve.body import Intake
from atrous.serve.refusal import Refusal
from tests.builders.cases import Cases
from tests.builders.server import Live, Network, halves, png, serving, serving_models, until

PICTURE = png(halves())
INFER = "/v2/models/small/infer"


def body(data: object = None, **changes: object) -> dict[str, Any]:
    given = {"name": "image", "shape": [1, 1, 2, 3], "datatype": "UINT8"}
    values = [9, 1, 1, 1, 9, 1] if data is None else data
    return {"inputs": [{**given, "data": values, **changes}]}


def classes(live: Live, document: dict[str, Any]) -> object:
    answer = live.client.post(INFER, json=document)
    assert answer.status_code == 200, answer.text
    return answer.json()["outputs"][0]["data"]


NULLS: dict[str, dict[str, Any]] = {
    "id": {"id": None},
    "outputs": {"outputs": None},
    "parameters": {"parameters": None},
    "all": {"id": None, "outputs": None, "parameters": None},
    "inside": {
        "parameters": {"binary_data_output": None},
        "outputs": [{"name": "classmap", "parameters": None}],
    },
    "further inside": {
        "outputs": [
            {
                "name": "classmap",
                "parameters": {
                    "binary_data": None,
                    "classification": None,
                    "shared_memory_region": None,
                },
            }
        ]
    },
}


@pytest.mark.parametrize("name", NULLS)
def test_null_is_absent(live: Live, name: str) -> None:
    assert classes(live, {**body(), **NULLS[name]}) == [0, 1]


@pytest.mark.parametrize("parameters", [None, {}, {"binary_data_size": None}])
def test_null_inside_an_input(live: Live, parameters: object) -> None:
    assert classes(live, body(parameters=parameters)) == [0, 1]


def test_null_data_beside_a_binary_tensor(live: Live) -> None:
    document = body(parameters={"binary_data_size": 6})
    document["inputs"][0]["data"] = None
    head = json.dumps(document).encode()
    fields = {"inference-header-content-length": str(len(head))}
    answer = live.client.post(INFER, content=head + bytes([9, 1, 1, 1, 9, 1]), headers=fields)
    assert answer.status_code == 200, answer.text


def test_requests_from_the_field(live: Live, cases: Cases) -> None:
    """Nulls and their absence say the same."""
    folder = cases("requests")
    plain, nulls = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("plain", "nulls")
    )
    answers = [live.client.post(INFER, json=document) for document in (plain, nulls)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()


@pytest.mark.parametrize("value", [12.7, "12", True, None, 300, -1, [1], {}, 1e30])
@pytest.mark.parametrize("before", [0, 30_000])
def test_no_value_is_cast(live: Live, value: object, before: int) -> None:
    width = before + 2
    values: list[object] = [1] * (3 * width)
    values[3 * before + 1] = value
    answer = live.client.post(INFER, json=body(values, shape=[1, 1, width, 3]))
    assert answer.status_code == 400
    said = answer.json()["error"]
    assert said.startswith("image: ")
    assert "numpy" not in said.lower()
    if not isinstance(value, list):
        expected = "expected UINT8, whole numbers from 0 to 255; value"
        assert f"{expected} {3 * before + 1} is {json.dumps(value)}" in said


def test_whole_numbers_may_be_written_as_floats(live: Live) -> None:
    assert classes(live, body([9.0, 1.0, 1e0, 1, 9, 1])) == [0, 1]


@pytest.mark.parametrize(
    "data", [[[[[9, 1, 1], [1, 9, 1]]]], [9, 1, 1, 1, 9, 1]], ids=["nested", "flat"]
)
def test_tensors_in_json(live: Live, data: object) -> None:
    assert classes(live, body(data)) == [0, 1]


@pytest.mark.parametrize(
    "data",
    [[[9, 1, 1], [1, 9, 1]], [[[[9, 1], [1, 1, 9, 1]]]], [[], 9, 1, 1, 1, 9], [9, 1], 9, "x", {}],
)
def test_lists_of_another_shape(live: Live, data: object) -> None:
    answer = live.client.post(INFER, json=body(data))
    assert answer.status_code == 400
    assert "shape [1, 1, 2, 3] has 6 values, data has" in answer.json()["error"]


def test_json_in_pieces_is_the_same_in_one() -> None:
    chance = np.random.default_rng(0)
    array = chance.normal(size=(1, 3, 101, 103)).astype(np.float32)
    for text in (json.dumps(array.tolist(), indent=1), json.dumps(array.ravel().tolist())):
        read = json_tensor.read(text.encode(), "input", array.shape, array.dtype)
        assert np.array_equal(read, array)
    assert json.loads(json_tensor.write(array)) == array.ravel().tolist()
    assert json_tensor.write(np.array([np.nan, np.inf, 1], np.float32)) == b"[null,null,1.0]"
    assert len(json_tensor.write(array)) < json_tensor.answered_bytes(array.size, array.dtype)


@pytest.mark.parametrize("piece", [b"0,", b"[],", b'{"a":1},', b'"",', b"[[1],1],"])
@pytest.mark.parametrize("told", [True, False], ids=["as head", "as body"])
def test_more_than_is_built(live: Live, piece: bytes, told: bool) -> None:
    """Refused before a single one is built, and not in the event loop."""
    head = json.dumps(body(data=[])).encode()
    text = head.replace(b"[]", b"[" + piece * 2_200_000 + b"0]")[: 70 * 2**20]
    fields = {"content-encoding": "gzip"}
    if told:
        fields["inference-header-content-length"] = str(len(text))
    answer = live.client.post(INFER, content=gzip.compress(text, 1), headers=fields)
    assert answer.status_code == 413
    error = answer.json()["error"]
    assert "values in JSON" in error or "of JSON, the limit is" in error or "inflates to" in error
    assert live.service.intake.held == 0


@pytest.mark.parametrize("beside", ["id", "outputs", "parameters"])
def test_much_json_beside_the_tensors(live: Live, beside: str) -> None:
    values = {
        "id": "x" * 100_000,
        "outputs": [{"name": "classmap"}] * 9000,
        "parameters": {f"a{i}": {} for i in range(9000)},
    }
    answer = live.client.post(INFER, json={**body(), beside: values[beside]})
    assert answer.status_code == 413
    assert "beside the tensors" in answer.json()["error"]


def test_answers_too_large_for_json(live: Live) -> None:
    pixels = np.zeros((1, 2000, 2000, 3), np.uint8)
    head = body(None, shape=list(pixels.shape), parameters={"binary_data_size": pixels.nbytes})
    del head["inputs"][0]["data"]
    head["outputs"] = [{"name": "logits"}]

    def ask() -> Any:
        text = json.dumps(head).encode()
        fields = {"inference-header-content-length": str(len(text)), "content-encoding": "gzip"}
        packed = gzip.compress(text + pixels.tobytes(), 1)
        return live.client.post(INFER, content=packed, headers=fields)

    answer = ask()
    assert answer.status_code == 413
    assert "too many for JSON; ask for them in binary" in answer.json()["error"]
    head["parameters"] = {"binary_data_output": True}
    answer = ask()
    assert answer.status_code == 200
    length = int(answer.headers["inference-header-content-length"])
    assert len(answer.content) == length + 4 * 3 * 2000 * 2000
    until(lambda: live.service.intake.held == 0)


def test_answers_count_as_held() -> None:
    with serving(max_held=4_000_000) as live:
        answer = live.client.post(
            INFER,
            json={
                **body([0] * 3 * 600 * 600, shape=[1, 600, 600, 3]),
                "outputs": [{"name": "logits"}],
            },
        )
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        until(lambda: live.service.intake.held == 0)


@pytest.mark.parametrize("output", ["mask", "overlay", "json"])
def test_masks_count_as_held_until_they_are_taken(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    original = Intake.hold_answer

    def watched(self: Intake, request: Request, count: int) -> None:
        original(self, request, count)
        counted.append(self.held)

    monkeypatch.setattr(Intake, "hold_answer", watched)
    with serving() as live:
        answer = live.segment(PICTURE, output=output)
        assert answer.status_code == 200
        assert counted == [len(PICTURE) + len(answer.content)]
        until(lambda: live.service.intake.held == 0)
    with serving(max_held=len(PICTURE) + 1) as live:
        refused = live.segment(PICTURE, output=output)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        until(lambda: live.service.intake.held == 0)


def test_masks_of_too_many_runs_for_json(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atrous.serve.pictures.MOST_RUNS", 15)
    answer = live.segment(PICTURE, output="json")
    assert answer.status_code == 413
    assert "16 runs, the limit as JSON is 15; ask for output=mask" in answer.json()["error"]
    assert live.segment(PICTURE).status_code == 200


def test_pictures_of_one_request(live: Live) -> None:
    for count, status in ((32, 200), (33, 413), (100_000, 413)):
        head = json.dumps(
            {
                "inputs": [
                    {
                        "name": "image",
                        "shape": [count, 1, 1, 3],
                        "datatype": "UINT8",
                        "parameters": {"binary_data_size": 3 * count},
                    }
                ]
            }
        ).encode()
        fields = {"inference-header-content-length": str(len(head))}
        answer = live.client.post(INFER, content=head + bytes(3 * count), headers=fields)
        assert answer.status_code == status
    assert "100000 pictures in one request, the limit is 32" in answer.json()["error"]


def test_fields_of_a_form(live: Live) -> None:
    """Counted before they are parsed, one by one and in Python."""
    head = b"--b\r\nContent-Disposition: form-data; name="
    fields = {"content-type": "multipart/form-data; boundary=b"}
    for others, status in ((99, 200), (100, 413), (300_000, 413)):
        parts = (head + b'"x"\r\n\r\n\r\n') * others + head + b'"image"\r\n\r\n' + PICTURE
        answer = live.client.post("/v1/segment", content=parts + b"\r\n--b--\r\n", headers=fields)
        assert answer.status_code == status, answer.text
    assert "a form of 300001 fields, the limit is 100" in answer.json()["error"]


def test_bytes_are_told_the_way(live: Live) -> None:
    answer = live.client.post(INFER, json=body(["x"], shape=[1], datatype="BYTES"))
    assert answer.status_code == 400
    said = answer.json()["error"]
    assert "send UINT8" in said
    assert "/v1/segment" in said


def exchange(live: Live, *parts: bytes) -> HTTPResponse:
    with socket.create_connection(live.address, timeout=9) as connection:
        for part in parts:
            connection.sendall(part)
        answer = HTTPResponse(connection)
        answer.begin()
        answer.said = answer.read()  # type: ignore[attr-defined]
        return answer


HEAD = b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"X: " + b"x" * 70_000,
        HEAD + b"X: " + b"x" * 70_000 + b"\r\n\r\n",
        HEAD + b"A: b\r\n" * 12_000 + b"\r\n",
        HEAD + b"A: b\r\n" * 12_000,
        b"GET /" + b"x" * 70_000,
        HEAD + b"X: " + b"x" * 1_000_000 + b"\r\n\r\n",
        b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" + HEAD + b"X: " + b"x" * 300_000,
    ],
    ids=["field", "whole", "fields", "no end", "line", "more", "second"],
)
def test_header_fields_without_end(live: Live, head: bytes) -> None:
    answer = exchange(live, head)
    if b"health" in head:  # the answer to the first may be all that comes
        assert answer.status in (200, 431)
        return
    assert answer.status == 431
    assert b"65536" in answer.said  # type: ignore[attr-defined]
    assert live.client.get("/v2/health/live").status_code == 200


def test_large_heads_that_are_allowed(live: Live) -> None:
    answer = exchange(
        live, b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 60_000, b"\r\n\r\n"
    )
    assert answer.status == 200


def test_trailers_are_no_headers() -> None:
    with serving(key="a-key-of-some-length") as live:
        answer = exchange(
            live,
            HEAD + b"X-API-Key: a-key-of-some-length\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"%x\r\n" % len(PICTURE)
            + PICTURE
            + b"\r\n0\r\nContent-Encoding: gzip\r\nHost: evil\r\n",
            b"Content-Type: multipart/form-data\r\n\r\n",
        )
        assert answer.status == 200
        answer = exchange(
            live,
            HEAD
            + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-API-Key: a-key-of-some-length\r\n\r\n",
        )
        assert answer.status == 401


def test_trailers_without_end(live: Live) -> None:
    """What came in one read with the head does not count, up to 64 KB."""
    answer = exchange(
        live, HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", *[b"x" * 30_000] * 8
    )
    assert answer.status == 431


@pytest.mark.parametrize(
    "field",
    [b"Host: localhost", b"Host: evil.example", b"Content-Encoding: gzip", b"X-API-Key: a"],
)
def test_fields_that_may_come_once(live: Live, field: bytes) -> None:
    twice = field if field.startswith(b"Host") else field + b"\r\n" + field
    answer = exchange(live, HEAD + twice + b"\r\nContent-Length: 0\r\n\r\n")
    assert answer.status == 400
    assert b"may come once" in answer.said  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "text",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"GET\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_no_http(live: Live, text: bytes) -> None:
    answer = exchange(live, text)
    assert answer.status == 400
    assert "error" in json.loads(answer.said)  # type: ignore[attr-defined]


def logits_request(side: int) -> bytes:
    document: dict[str, Any] = {
        "inputs": [
            {
                "name": "image",
                "shape": [1, side, side, 3],
                "datatype": "UINT8",
                "parameters": {"binary_data_size": 3 * side * side},
            }
        ],
        "outputs": [{"name": "logits", "parameters": {"binary_data": True}}],
    }
    head = json.dumps(document).encode()
    packed = gzip.compress(head + bytes(3 * side * side), 1)
    return (
        b"POST /v2/models/voc/infer HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\n"
        b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
    ) % (len(head), len(packed)) + packed


def test_who_reads_nothing_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with serving(send_seconds=0.3) as live:
        with socket.create_connection(live.address, timeout=9) as connection:
            connection.sendall(logits_request(700))
            until(lambda: live.service.intake.held > 40_000_000)
            until(lambda: live.service.intake.held == 0)
            until(lambda: not any(one.unsent for one in live.server.server_state.connections))
        assert live.segment(PICTURE).status_code == 200
        cut = 'atrous_requests_total{method="POST",model="voc",route="/v2/models/{name}/infer",'
        assert f'{cut}status="499"}} 1.0' in live.client.get("/metrics").text
    told = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert len(told) == 1
    assert told[0].endswith("the client did not take its answer")


def test_the_end_waits_for_answers_that_are_being_sent() -> None:
    with serving() as live, socket.create_connection(live.address, timeout=9) as connection:
        connection.sendall(logits_request(700))
        first = connection.recv(1000)
        loop = live.server._ending or live.service.models["voc"]._loop
        assert loop is not None
        loop.call_soon_threadsafe(live.server.stop)  # type: ignore[union-attr]
        until(lambda: live.service.draining)
        assert not live.server.should_exit
        came = len(first)
        while part := connection.recv(2**20):
            came += len(part)
        assert came > 4 * 21 * 700 * 700
        until(lambda: live.server.should_exit)
        assert not live.server.cut_off


def test_answers_that_are_cut_are_told() -> None:
    with (
        serving(grace_seconds=0.2) as live,
        socket.create_connection(live.address, timeout=9) as connection,
    ):
        connection.sendall(logits_request(700))
        connection.recv(1000)
        loop = live.service.models["voc"]._loop
        assert loop is not None
        loop.call_soon_threadsafe(live.server.stop)
        until(lambda: live.server.should_exit)
        assert live.server.cut_off


def test_the_end_does_not_wait_for_a_network_that_hangs() -> None:
    engine = Network()
    with serving(engine, grace_seconds=0.2) as live, ThreadPoolExecutor(1) as pool:
        engine.go.clear()
        waiting = pool.submit(live.segment, PICTURE)
        until(lambda: bool(engine.calls))
        loop = live.service.models["small"]._loop
        assert loop is not None
        loop.call_soon_threadsafe(live.server.stop)
        answer = waiting.result()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "shutting down" in answer.json()["error"]
        until(lambda: engine.closed)
        assert live.server.cut_off


def test_results_do_not_wait_for_the_collector(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[weakref.ref[NDArray[Any]]] = []
    original = model.Model._postprocess

    def watched(self: model.Model, frame: Frame) -> object:
        told = original(self, frame)
        left.append(weakref.ref(frame.class_map))  # type: ignore[type-var]
        return told

    monkeypatch.setattr(model.Model, "_postprocess", watched)
    with serving() as fresh:
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                assert fresh.segment(PICTURE).status_code == 200
                assert fresh.segment(b"no picture").status_code == 422
                assert fresh.client.post(INFER, json=body()).status_code == 200
            until(lambda: sum(one() is not None for one in left) <= 1)
        finally:
            gc.enable()
    assert len(left) == 10


def test_the_same_limits_both_ways() -> None:
    with serving(max_pixels=100) as live:
        pixels = np.zeros((11, 10, 3), np.uint8)
        segment = live.segment(png(pixels))
        tensor = live.client.post(INFER, json=body(pixels.tolist(), shape=[1, 11, 10, 3]))
        assert segment.status_code == tensor.status_code == 413
        assert "100" in segment.json()["error"]
        assert "100" in tensor.json()["error"]


def test_what_a_crop_would_enlarge_is_refused_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1M")
    crop = Preprocess(fit="crop", size=(64, 64), resize=64, normalisation="none")
    pixels = np.zeros((1, 3000, 3), np.uint8)
    document = body(pixels[None].tolist(), shape=[1, *pixels.shape])
    with serving_models({"small": Predictor(Network(), crop, generic(3))}) as client:
        answers = [
            client.post("/v1/segment", content=png(pixels)),
            client.post(INFER, json=document),
        ]
    assert [answer.status_code for answer in answers] == [422, 422]
    for answer in answers:
        assert "enlarging it to 192000×64" in answer.json()["error"]


def test_health_is_answered_under_a_full_queue() -> None:
    engine = Network()
    with serving(engine, queue=2) as live, ThreadPoolExecutor(2) as pool:
        engine.go.clear()
        waiting = [pool.submit(live.segment, PICTURE) for _ in range(2)]
        until(lambda: live.service.models["small"].under_way == 2)
        assert live.client.get("/v2/health/live").status_code == 200
        engine.go.set()
        assert [one.result().status_code for one in waiting] == [200, 200]


def test_what_a_request_may_list() -> None:
    with pytest.raises(Refusal, match="2097153 values in JSON, the limit is 2097152"):
        json_tensor.read(b"[]", "input", [2**21 + 1], np.dtype("f4"))
    with pytest.raises(Refusal, match="binary"):
        json_tensor.check_size(bytes(json_tensor.MOST_BYTES + 1))
