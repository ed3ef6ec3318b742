"""What makes up for rare classes."""

import numpy as np

from atrous.data.balance import class_weights, image_weights


def test_rare_classes_are_preferred() -> None:
    shown = np.array([[1, 0], [1, 0], [1, 0], [1, 1], [0, 0]], bool)
    np.testing.assert_allclose(image_weights(shown, 1.0), [5 / 4, 5 / 4, 5 / 4, 5, 1])
    np.testing.assert_allclose(image_weights(shown, 0.0), 1)
    np.testing.assert_allclose(image_weights(shown, 0.5), np.sqrt([5 / 4, 5 / 4, 5 / 4, 5, 1]))


def test_pixels_of_rare_classes_weigh_more() -> None:
    # The first class fills half of both images, the second a quarter of one, the third none.
    pixels = np.array([[50, 50, 0, 0], [50, 0, 25, 25]])
    frequency = [0.5, 0.5, 0.25, 0.25]
    expected = np.median(frequency) / frequency
    np.testing.assert_allclose(class_weights(pixels), expected)
    np.testing.assert_allclose(class_weights(pixels * [1, 1, 0, 1])[2], 0)
    np.testing.assert_allclose(class_weights(pixels * 0), 0)
