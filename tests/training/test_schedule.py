from typing import Any

import pytest

from atrous.models import build
from atrous.training.config import OptimizerSettings, ScheduleSettings
from atrous.training.schedule import factor, make_optimizer, set_rates


@pytest.mark.parametrize(
    ("schedule", "iteration", "expected"),
    [
        ({}, 0, 1.0),
        ({}, 75, 0.25**0.9),
        ({"power": 2.0}, 50, 0.25),
        ({"type": "constant"}, 99, 1.0),
        ({"type": "constant", "warmup": 3}, 0, 0.25),
        ({"type": "constant", "warmup": 3}, 3, 1.0),
        ({"warmup": 1, "power": 1.0}, 0, 0.5),
        ({"type": "step", "steps": [10, 20]}, 9, 1.0),
        ({"type": "step", "steps": [10, 20]}, 10, 0.1),
        ({"type": "step", "steps": [10, 20], "gamma": 0.5}, 20, 0.25),
    ],
)
def test_factor(schedule: dict[str, Any], iteration: int, expected: float) -> None:
    assert factor(ScheduleSettings.model_validate(schedule), iteration, 100) == pytest.approx(
        expected
    )


def test_groups() -> None:
    network = build("deeplabv3_mobilenet", 2)
    settings = OptimizerSettings(lr=0.1, backbone_lr=0.01, weight_decay=0.5, decay_norms=False)
    optimizer = make_optimizer(network, settings)
    assert set_rates(optimizer, 0.5) == pytest.approx(0.05)
    found = {
        (group["lr"], group["weight_decay"], min(p.ndim for p in group["params"]))
        for group in optimizer.param_groups
    }
    assert found == {(0.005, 0.5, 4), (0.005, 0.0, 1), (0.05, 0.5, 4), (0.05, 0.0, 1)}
    listed = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in network.parameters())
    all_decay = make_optimizer(network, OptimizerSettings(weight_decay=0.5, type="adamw"))
    assert {group["weight_decay"] for group in all_decay.param_groups} == {0.5}
