"""Networks are found whatever stands before their names and whatever lies beside them."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from atrous import models
from atrous.errors import ArtifactError
from atrous.models import dialects
from atrous.models.checkpoint import read_state
from tests.builders.shallow import make_shallow

State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def _little(monkeypatch: pytest.MonkeyPatch) -> None:
    make_shallow(monkeypatch)


@pytest.fixture
def state() -> State:
    torch.manual_seed(0)
    return dict(models.build("deeplabv3_mobilenet", 3).state_dict())


def before(prefix: str) -> Callable[[State], object]:
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


def compiled_parts(state: State) -> object:
    return {
        name.replace("backbone.", "backbone._orig_mod.").replace(
            "classifier.", "classifier.module."
        ): t
        for name, t in state.items()
    }


LAYOUTS: list[Any] = [
    pytest.param(before("_orig_mod."), id="torch.compile"),
    pytest.param(before("module._orig_mod."), id="DataParallel of torch.compile"),
    pytest.param(before("model.net."), id="two parts"),
    pytest.param(before("anything at all."), id="any"),
    pytest.param(compiled_parts, id="parts compiled"),
    pytest.param(
        lambda state: {"state_dict": before("model.")(state), "epoch": 3,
                       "hyper_parameters": argparse.Namespace(lr=0.1)},
        id="Lightning",
    ),
    pytest.param(lambda state: {"model": {"state_dict": state}, "epoch": 1}, id="two keys"),
    pytest.param(lambda state: {"ema": state, "optimizer": {"state": {0: {}}}}, id="ema alone"),
    pytest.param(lambda state: {"student": state, "step": 3}, id="another key"),
    pytest.param(
        lambda state: {**before("net.")(state), "criterion.weight": torch.ones(3)},  # type: ignore[dict-item]
        id="criterion",
    ),
    pytest.param(
        lambda state: {**state, "ema_model.decay": torch.ones(1),
                       **before("ema_model.module.")(state), "n_averaged": torch.ones(())},  # type: ignore[dict-item]
        id="average beside",
    ),
    pytest.param(
        lambda state: {"model": state, "model_ema": before("module.")(state)}, id="model_ema"
    ),
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_network_is_found(
    tmp_path: Path, state: State, layout: Callable[[State], object]
) -> None:
    torch.save(layout(state), tmp_path / "x.ckpt")
    found = models.load(tmp_path / "x.ckpt").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "model."])
def test_safetensors_likewise(tmp_path: Path, state: State, prefix: str) -> None:
    save_file({prefix + name: t.clone() for name, t in state.items()}, tmp_path / "x.safetensors")
    found = models.load(tmp_path / "x.safetensors").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_what_is_left_out_is_said_once(
    tmp_path: Path, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    more = {"model.criterion.weight": torch.ones(3), "val_iou.confmat": torch.ones(3, 3)}
    content = {f"model.{name}": tensor for name, tensor in state.items()} | more
    torch.save({"state_dict": content}, tmp_path / "x.ckpt")
    with caplog.at_level(logging.WARNING, "atrous"):
        models.load(tmp_path / "x.ckpt")
    [said] = caplog.messages
    assert said.endswith(
        "left out tensors that the network does not use: 1 under 'model.criterion.', "
        "1 under 'val_iou.'"
    )


def test_the_average_is_said_to_be_left_out(
    tmp_path: Path, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save({"model_ema": state, "model": state}, tmp_path / "x.pth")
    models.load(tmp_path / "x.pth")
    assert "took the weights under 'model' and left out those under 'model_ema'" in caplog.text


@pytest.mark.parametrize("wrap", ["", "module."])
def test_copies_of_a_network_are_named_whatever_they_are_called(
    wrap: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = {"backbone.weight": torch.ones(2)}
    swa = {f"{wrap}{name}": 2 * value for name, value in own.items()}
    moments = {0: {"exp_avg": torch.ones(2)}}
    content = {"swa_state": swa, "optimizer": {"state": moments}, "model_state_dict": own}
    torch.save(content, tmp_path / "a.pth")
    assert read_state(tmp_path / "a.pth").keys() == own.keys()
    [record] = caplog.records
    assert record.message.endswith(
        "took the weights under 'model_state_dict' and left out those under 'swa_state'"
    )


def test_two_networks_are_refused(state: State) -> None:
    two = {f"{who}.{name}": t for who in ("photo", "sketch") for name, t in state.items()}
    with pytest.raises(ArtifactError, match=r"^it holds 2 networks, .*'photo\.', 'sketch\.'; save"):
        dialects.find(two)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["layer4.0.conv1.weight", "fc.weight"], "its tensors are those of a classifier of whole"),
        (["segformer.encoder.x.weight", "decode_head.x.weight"], "those of a SegFormer"),
        (["backbone.layer1.0.x", "decode_head.conv_seg.weight"], "those of a network of mmseg"),
        (["encoder.conv1.weight", "decoder.blocks.0.conv1.0.weight"], "those of a U-Net or FPN"),
        (["encoder.conv1.weight", "decoder.x"], "those of a network with an encoder that is not"),
        (["w"], "its tensors are of no network that is known here: w. Checkpoints of DeepLabV3"),
    ],
)
def test_a_refusal_begins_with_what_is_wrong(names: list[str], message: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        dialects.find({name: torch.ones(1) for name in names})
    first = str(caught.value).partition(". ")[0]
    assert message.partition(". ")[0] in first
    assert "deeplabv3" not in first.lower()
