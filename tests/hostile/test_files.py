"""Files that lie, and what they may cost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from onnx import helper

from atrous import hub, limits, snapshot, strict_yaml, texts
from atrous.compiler.graph import graph
from atrous.engines import onnx_graph
from atrous.errors import ArtifactError, AtrousError, ConfigError, InputError
from atrous.preprocess import Preprocess
from atrous.vastai import npz, vdsp
from tests.builders import hostile


@pytest.mark.slow
def test_every_reader_says_in_one_line_what_is_wrong_with_every_hostile_file(
    tmp_path: Path,
) -> None:
    command = [sys.executable, hostile.__file__, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    trials = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(trials) >= 300
    assert [trial for trial in trials if trial[2] not in ("read", "refused")] == []
    assert [trial for trial in trials if trial[3] > 2048] == []  # MB


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("aliases", hostile.aliases(), "aliases written out"),
        ("deep", "[" * 20_000, "nested too deep"),
        ("blocks", "\n".join(" " * i + "a:" for i in range(300)), "nested too deep"),
        ("itself", "a: &a [*a]\n", "aliases written out"),
        ("long", "a: " + "x" * (limits.YAML_BYTES + 1), "expected settings"),
    ],
)
def test_yaml_that_costs_too_much_is_refused(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=said):
        strict_yaml.read(path, such_as="a")


def test_aliases_in_reason_are_read() -> None:
    assert strict_yaml.parse("a: &a [1, 2]\nb: *a\n") == {"a": [1, 2], "b": [1, 2]}


def test_a_list_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TEXT_BYTES", 1000)
    with pytest.raises(UnicodeError, match="more than 1000 bytes"):
        texts.content(Path("/dev/zero"), limits.TEXT_BYTES)


def test_json_nested_too_deep_is_no_json() -> None:
    with pytest.raises(ValueError, match="nested too deep"):
        texts.parse_json("[" * 100_000)


def test_an_npz_that_inflates_is_refused_until_the_limit_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    path = tmp_path / "zeros.npz"
    np.savez_compressed(path, input_0=np.zeros((3, 1000, 1000), np.uint8))
    monkeypatch.setenv(limits.VARIABLE, "1M")
    with pytest.raises(InputError, match=f"set {limits.VARIABLE}=1G"):
        npz.read_input(path)
    monkeypatch.setenv(limits.VARIABLE, "1G")
    assert npz.read_input(path).shape == (1000, 1000, 3)


def test_a_limit_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(limits.VARIABLE, "much")
    with pytest.raises(ConfigError, match="expected bytes, as 8G, found 'much'"):
        limits.memory()


def test_what_a_file_has_itself_it_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(limits.VARIABLE, "10")
    limits.check(100, "x", "it", own=100)
    with pytest.raises(limits.TooCostly):
        limits.check(101, "x", "it", own=100)


def test_an_image_that_a_crop_would_enlarge_without_bound_is_refused() -> None:
    with pytest.raises(InputError, match="enlarging it to 30780000×513"):
        Preprocess(fit="crop", size=(513, 513), resize=513).layout(1, 60000)


@pytest.mark.parametrize("case", ["loop", "functions"])
def test_a_network_that_does_not_end_is_refused_before_it_runs(tmp_path: Path, case: str) -> None:
    from atrous import artifact

    path = tmp_path / f"{case}.onnx"
    path.write_bytes(hostile.network(case))
    with pytest.raises(AtrousError, match="it runs more than 1000000 nodes"):
        artifact.load(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("ResizeType", []), ("NormaType", {}), ("Mean", [1, 2, 10**400]), ("Std", [1, 2, 1e39])],
)
def test_vdsp_values_of_other_kinds(key: str, value: object) -> None:
    config = {
        "NormaType": "MINUSMEAN_DIVSTD",
        "OimageWidth": 32,
        "OimageHeight": 32,
        "Mean": [1, 2, 3],
        "Std": [1, 2, 3],
    }
    data = {"OpType": "FUSION_OP_RGB_RESIZE_CVTCOLOR_NORM_TENSOR", "OpConfig": config}
    assert vdsp.parse(data).mean
    with pytest.raises(ConfigError, match=key):
        vdsp.parse({**data, "OpConfig": {**config, key: value}})


@pytest.mark.parametrize("named", [1, True, {"0": "x"}, 0.5, [[]]])
def test_an_architecture_that_is_no_name_is_none_that_is_read(named: object) -> None:
    assert hub.architecture({"architectures": named}) not in hub.READ_HERE


@pytest.mark.parametrize(
    ("key", "value"), [("size", {"height": 1e400, "width": 3}), ("rescale_factor", 0), ("size", [])]
)
def test_a_processor_that_cannot_be_followed(tmp_path: Path, key: str, value: object) -> None:
    settings = {"size": 32, "do_rescale": True, "image_mean": 0.5, "image_std": 0.5, key: value}
    (tmp_path / hub.CONFIG).write_text('{"model_type": "segformer"}')
    (tmp_path / hub.PROCESSOR).write_text(json.dumps(settings))
    with pytest.raises(ArtifactError, match="cannot be followed"):
        snapshot.preprocess(tmp_path / "model.onnx")


def test_the_header_of_damaged_weights(tmp_path: Path) -> None:
    weights = pytest.importorskip("atrous.models.weights")
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(ArtifactError, match="its header cannot be read"):
        weights.recorded_metadata(path)


def test_networks_of_bytes_that_are_no_text_and_of_types_that_are_none() -> None:
    node = helper.make_node("Resize", ["x"], ["y"], mode=b"\xff\xfe")
    assert onnx_graph.attributes(node) == graph.attributes(node) == {"mode": "\ufffd\ufffd"}
    assert onnx_graph.type_name(40) == "unknown type 40"
