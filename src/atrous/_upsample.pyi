import numpy as np
from numpy.typing import NDArray

def argmax(
    logits: NDArray[np.float32],
    shape: tuple[int, ...],
    row_cells: NDArray[np.int32],
    row_first: NDArray[np.float32],
    row_second: NDArray[np.float32],
    column_cells: NDArray[np.int32],
    column_first: NDArray[np.float32],
    column_second: NDArray[np.float32],
    out: NDArray[np.uint8],
    /,
) -> None: ...
