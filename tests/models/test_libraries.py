"""Networks of other libraries: their names, and their numbers. See tests/golden/README.md."""

from __future__ import annotations

import gzip
import json
import runpy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from atrous import models
from atrous.models import dialects
from atrous.training.trainee import Trainee
from tests.builders.shallow import make_shallow

GOLDEN = Path(__file__).parents[1] / "golden"
REFERENCE = runpy.run_path(str(GOLDEN / "fill.py"))
LOGITS = np.load(GOLDEN / "libraries.npz")
STEP = 16


@cache
def shapes() -> dict[str, dict[str, list[int]]]:
    found: dict[str, dict[str, list[int]]] = json.loads(
        gzip.decompress((GOLDEN / "libraries.json.gz").read_bytes())
    )
    return found


def state_of(key: str) -> dict[str, Tensor]:
    named = shapes().get(key) or shapes()[key.rpartition("/")[0]]
    state = {name: torch.empty(shape) for name, shape in named.items()}
    REFERENCE["fill_state"](state)
    return state


# ResNet-101 is ResNet-50 with more of the same blocks.
GOLDENS = [
    pytest.param(network, marks=[pytest.mark.slow] * network.endswith("resnet101"))
    for network in dict.fromkeys(key.rpartition("/")[0] for key in LOGITS)
]


@pytest.mark.heavy
@pytest.mark.parametrize("network", GOLDENS)
def test_golden(network: str) -> None:
    """At every size and stride, of weights that are drawn once, which takes longest."""
    keys = [key for key in LOGITS if key.rpartition("/")[0] == network]
    assert keys
    named: dict[str, list[int]] = {}
    for key in keys:
        if (shapes().get(key) or shapes()[network]) != named:
            named = shapes().get(key) or shapes()[network]
            state = state_of(key)
        compare_with_golden(key, state)


def compare_with_golden(key: str, state: dict[str, Tensor]) -> None:
    library, varied = key.partition("/")[0], key.rpartition("/")[2]
    stride = int(varied.removeprefix("os")) if varied.startswith("os") else None
    side = {"os8": 97, "os16": 96, "os32": 129}[varied] if library == "hf" else 96
    side = side if stride else int(varied)
    found = dialects.find(dict(state))
    known = models.identify(found.state)
    assert known.num_classes == 7
    with torch.device("meta"):
        network = models.build(
            known.variant,
            known.num_classes,
            stride or found.dialect.output_stride,
            separable=known.separable,
        ).eval()
    models.fill(network, found.state)
    with torch.inference_mode():
        x = torch.from_numpy(REFERENCE["golden_input"](side))
        logits = network.logits_grid(x) if library == "hf" else network(x)[:, :, ::STEP, ::STEP]
    golden = LOGITS[key]
    np.testing.assert_allclose(
        logits[0].numpy(), golden, rtol=0, atol=1e-5 * np.ptp(golden), err_msg=key
    )


EXPECTED = {
    "torchvision/deeplabv3_resnet50/97": ("deeplabv3_resnet50", False, 8, "aux_classifier."),
    "torchvision/lraspp_mobilenet_v3_large/97": ("lraspp_mobilenet_v3_large", False, 16, None),
    "smp/DeepLabV3/mobilenet_v2/os8": ("smp_deeplabv3_mobilenet_v2", False, 8, None),
    "smp/DeepLabV3Plus/resnet50/os16": ("smp_deeplabv3plus_resnet50", True, 16, None),
    "hf/os8": ("hf_deeplabv3_mobilenet_v2_tf", False, 8, "mobilenet_v2.conv_1x1."),
}


@pytest.mark.parametrize("prefix", ["", "model.", "net.generator."])
@pytest.mark.parametrize("key", EXPECTED)
def test_they_are_found_below_any_prefix(key: str, prefix: str) -> None:
    variant, separable, stride, unused = EXPECTED[key]
    named = shapes().get(key) or shapes()[key.rpartition("/")[0]]
    state = {prefix + name: torch.empty(shape, device="meta") for name, shape in named.items()}
    found = dialects.find(state | {"criterion.weight": torch.empty(3, device="meta")})
    known = models.identify(found.state)
    assert (known.variant, known.separable, known.num_classes) == (variant, separable, 7)
    # Lite R-ASPP has but one stride, whatever the names say.
    if not variant.startswith("lraspp"):
        assert found.dialect.output_stride == stride
    left = {name.removeprefix(prefix) for name in found.left_out}
    assert "criterion.weight" in found.left_out
    if unused is None:
        assert left == {"criterion.weight"}
    else:
        assert all(name.startswith((unused, "criterion.")) for name in left)
        assert f"under {prefix + unused!r} (the " in found.note
    assert "1 under 'criterion.'" in found.note


def test_names_of_segmentation_models_before_0_5() -> None:
    key = "smp/DeepLabV3/resnet50/os8"
    older = {
        "decoder.aspp.": "decoder.0.",
        "decoder.conv.": "decoder.1.",
        "decoder.bn.": "decoder.2.",
    }
    state = {}
    for name, shape in shapes()[key].items():
        for new, old in older.items():
            name = name.replace(new, old)
        state[name] = torch.empty(shape, device="meta")
    assert models.identify(dialects.find(state).state).variant == "smp_deeplabv3_resnet50"


@pytest.mark.parametrize("key", EXPECTED)
def test_its_own_names_round_trip(key: str) -> None:
    """What `save_safetensors` writes of such a network is found again as the same."""
    variant, separable, _, _ = EXPECTED[key]
    named = shapes().get(key) or shapes()[key.rpartition("/")[0]]
    state = {name: torch.empty(shape, device="meta") for name, shape in named.items()}
    once = dialects.find(state).state
    again = dialects.find(once)
    assert models.identify(again.state) == models.Identity(variant, 7, separable)
    assert again.state.keys() == once.keys()


@pytest.mark.heavy
@pytest.mark.parametrize(
    "variant", ["smp_deeplabv3plus_mobilenet_v2", "hf_deeplabv3_mobilenet_v2_tf"]
)
@pytest.mark.parametrize("frozen", [False, True])
def test_they_are_trained_as_they_compute(
    variant: str, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_shallow(monkeypatch)
    network = models.build(variant, 3).eval()
    x = torch.randn(1, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        right = network(x)
        found = Trainee(network, frozen=frozen).eval()(x)
    torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-4)
