import numpy as np
import pytest
from numpy.typing import NDArray

from atrous.jobs.annotations import documents
from atrous.labels import VOC, generic, named

mask_tools = pytest.importorskip("pycocotools.mask")

# Of pycocotools itself, with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def noise(seed: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 4, (13, 9)).astype(np.uint8)
    return coarse.repeat(1 + seed % 3, 0).repeat(1 + seed // 3, 1)


@pytest.mark.parametrize("seed", range(6))
def test_coco_tools_read_the_class_map_back(seed: int) -> None:
    class_map = noise(seed)
    result = np.full(class_map.shape, 255, np.uint8)
    for one in documents.coco_annotations(class_map, generic(4)):
        inside = mask_tools.decode(one["segmentation"]).astype(bool)
        assert one["area"] == mask_tools.area(one["segmentation"]) == inside.sum()
        assert one["bbox"] == mask_tools.toBbox(one["segmentation"]).tolist()
        assert (result[inside] == 255).all()
        result[inside] = one["category_id"] - 1
        again = mask_tools.encode(np.asfortranarray(inside.astype(np.uint8)))
        assert again["counts"].decode() == one["segmentation"]["counts"]
    np.testing.assert_array_equal(result, class_map)


def test_long_runs() -> None:
    rows = 3000
    class_map = np.zeros((rows, 40), np.uint8)
    class_map[:, 7:31] = 8
    [cat] = documents.coco_annotations(class_map, VOC)
    assert cat["category_id"] == 8
    assert mask_tools.area(cat["segmentation"]) == rows * 24


def test_categories_count_from_one() -> None:
    assert [one["id"] for one in documents.coco_categories(VOC)] == list(range(1, 21))
    assert [one["id"] for one in documents.coco_categories(named(("road", "sky")))] == [1, 2]


def test_labelme_has_simple_outlines_without_specks() -> None:
    class_map = np.zeros((60, 80), np.uint8)
    class_map[10:50, 20:60] = 8
    class_map[0, 0] = 9
    made = documents.labelme(class_map, VOC, "../a.jpg")
    [cat] = made["shapes"]
    assert (cat["label"], cat["shape_type"]) == ("cat", "polygon")
    assert sorted(cat["points"]) == [[20, 10], [20, 50], [60, 10], [60, 50]]
    assert (made["imageWidth"], made["imageHeight"], made["imagePath"]) == (80, 60, "../a.jpg")
