from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from atrous import zoo
from atrous.errors import ConfigError
from atrous.labels import LABEL_SETS

ROWS = pytest.mark.parametrize("row", zoo.WEIGHTS.values(), ids=lambda row: row.name)


@pytest.mark.parametrize("table", [zoo.BACKBONES, zoo.VARIANTS, zoo.WEIGHTS])
def test_rows_stand_under_their_names(table: dict[str, zoo.Weights]) -> None:
    assert all(row.name == name for name, row in table.items())


@pytest.mark.parametrize("row", zoo.VARIANTS.values(), ids=lambda row: row.name)
def test_variants_are_head_and_backbone(row: zoo.Variant) -> None:
    assert row.name == f"{row.head}_{row.backbone}"
    name = zoo.backbone(row.backbone).pretrained
    if name is not None:
        pretrained = zoo.weights(name)
        assert (pretrained.kind, pretrained.network) == ("backbone", row.backbone)


@ROWS
def test_weights_refer_to_what_exists(row: zoo.Weights) -> None:
    if row.kind == "backbone":
        assert row.network in zoo.BACKBONES
        assert row.labels is None
    else:
        assert row.network in zoo.VARIANTS
        assert row.labels is not None
        assert LABEL_SETS[row.labels].num_classes == row.num_classes
    assert re.fullmatch(r"arXiv:\d{4}\.\d{5}", row.paper)
    assert row.licence
    assert row.recipe


@ROWS
def test_downloads_carry_a_hash(row: zoo.Weights) -> None:
    if row.url is None:
        assert row.note
        assert row.page
    else:
        assert re.fullmatch(r"[0-9a-f]{8,64}", row.sha256)
        assert row.url.endswith(f"/{row.file_name}")


@ROWS
def test_no_number_without_protocol_and_source(row: zoo.Weights) -> None:
    for accuracy in row.accuracy:
        assert accuracy.protocol
        assert accuracy.source
        assert accuracy.value is None or 0 < accuracy.value < 100
        assert accuracy.source.endswith("not measured here")


def test_the_references_checkpoints_are_found_by_hand() -> None:
    rows = {row.file_name for row in zoo.WEIGHTS.values() if row.page.endswith("-Pytorch")}
    # Its page links none of Xception and HRNet, and it has no cascade.
    published = [
        row.name
        for row in zoo.VARIANTS.values()
        if row.backbone.startswith(("mobile", "resnet"))
        and row.head != "deeplabv3cascade"
        and not row.library
    ]
    assert len(published) == 6
    assert rows == {f"best_{name}_voc_os16.pth" for name in published}


@pytest.mark.parametrize(
    ("look_up", "name", "message"),
    [
        (zoo.variant, "deeplabv3_mobilnet", "did you mean 'deeplabv3_mobilenet'"),
        (zoo.backbone, "vgg", "no backbone is called 'vgg'. Known: mobilenet, resnet50"),
        (zoo.weights, "defualt", "did you mean 'default'"),
    ],
)
def test_unknown_names_show_the_nearest(look_up: object, name: str, message: str) -> None:
    assert callable(look_up)
    with pytest.raises(ConfigError, match=message):
        look_up(name)


@pytest.mark.heavy
def test_imports_without_torch_or_numpy() -> None:
    block = "import sys; sys.modules.update(torch=None, numpy=None)"
    code = f"{block}; import atrous.zoo, atrous.labels, atrous.download"
    source = Path(zoo.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(source)})
