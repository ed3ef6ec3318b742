"""Pictures in requests."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from atrous.image import Reading
from atrous.serve import pictures
from atrous.serve.refusal import Refusal


def test_a_refusal_names_the_range_as_the_query_does() -> None:
    content = BytesIO()
    Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(content, "TIFF")
    with pytest.raises(Refusal, match=r"`range` LOW,HIGH says which values they are"):
        pictures.decode(content.getbuffer(), Reading())
