"""tritonclient[http], unchanged, against a live server; and malformed requests."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.builders.server import Live, Network, serving

WIDTH = 12


@pytest.fixture
def client(live: Live) -> Iterator[triton.InferenceServerClient]:
    made = triton.InferenceServerClient(live.url.removeprefix("http://"))
    yield made
    made.close()


def picture(count: int = 1) -> np.ndarray[Any, Any]:
    chance = np.random.default_rng(count)
    return chance.integers(0, 200, (count, 9, WIDTH, 3), np.uint8)


def given(array: np.ndarray[Any, Any], name: str, *, binary: bool = True) -> triton.InferInput:
    kind = {"uint8": "UINT8", "float32": "FP32"}[str(array.dtype)]
    tensor = triton.InferInput(name, list(array.shape), kind)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("small")
    assert client.is_model_ready("voc", "1")
    assert not client.is_model_ready("voc", "2")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("voc", "1")
    assert metadata["inputs"] == [
        {"name": "input", "datatype": "FP32", "shape": [-1, 3, 8, 8]},
        {"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
    ]
    assert metadata["outputs"][1] == {
        "name": "logits",
        "datatype": "FP32",
        "shape": [-1, 21, -1, -1],
    }
    index = client.get_model_repository_index()
    assert [(row["name"], row["state"]) for row in index] == [("small", "READY"), ("voc", "READY")]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_images_and_both_outputs(
    live: Live, client: triton.InferenceServerClient, binary_in: bool, binary_out: bool, count: int
) -> None:
    images = picture(count)
    outputs = [
        triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("classmap", "logits")
    ]
    tensor = given(images, "image", binary=binary_in)
    done = client.infer("small", [tensor], outputs=outputs, request_id="7")
    predictor = live.service.models["small"].predictor
    classes, logits = done.as_numpy("classmap"), done.as_numpy("logits")
    assert (classes.dtype, logits.dtype) == (np.uint8, np.float32)
    for image, one, scores in zip(images, classes, logits, strict=True):
        np.testing.assert_array_equal(one, predictor(image).class_map())
        np.testing.assert_allclose(scores, predictor(image).logits(), rtol=1e-6)
        np.testing.assert_array_equal(one, scores.argmax(0))
    assert done.get_response()["id"] == "7"


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_a_network_input_and_the_default_output(
    live: Live, client: triton.InferenceServerClient, compression: str | None
) -> None:
    tensors = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    done = client.infer(
        "small", [given(tensors, "input")], request_compression_algorithm=compression
    )
    np.testing.assert_array_equal(done.as_numpy("classmap"), tensors.argmax(1))
    assert done.as_numpy("logits") is None


def test_batches_fill() -> None:
    engine = Network()
    with serving(engine, batch=4, wait=1.0, queue=16) as live:
        client = triton.InferenceServerClient(live.url.removeprefix("http://"))
        client.infer("small", [given(picture(8), "image")])
        client.close()
    assert engine.calls == [4, 4]


def test_errors_reach_the_client(client: triton.InferenceServerClient) -> None:
    for model, tensor, status, message in (
        ("large", given(picture(), "image"), "404", "no model 'large'"),
        ("small", given(picture(), "picture"), "400", "expected one of input and image"),
        ("small", given(picture(), "input"), "400", "expected FP32"),
        ("small", given(np.full((1, 3, 8, 8), np.nan, np.float32), "input"), "422", "within"),
        ("small", given(np.full((1, 3, 8, 8), 1e30, np.float32), "input"), "422", "within"),
    ):
        with pytest.raises(InferenceServerException, match=message) as raised:
            client.infer(model, [tensor])
        assert raised.value.status() == status
    with pytest.raises(InferenceServerException, match="expected classmap and logits"):
        client.infer(
            "small", [given(picture(), "image")], outputs=[triton.InferRequestedOutput("mask")]
        )
    wanted = triton.InferRequestedOutput("logits", class_count=2)
    with pytest.raises(InferenceServerException, match="classification is not offered"):
        client.infer("small", [given(picture(), "image")], outputs=[wanted])


def body(**changes: object) -> dict[str, object]:
    tensor = {"name": "image", "shape": [1, 1, 1, 3], "datatype": "UINT8", "data": [1, 2, 3]}
    return {"inputs": [{**tensor, **changes}]}


BAD: dict[str, tuple[object, str | None, str]] = {
    "no JSON": (b"{", None, "Invalid JSON"),
    "no object": ([], None, "Expected `object`, got `array`"),
    "no input": ({}, None, "missing required field `inputs`"),
    "two inputs": ({"inputs": body()["inputs"] * 2}, None, "inputs: Expected `array` of length 1"),  # type: ignore[operator]
    "no data": (body(data=None), None, "expected data"),
    "too few": (body(data=[1, 2]), None, "has 3 values, data has 2"),
    "not numbers": (body(data=["a", "b", "c"]), None, "data"),
    "too large numbers": (body(data=[1, 2, 300]), None, "data"),
    "ragged": (body(data=[[1], [2, 3]]), None, "data"),
    "deep": (b'{"inputs":' + b"[" * 100_000, None, "recursion limit"),
    "no text": (bytes(range(128, 256)), None, "Invalid JSON"),
    "objects": (body(data=[{}, {}, {}]), None, "data"),
    "shape": (body(shape=[1, 3]), None, r"expected UINT8 [-1, -1, -1, 3]"),
    "zero": (body(shape=[1, 0, 1, 3], data=[]), None, "expected UINT8"),
    "huge": (body(shape=[1, 2**40, 2**40, 3]), None, "pixels, the limit"),
    "negative": (body(shape=[1, -1, 1, 3]), None, "Expected `int` >= 0"),
    "many": (body(shape=[2**60, 1, 1, 3]), None, "pictures in one request, the limit is 32"),
    "size": (body(data=None, parameters={"binary_data_size": 3}), None, "0 bytes follow"),
    "both": (body(parameters={"binary_data_size": 3}), None, "got both"),
    "header": (body(), "x", "Inference-Header-Content-Length"),
    "long header": (body(), "99999", "Inference-Header-Content-Length"),
    "rest": (json.dumps(body()).encode() + b"123", str(len(json.dumps(body()))), "no tensor"),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_requests(live: Live, name: str) -> None:
    document, header, message = BAD[name]
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    headers = {} if header is None else {"inference-header-content-length": header}
    answer = live.client.post("/v2/models/small/infer", content=content, headers=headers)
    assert answer.status_code in (400, 413)
    assert message in answer.json()["error"]


def test_logits_that_would_fill_the_memory(live: Live) -> None:
    size = 2000 * 2000 * 3
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "image",
                    "shape": [1, 2000, 2000, 3],
                    "datatype": "UINT8",
                    "parameters": {"binary_data_size": size},
                }
            ],
            "outputs": [{"name": "logits"}],
        }
    ).encode()
    answer = live.client.post(
        "/v2/models/voc/infer",
        content=head + bytes(size),
        headers={"inference-header-content-length": str(len(head))},
    )
    assert answer.status_code == 413
    assert "ask for classmap alone" in answer.json()["error"]
