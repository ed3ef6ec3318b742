import pickle

import numpy as np

from atrous.data import open_dataset
from atrous.data.synthetic import LABELS, SIZE, draw


def test_the_seed_decides() -> None:
    sets = [open_dataset(spec) for spec in ("synthetic:3:8", "synthetic:3:4", "synthetic:4:4")]
    assert sets[0].name == "synthetic:3:8"
    assert [len(one.samples) for one in sets] == [8, 4, 4]
    pictures = [one.read_image(one.samples[1]) for one in sets]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def test_pixels_and_labels() -> None:
    data = pickle.loads(pickle.dumps(open_dataset("synthetic:0:4")))
    assert data.labels == LABELS
    shown = set()
    for sample in data.samples:
        image, label = data.read_image(sample), data.read_label(sample)
        assert (image.shape, image.dtype) == ((*SIZE, 3), np.uint8)
        assert (label.shape, label.dtype) == (SIZE, np.uint8)
        shown |= set(np.unique(label).tolist())
    assert shown == {0, 1, 2, 3, 4, 255}


def test_every_shape_stands_out_and_is_outlined() -> None:
    for number in range(8):
        image, label = draw(1, number)
        first = number % 4 + 1
        assert (label == first).sum() > 150
        inside = image[label == first].astype(float)
        assert inside.std(axis=0).max() < 60
        touching = label[:, 1:].astype(int)[(label[:, :-1] == first) & (label[:, 1:] != first)]
        assert set(touching.tolist()) <= {255}
