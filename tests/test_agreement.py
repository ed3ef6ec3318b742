"""How far two networks are apart, on cases computed by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from atrous.agreement import Agreement, compare, pairs_of, same_pixels
from atrous.errors import ArtifactError


def logits(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32).reshape(-1, 2, 1, 2)


def test_two_images_by_hand() -> None:
    # Two classes, two pixels: class 1 wins the first, class 0 the second; then class 1 both.
    one, other = logits(0, 4, 1, 0), logits(0, 2, 1, 3)
    found = compare(pairs_of(one, other))
    assert found == Agreement(images=1, agreement=0.5, largest_difference=3, logit_range=4)
    assert found.relative == 0.75
    both = compare(pairs_of(np.concatenate([one, one + 2]), np.concatenate([other, one + 2])))
    assert both == Agreement(images=2, agreement=0.75, largest_difference=3, logit_range=6)
    assert str(both) == (
        "same class on 75.0000 % of the pixels of 2 images, largest difference of a logit 3 in a "
        "range of 6"
    )


def test_other_shapes() -> None:
    with pytest.raises(ArtifactError, match=r"expected logits \(1, .*, found \(2, "):
        compare(pairs_of(logits(0, 1, 2, 3), logits(*range(8))))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    found = compare(pairs_of(logits(0, 1, 2, 3), logits(0, 1, 2, value)))
    with pytest.raises(ArtifactError, match="it disagrees with the original: largest difference"):
        found.check("it", 1e-4)


@pytest.mark.parametrize(("difference", "fits"), [(0.0, True), (0.1, False)])
def test_constant_logits(difference: float, fits: bool) -> None:
    found = Agreement(images=1, agreement=1, largest_difference=difference, logit_range=0)
    assert (found.relative == 0) == fits
    if fits:
        found.check("it", 1e-4)
    else:
        with pytest.raises(ArtifactError, match="nothing was written"):
            found.check("it", 1e-4)


def test_pixels_that_neither_saw_do_not_count() -> None:
    first, second = np.array([[0, 1, 255, 255]]), np.array([[0, 2, 255, 3]])
    assert same_pixels(first, second) == (2, 4)
    assert same_pixels(first, second, ignore=255) == (1, 3)
