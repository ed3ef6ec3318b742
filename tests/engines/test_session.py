"""ONNX Runtime's refusals are ours, in one line."""

import numpy as np
import pytest

from atrous.engines.session import first_line, run_once
from atrous.errors import EngineError
from tests.builders.networks import make_small_model


def test_a_batch_that_does_not_fit() -> None:
    with pytest.raises(EngineError) as error:
        run_once(make_small_model(), "small", np.zeros((1, 3, 8, 8), np.float32))
    said = str(error.value)
    assert said.startswith("small: ONNX Runtime failed: ")
    assert "invalid dimensions for input" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("error", "said"),
    [(RuntimeError("a\nb"), "a"), (RuntimeError("\n a \n"), "a"), (RuntimeError(), "RuntimeError")],
)
def test_the_first_line_of_a_message(error: Exception, said: str) -> None:
    assert first_line(error) == said
