"""On a machine with an NVIDIA GPU: pytest -m gpu tests/gpu (onnxruntime-gpu installed)."""

import numpy as np
import pytest

from atrous.engines import open_engine
from atrous.engines.base import Device, Options
from atrous.image import photograph
from atrous.preprocess import Preprocess


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_the_gpu_says_what_the_cpu_says(device: Device) -> None:
    batch = Preprocess()(photograph())[None]
    with open_engine() as cpu, open_engine(options=Options(device)) as gpu:
        expected, found = cpu.run(batch), gpu.run(batch)
    # TensorFloat-32 keeps ten bits of the mantissa.
    assert np.abs(expected - found).max() < 1e-2 * np.ptp(expected)
    assert (expected.argmax(1) == found.argmax(1)).mean() > 0.995
