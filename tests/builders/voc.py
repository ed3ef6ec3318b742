"""A small data set like PASCAL VOC, and the flags of the commands that go over it."""

import json
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from atrous.labels import VOC
from tests.builders.networks import make_small_model

IDS = ("2007_b", "2007_a", "2007_c", "2007_f", "2007_e", "2007_d")
VDSP = {
    "OpType": "FUSION_OP_RGB_RESIZE_CVTCOLOR_NORM_TENSOR",
    "OpConfig": {"NormaType": "DIV255", "OimageWidth": 32, "OimageHeight": 32},
}

MAKE = ("--dataset_path", "VOC2012/JPEGImages", "--target_path", "in", "--text_path", "list.txt")
RUN = ("-m", "mod", "--vdsp_params", "vdsp.json", "--labels", "voc", "--datalist", "list.txt")
EVAL = (
    *("--src_dir", "VOC2012/JPEGImages", "--gt_dir", "VOC2012/SegmentationClass"),
    *("--input_npz_path", "list.txt", "--out_npz_dir", "out", "--input_shape", 32, 32),
)
FIRST_WRONG = "validation pixAcc: 95.833, mIoU: 63.889"


def make_voc(folder: Path) -> Path:
    """A data set like VOC, and a network of 32×32 that sees red as class 0 and green as class 1.

    Every picture is red above green. Its mask is right, but for the left half of the first: there
    the red is class 2, that is a quarter of the picture.

    Returns:
        folder of the data set; network and settings lie beside it.
    """
    root = folder / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    for number, name in enumerate((*IDS, "2007_not_in_val")):
        # A whole number of pixels for each of the grid, so that hardly a pixel is mixed.
        pixels = np.zeros((64, 128, 3), np.uint8)
        pixels[:32, :, 0] = pixels[32:, :, 1] = 200 - number
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg", quality=100)
        truth = np.repeat(np.arange(2, dtype=np.uint8), 32)[:, None].repeat(128, 1)
        if number == 0:
            truth[:32, :64] = 2
        mask = Image.fromarray(truth, mode="P")
        mask.putpalette(VOC.palette())
        mask.save(root / "SegmentationClass" / f"{name}.png")
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(IDS))
    onnx.save(make_small_model(size=32, classes=21), folder / "mod.onnx")
    (folder / "vdsp.json").write_text(json.dumps(VDSP))
    return root
