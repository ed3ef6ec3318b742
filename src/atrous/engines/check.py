"""Try every engine on every device, and say what happened."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atrous import artifact, engines
from atrous.engines.base import Device, Options
from atrous.errors import AtrousError

_DEVICES: dict[str, tuple[Device, ...]] = {
    "onnxruntime": ("cpu", "cuda", "tensorrt"),
    "openvino": ("cpu",),
    "torch": ("cpu", "cuda"),
}


@dataclass(frozen=True, slots=True)
class Check:
    """Whether one engine works on one device.

    Attributes:
        engine: name of the engine.
        device: name of the device.
        version: of the library behind it, empty if it is not installed.
        works: whether it ran.
        reason: why it did not.
    """

    engine: str
    device: str
    version: str
    works: bool
    reason: str


def check_engines() -> list[Check]:
    """Run a network once on every engine and device, or say why it cannot be done."""
    checks = []
    for engine, devices in _DEVICES.items():
        for device in devices:
            reason = engines.missing(engine) or _try(engine, device)
            checks.append(Check(engine, device, engines.version(engine), not reason, reason))
    return checks


def _try(engine: str, device: Device) -> str:
    """Run something on the engine; return why it failed, empty if it did not."""
    try:
        if engine == "torch":
            import torch

            if device == "cuda" and not torch.cuda.is_available():
                return "this PyTorch sees no CUDA device"
            torch.nn.Conv2d(3, 1, 3).to(device)(torch.zeros(1, 3, 8, 8, device=device))
        else:
            options = Options(device)
            with engines.open_engine(artifact.DEFAULT, engine=engine, options=options) as opened:
                taken = opened.signature.input
                opened.run(np.zeros([dim or 1 for dim in taken.shape], taken.dtype))
    except AtrousError as error:
        return str(error)
    except (ImportError, OSError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""
