"""Snapshots of Hugging Face's hub: which file, which classes, which preprocessing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from atrous import artifact, cache, hub, snapshot
from atrous.errors import ArtifactError
from atrous.labels import VOC
from atrous.preprocess import Preprocess
from tests.builders.command import Run

NAMES = {"0": "wall", "1": "sky", "2": "tree"}
SEGFORMER: dict[str, Any] = {
    "architectures": ["SegformerForSemanticSegmentation"],
    "model_type": "segformer",
    "id2label": NAMES,
}
# As SegformerImageProcessor of transformers 5.24.0 saves it.
PROCESSOR: dict[str, Any] = {
    "do_normalize": True,
    "do_reduce_labels": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 32, "width": 64},
}


def made(folder: Path, config: dict[str, Any] | None, processor: dict[str, Any] | None) -> Path:
    (folder / "onnx").mkdir(parents=True)
    for name, content in (("config.json", config), ("preprocessor_config.json", processor)):
        if content is not None:
            (folder / name).write_text(json.dumps(content))
    return folder


def test_segformer_gives_masks_with_class_names(
    atrous: Run, tmp_path: Path, small_model: Callable[..., onnx.ModelProto]
) -> None:
    folder = made(tmp_path / "segformer", SEGFORMER, PROCESSOR | {"size": 32})
    picture = cache.PACKAGE / "photograph.jpg"
    done = atrous("predict", picture, "-m", folder, "-o", tmp_path / "out")
    assert done.code == 1
    [line] = [line for line in done.err.splitlines() if "SegformerForSemanticSegmentation" in line]
    assert f"optimum-cli export onnx --model {folder} --task semantic-segmentation" in line
    onnx.save(small_model(), folder / "onnx" / "model.onnx")
    done = atrous("predict", picture, "-m", folder, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert any(name in done.out for name in NAMES.values())
    assert "assuming" not in done.err


@pytest.mark.heavy
def test_a_compile_file_takes_a_snapshot(
    atrous: Run, tmp_path: Path, small_model: Callable[..., onnx.ModelProto]
) -> None:
    folder = made(tmp_path / "segformer", SEGFORMER, PROCESSOR | {"size": 32})
    onnx.save(small_model(), folder / "onnx" / "model.onnx")
    file = tmp_path / "c.yaml"
    file.write_text(
        f"name: x\nfrontend: {{type: huggingface, checkpoint: {folder}}}\n"
        f"backend: {{dtype: fp32}}\nworkspace: {{path: {tmp_path / 'out'}}}\n"
    )
    assert atrous("compile", file).code == 0
    path = tmp_path / "out" / "x" / "mod.onnx"
    found = artifact.metadata_of(artifact.load(path), path)
    assert found is not None
    assert found.labels.names == ("wall", "sky", "tree")
    assert found.preprocess.interpolation == "pillow-bilinear"


def test_the_folder_of_a_repository_in_the_hubs_cache(tmp_path: Path) -> None:
    top = tmp_path / "models--nvidia--segformer"
    for revision in ("aaa", "bbb"):
        folder = made(top / "snapshots" / revision, SEGFORMER, PROCESSOR)
        (folder / "onnx" / "model.onnx").touch()
    (top / "refs").mkdir()
    (top / "refs" / "main").write_text("bbb")
    assert cache.given(top) == top / "snapshots" / "bbb" / "onnx" / "model.onnx"


def test_a_folder_without_its_configuration_is_none(tmp_path: Path) -> None:
    made(tmp_path / "x", {"some": "thing"}, None)
    (tmp_path / "x" / "onnx" / "model.onnx").touch()
    assert cache.given(tmp_path / "x") is None
    assert snapshot.labels(tmp_path / "x" / "onnx" / "model.onnx") is None


def test_known_labels_keep_their_colours(tmp_path: Path) -> None:
    voc = {str(index): name for index, name in enumerate(VOC.names)}
    folder = made(tmp_path / "x", SEGFORMER | {"id2label": voc}, None)
    assert snapshot.labels(folder / "model.safetensors") == VOC


def test_classes_that_are_not_numbered_from_0_are_refused(tmp_path: Path) -> None:
    folder = made(tmp_path / "x", SEGFORMER | {"id2label": {"1": "a", "2": "b"}}, None)
    with pytest.raises(ArtifactError, match=r"config\.json: expected id2label to number"):
        snapshot.labels(folder / "model.onnx")


def test_classes_that_no_mask_can_hold_are_refused(tmp_path: Path) -> None:
    names = {str(index): f"c{index}" for index in range(257)}
    folder = made(tmp_path / "x", SEGFORMER | {"id2label": names}, None)
    with pytest.raises(ArtifactError, match=r"config\.json: id2label: .* 1\.\.256 classes"):
        snapshot.labels(folder / "model.onnx")


IMAGENET = Preprocess(size=(32, 64), interpolation="pillow-bilinear")
HALF = (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, IMAGENET, id="SegFormer"),
        pytest.param({"size": 48}, IMAGENET.with_size(48, 48), id="one number, as of old"),
        pytest.param(
            {"size": {"shortest_edge": 48}},
            IMAGENET.model_copy(update={"size": (48, 48), "fit": "letterbox"}),
            id="short side",
        ),
        pytest.param(
            {"size": {"shortest_edge": 54}, "do_center_crop": True,
             "crop_size": {"height": 48, "width": 40}, "do_normalize": False,
             "do_flip_channel_order": True},
            Preprocess(size=(48, 40), fit="crop", resize=54, interpolation="pillow-bilinear",
                       colour="bgr", normalisation="div255"),
            id="MobileViT",
        ),
        pytest.param(
            {"size": [60, 80], "do_center_crop": True, "crop_size": 48},
            IMAGENET.model_copy(update={"size": (48, 48), "fit": "crop", "resize": (60, 80)}),
            id="both sides and a crop",
        ),
        pytest.param(
            {"do_resize": False, "do_center_crop": True, "crop_size": 48},
            IMAGENET.model_copy(update={"size": (48, 48), "fit": "crop"}),
            id="a crop alone",
        ),
        pytest.param(
            {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
            IMAGENET.model_copy(update={"normalisation": "mean-std", "mean": (127.5,) * 3,
                                        "std": (127.5,) * 3}),
            id="minus one to one",
        ),
        pytest.param(
            {"do_rescale": False, "do_normalize": False},
            IMAGENET.model_copy(update={"normalisation": "none"}),
            id="as they are",
        ),
    ],
)  # fmt: skip
def test_preprocessing(changes: dict[str, Any], expected: Preprocess, tmp_path: Path) -> None:
    folder = made(tmp_path / "x", SEGFORMER, PROCESSOR | changes)
    found = snapshot.preprocess(folder / "onnx" / "model.onnx")
    assert found is not None
    if expected.normalisation in ("none", "div255"):  # mean and std say nothing then
        found = found.model_copy(update={"mean": expected.mean, "std": expected.std})
    assert found == expected


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"size": {"width": 3}}, 'expected a size of height and width, found {"width": 3}'),
        (
            {"size": {"longest_edge": 512}},
            'expected a size of height and width, found {"longest_edge": 512}',
        ),
        ({"image_mean": None}, "expected a number for each of three channels, found null"),
        ({"image_std": [0.5]}, "expected a number for each of three channels, found [0.5]"),
    ],
)
def test_what_cannot_be_followed_is_refused(
    changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    folder = made(tmp_path / "x", SEGFORMER, PROCESSOR | changes)
    message = f"{folder}/preprocessor_config.json: cannot be followed: {why}; `preprocess` says it"
    with pytest.raises(ArtifactError, match=f"^{re.escape(message)}$"):
        snapshot.preprocess(folder / "model.onnx")


def test_the_networks_own_size_holds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = made(tmp_path / "x", SEGFORMER, PROCESSOR)
    found = snapshot.preprocess(folder / "model.onnx", (40, None))
    assert found is not None
    assert found.size == (40, 64)
    assert "says 32×64, the network takes 40×64: using the latter" in caplog.text


def test_a_resize_that_is_not_here_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = made(tmp_path / "x", SEGFORMER, PROCESSOR | {"resample": 1})
    assert snapshot.preprocess(folder / "model.onnx") == IMAGENET
    assert "resample 1: expected 2 (bilinear) or 3 (bicubic): using bilinear" in caplog.text
    caplog.clear()
    folder = made(tmp_path / "y", SEGFORMER, PROCESSOR | {"resample": 3})
    snapshot.preprocess(folder / "model.onnx")
    assert not caplog.text


@pytest.mark.parametrize(
    ("size", "resize"), [({"shortest_edge": 50}, 64), ([50, 70], (50, 70)), ([50, 60], (50, 64))]
)
def test_a_picture_is_resized_to_no_less_than_the_networks_own_size(
    size: Any, resize: int | tuple[int, int], tmp_path: Path
) -> None:
    crop = {"size": size, "do_center_crop": True, "crop_size": 48}
    folder = made(tmp_path / "x", SEGFORMER, PROCESSOR | crop)
    found = snapshot.preprocess(folder / "model.onnx", (40, 64))
    assert found is not None
    assert (found.size, found.resize) == ((40, 64), resize)


@pytest.mark.parametrize(
    ("config", "stride"),
    [
        ({"architectures": ["MobileNetV2ForSemanticSegmentation"], "output_stride": 8}, "8"),
        ({"architectures": ["MobileNetV2ForSemanticSegmentation"]}, "32"),
        ({"_model_class": "DeepLabV3Plus", "encoder_output_stride": 8, "upsampling": 4}, "8"),
        ({"_model_class": "DeepLabV3"}, "8"),
        (SEGFORMER, None),
    ],
)
def test_output_stride(config: dict[str, Any], stride: str | None, tmp_path: Path) -> None:
    folder = made(tmp_path / "x", config, None)
    assert hub.output_stride(folder / "model.safetensors") == stride


def test_other_rates_are_refused(tmp_path: Path) -> None:
    config = {"_model_class": "DeepLabV3Plus", "decoder_atrous_rates": [6, 12, 18]}
    folder = made(tmp_path / "x", config, None)
    with pytest.raises(ArtifactError, match=r"decoder_atrous_rates \[6, 12, 18\], and DeepLabV3Pl"):
        hub.output_stride(folder / "model.safetensors")
