"""Reading, naming and filling weights; no network is left half filled, no pickle is run."""

from __future__ import annotations

import os
import sys
import warnings
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from atrous import models, zoo
from atrous.errors import ArtifactError, ConfigError

State = dict[str, Tensor]
NAME = "deeplabv3plus_mobilenet"


def random_state(variant: str = NAME, num_classes: int = 4, *, separable: bool = False) -> State:
    model = models.build(variant, num_classes, separable=separable)
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


@pytest.fixture(scope="module")
def state() -> State:
    return random_state()


def optimizer_state() -> dict[str, Any]:
    """As of `torch.optim.SGD`, whose first use loads torch's compiler, which takes seconds."""
    group = {
        "lr": 0.1,
        "momentum": 0.9,
        "dampening": 0,
        "weight_decay": 0,
        "nesterov": False,
        "maximize": False,
        "foreach": None,
        "differentiable": False,
        "fused": None,
        "params": [0],
    }
    return {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [group]}


def as_the_reference(state: State) -> dict[str, Any]:
    return {
        "cur_itrs": 30_000,
        "model_state": state,
        "optimizer_state": optimizer_state(),
        "scheduler_state": {"max_iters": 30_000, "base_lrs": [0.001, 0.01]},
        "best_score": np.float64(0.711),
    }


def parallel(state: State) -> State:
    return {f"module.{name}": tensor for name, tensor in state.items()}


LAYOUTS: list[Any] = [
    pytest.param(as_the_reference, id="reference"),
    pytest.param(lambda state: {"model_state": parallel(state)}, id="DataParallel"),
    pytest.param(parallel, id="bare DataParallel"),
    pytest.param(lambda state: state, id="bare"),
    pytest.param(lambda state: {"state_dict": state, "epoch": 3}, id="state_dict"),
    pytest.param(lambda state: {"model": state}, id="model"),
    pytest.param(lambda state: {"model": state, "iou": np.zeros(21)}, id="numpy array"),
    pytest.param(
        lambda state: {"model": {"name": "deeplab", "stride": 16}, "net": state},
        id="settings under the key of a network",
    ),
    pytest.param(lambda state: {"model": None, "ema": {"decay": 0.9, "module": state}}, id="EMA"),
    pytest.param(lambda state: {"model": {}, "ema": state}, id="EMA beside nothing"),
    pytest.param(lambda state: {"model": defaultdict(dict, state)}, id="defaultdict"),
]


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(
    tmp_path: Path, state: State, layout: Callable[[State], object], zipped: bool
) -> None:
    path = tmp_path / "x.pth"
    torch.save(layout(state), path, _use_new_zipfile_serialization=zipped)
    read = models.read_state(path)
    assert list(read) == list(state)
    assert all(torch.equal(read[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    "beside",
    [
        defaultdict(list, {"loss": [0.5]}),
        defaultdict(dict, {"iou": {1: 2.0}}),
        Counter("abc"),
        deque([0.5, 0.25], maxlen=9),
        [datetime.now(UTC), date(2024, 2, 29), timedelta(hours=3)],
        [np.bool_(True), np.int64(3), np.str_("a"), np.array(["road"], object)],
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_training_scripts_keep_beside_the_weights(tmp_path: Path, beside: object) -> None:
    torch.save({"model": {"a": torch.ones(2)}, "log": beside}, tmp_path / "x.pth")
    assert list(models.read_state(tmp_path / "x.pth")) == ["a"]


@pytest.mark.parametrize(
    "module",
    ["pytorch_lightning.utilities.parsing", "lightning.fabric.utilities.data"],
)
def test_the_settings_of_lightning(
    tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type("AttributeDict", (dict,), {"__module__": module})
    there = ModuleType(module)
    vars(there)["AttributeDict"] = kind
    parts = module.split(".")
    for count in range(1, len(parts)):
        name = ".".join(parts[:count])
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module, there)
    content = {"state_dict": {"a": torch.ones(2)}, "hyper_parameters": kind(lr=0.1, epochs=3)}
    torch.save(content, tmp_path / "x.ckpt")
    assert list(models.read_state(tmp_path / "x.ckpt")) == ["a"]


def test_scalars_pickled_by_numpy_1(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    content = {"model_state": {"a": torch.ones(2)}, "best_score": np.float64(0.5)}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    pickled = path.read_bytes()
    assert pickled.count(b"numpy._core.multiarray") == 1
    path.write_bytes(pickled.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert list(models.read_state(path)) == ["a"]


class Payload:
    """Unpickled by the book, it writes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("place", ["model_state", "best_score"])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, place: str, zipped: bool) -> None:
    path, mark = tmp_path / "x.pth", tmp_path / "ran"
    content = {"model_state": {"a": torch.ones(2)}, place: {"b": Payload(mark)}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ArtifactError, match=r"asks for posix\.mkdir; it was refused and nothing"):
        models.load(path)
    assert not mark.exists()
    # The control: an ordinary unpickler does run it.
    torch.load(path, weights_only=False)
    assert mark.exists()


def test_a_whole_pickled_network_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pth")
    with pytest.raises(ArtifactError, match=r"asks for torch\.nn\.modules\.linear\.Linear"):
        models.read_state(tmp_path / "x.pth")


def zip_bytes(path: Path) -> bytes:
    torch.save({"a": torch.zeros(5000)}, path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.pth", b"", "expected a PyTorch checkpoint, found an empty file; get it again"),
        ("x.pth", b"\n<!DOCTYPE html><p>Download</p>", "found a web page"),
        ("x.pth", b"PK\x03\x04 garbage", "found a zip archive of 12 bytes that is damaged"),
        ("x.pth", b"\x80\x02}q\x00X\x01", "found 7 bytes that are damaged, cut short or of"),
        ("x.pth", b"some text", "found 9 bytes that are damaged, cut short or of another kind"),
        ("x.safetensors", b"<html>", "expected a safetensors file, found a web page"),
        ("x.safetensors", b"", "expected a safetensors file, found an empty file"),
        ("x.onnx", b"x", r"expected a file ending in \.safetensors or \.pth, .* found \.onnx"),
        ("x", b"x", "found no ending"),
    ],
)
def test_what_is_no_checkpoint_is_named(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=message) as caught:
        models.read_state(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_cut_short(tmp_path: Path, share: float) -> None:
    path = tmp_path / "x.pth"
    whole = zip_bytes(path)
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ArtifactError, match=r"found a zip archive of .* cut short"):
        models.read_state(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "expected a state dict, found list"),
        ({"a": torch.ones(1), "epoch": 3}, r"found also 'epoch' \(int\)"),
        ({"a": torch.ones(1).to_sparse()}, r"found also 'a' \(Tensor\)"),
        ({"a": torch.ones(1, device="meta")}, r"found also 'a' \(Tensor\)"),
        ({3: torch.ones(1)}, r"found also 3 \(Tensor\)"),
        ({}, "expected tensors, found none"),
        ({"model": {}, "epoch": 3}, "expected tensors, found none"),
        (np.ones(3), "expected a state dict, found NumPy value"),
        ({"a": torch.ones(1), "best": np.float64(1)}, r"found also 'best' \(NumPy value\)"),
        ({"a": torch.ones(1), "when": date(2024, 1, 1)}, r"found also 'when' \(setting\)"),
        (
            {"model": OrderedDict({"a": np.ones(3), "b": np.ones(2)})},
            r"found NumPy values alone: 'model\.a', 'model\.b'; save them as tensors where they "
            r"were made: torch\.from_numpy\(array\) of each",
        ),
    ],
)
def test_what_is_no_state_dict_is_named(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ArtifactError, match=message):
        models.read_state(tmp_path / "x.pth")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_another_protocol_is_not_called_damaged(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "x.pth"
    content = {"model": {"a": torch.ones(2)}}
    torch.save(content, path, pickle_protocol=4, _use_new_zipfile_serialization=zipped)
    with (
        warnings.catch_warnings(action="error"),  # torch's would not say which file
        pytest.raises(ArtifactError) as caught,
    ):
        models.read_state(path)
    assert str(caught.value) == (
        f"{path}: expected a PyTorch checkpoint, found a pickle of protocol 4, of which tensors "
        "alone cannot be taken; save the state dict where it was made: "
        "torch.save(model.state_dict(), path)"
    )


def test_torchscript_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:  # the entries by which torch knows it
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py", "version"):
            archive.writestr(f"x/{name}", b"3")
    with (
        warnings.catch_warnings(action="error"),
        pytest.raises(
            ArtifactError, match=r"found a TorchScript archive; save its weights alone: "
        ),
    ):
        models.read_state(path)


def test_a_dictionary_in_itself_is_no_checkpoint(tmp_path: Path) -> None:
    content: dict[str, object] = {}
    content["model"] = content
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ArtifactError, match="expected a PyTorch checkpoint, found a zip archive"):
        models.read_state(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("variant", "separable"),
    [
        (name, separable)
        for name, row in zoo.VARIANTS.items()
        for separable in (False, True)
        if not (separable and row.head in ("deeplabv3cascade", "lraspp", "hf_deeplabv3"))
    ],
)
def test_identify(variant: str, separable: bool) -> None:
    with torch.device("meta"):
        state = models.build(variant, 19, separable=separable).state_dict()
    assert models.identify(state) == models.Identity(variant, 19, separable)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        pytest.param(["conv.weight"], "its head is none that is known here", id="something else"),
        pytest.param(
            [
                "backbone.transition1.0.0.weight",
                "backbone.stage4.0.x",
                "classifier.aspp.x",
                "classifier.classifier.3.weight",
            ],
            "no network here has the head deeplabv3plus over the backbone hrnetv2_1:",
            id="another size of HRNet",
        ),
        pytest.param(
            ["backbone.layer3.0.conv3.weight", "classifier.4.weight"],
            "its head is none that is known here: classifier.4.weight",
            id="FCN",
        ),
        pytest.param(
            ["classifier.aspp.x", "classifier.classifier.3.weight"],
            "its head is that of deeplabv3plus, but its backbone is none",
            id="no backbone",
        ),
        pytest.param(
            ["backbone.layer3.0.conv3.weight", "classifier.aspp.x"],
            "the last layer of its head is missing",
            id="no last layer",
        ),
        pytest.param(
            [
                "backbone.layer3.0.conv2.weight",
                "classifier.decoder.block1.0.weight",
                "classifier.segmentation_head.0.weight",
            ],
            "its head is that of smp_deeplabv3plus, but its backbone is none",
            id="ResNet-34",
        ),
    ],
)
def test_what_is_not_known_of_a_network_comes_first(names: list[str], message: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        models.identify({name: torch.zeros(1, 1, 1, 1) for name in names})
    assert str(caught.value).startswith(message)


BIAS, COUNTER = "classifier.classifier.3.bias", "classifier.aspp.project.1.num_batches_tracked"
SCALE = "classifier.classifier.1.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({BIAS: None}, rf"Tensors 1 missing: {BIAS}$"),
        ({"a.b": torch.ones(1)}, r"Tensors 1 unexpected: a\.b$"),
        ({BIAS: torch.ones(5)}, rf"{BIAS} \(expected float32 \(4,\), found float32 \(5,\)\)"),
        ({BIAS: torch.ones(4).int()}, r"expected float32 \(4,\), found int32 \(4,\)"),
        ({BIAS: torch.full((4,), torch.nan)}, rf"1 holding NaN or infinity: {BIAS}$"),
        ({BIAS: torch.tensor([0, 1, 2, torch.inf])}, rf"1 holding NaN or infinity: {BIAS}$"),
        ({BIAS: None, SCALE: torch.ones(3)}, rf"1 missing: {BIAS}; 1 of another .*: {SCALE} "),
        ({f"x{i}": torch.ones(1) for i in range(12)}, r"12 unexpected: x0, .*, x9 and 2 more$"),
    ],
)
def test_misfits_are_listed_and_nothing_is_filled(
    state: State, change: dict[str, Tensor | None], message: str
) -> None:
    changed = {n: t for n, t in {**state, **change}.items() if t is not None}
    with torch.device("meta"):
        model = models.build(NAME, 4)
    with pytest.raises(ArtifactError, match=message):
        models.fill(model, changed)
    assert all(tensor.is_meta for tensor in model.state_dict().values())


def test_counters_may_be_missing_and_halves_are_widened(state: State) -> None:
    model = models.build(NAME, 4)
    before = model.get_parameter(BIAS)
    narrow = {n: t.half() for n, t in state.items() if not n.endswith("num_batches_tracked")}
    models.fill(model, narrow)
    filled = model.state_dict()
    assert filled[COUNTER].dtype == torch.int64
    assert filled[SCALE].dtype == torch.float32
    assert torch.equal(filled[BIAS], state[BIAS].half().float())
    # An optimizer that holds the parameters keeps them.
    assert model.get_parameter(BIAS) is before


def test_load_is_the_filled_network(tmp_path: Path, state: State) -> None:
    torch.save(as_the_reference(state), tmp_path / "x.pth")
    model = models.load(tmp_path / "x.pth")
    assert (model.variant.name, model.num_classes, model.output_stride) == (NAME, 4, 16)
    assert not model.training
    expected = models.build(NAME, 4).eval()
    expected.load_state_dict(state)
    x = torch.randn(1, 3, 65, 65)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), expected(x))


def test_load_names_the_file(tmp_path: Path, state: State) -> None:
    path = tmp_path / "x.pth"
    torch.save({name: tensor for name, tensor in state.items() if name != BIAS}, path)
    with pytest.raises(ArtifactError, match=r"x\.pth: the weights do not fit\. Tensors 1 missing"):
        models.load(path)


@pytest.mark.parametrize(
    ("name", "metadata", "asked", "expected"),
    [
        ("plain.pth", None, None, 16),
        (f"best_{NAME}_voc_os8.pth", None, None, 8),
        (f"best_{NAME}_voc_os8.pth", None, 16, 16),
        ("x_os16.safetensors", {"output_stride": "8"}, None, 8),
        ("x_os8.safetensors", None, None, 8),
    ],
)
def test_output_stride(
    tmp_path: Path,
    state: State,
    name: str,
    metadata: dict[str, str] | None,
    asked: int | None,
    expected: int,
) -> None:
    path = tmp_path / name
    if path.suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path, metadata)
    assert models.load(path, asked).output_stride == expected


def test_output_stride_must_be_known(tmp_path: Path, state: State) -> None:
    torch.save(state, tmp_path / "x_os32.pth")
    with pytest.raises(ConfigError, match=r"one of \(8, 16\), found 32"):
        models.load(tmp_path / "x_os32.pth")
    save_file(state, tmp_path / "x.safetensors", {"output_stride": "eight"})
    with pytest.raises(ArtifactError, match=r"output_stride .* must be a number, found 'eight'"):
        models.load(tmp_path / "x.safetensors")


@pytest.mark.heavy
def test_hrnet_keeps_its_stride(tmp_path: Path) -> None:
    # The reference names every file by the stride that was asked for.
    path = tmp_path / "best_deeplabv3plus_hrnetv2_32_voc_os16.pth"
    torch.save({"model_state": random_state("deeplabv3plus_hrnetv2_32")}, path)
    assert models.load(path).output_stride == 4
    with pytest.raises(ConfigError, match=r"hrnetv2_32: output_stride must be one of \(4,\), foun"):
        models.load(path, 8)


def test_safetensors_round_trip(tmp_path: Path) -> None:
    model = models.build("deeplabv3_mobilenet", 7, 8, separable=True)
    path = models.save_safetensors(model, tmp_path / "x.safetensors", {"recipe": "none"})
    again = models.load(path)
    assert (again.variant.name, again.num_classes) == ("deeplabv3_mobilenet", 7)
    assert (again.output_stride, again.separable) == (8, True)
    saved = again.state_dict()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(TypeError):
        models.save_safetensors(model, path, {"recipe": 3})  # type: ignore[dict-item]
    assert models.read_state(path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_same_network_is_the_same_file(tmp_path: Path) -> None:
    model = models.build("deeplabv3plus_mobilenet", 3)
    said = {f"text {number}": "é" * number for number in range(8)}
    files = [models.save_safetensors(model, tmp_path / name, said) for name in ("a", "b")]
    first, second = (path.read_bytes() for path in files)
    assert first == second
    assert int.from_bytes(first[:8], "little") % 8 == 0
    with safe_open(files[0], "pt") as file:
        assert file.metadata().items() >= said.items()
        for name, tensor in model.state_dict().items():
            assert torch.equal(file.get_tensor(name), tensor)


def test_zoo_names_find_what_was_put_into_the_cache(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path))
    cached = tmp_path / "weights" / f"best_{NAME}_voc_os16.pth"
    with pytest.raises(ArtifactError, match=r"voc_os16\.pth, found nothing; .*github.*Dropbox"):
        models.load(f"{NAME}_voc")
    cached.parent.mkdir()
    torch.save(as_the_reference(state), cached)
    assert models.load(f"{NAME}_voc").num_classes == 4
    with pytest.raises(ArtifactError, match=r"deeplabv3_resnet50_coco of the same network downlo"):
        models.load("deeplabv3_resnet50")
    with pytest.raises(ArtifactError, match=r"nothing: not a file, .*zoo \(default, "):
        models.load("nothing")
