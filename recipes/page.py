"""The six networks of VastModelZOO's page, and what it reports, beside what was measured here."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from atrous import zoo
from atrous.evaluation import result as results

RESULTS = Path(__file__).parent / "results"
TIMES = Path(__file__).parents[1] / "benchmarks" / "results"
FEW = ("center-crop-513", "squash-513")
FORMS = {
    "fp32": "fp32",
    "fp16": "fp16",
    "int8-onnxruntime": "int8, ONNX Runtime",
    "int8-openvino": "int8, OpenVINO",
}

# Network, the name of its results, and the page's mIoU: fp32, which it quotes, fp16 and int8.
ROWS = (
    ("deeplabv3_mobilenet", "fast", (70.100, 67.816, 64.441)),
    ("deeplabv3_resnet50", "deeplabv3_resnet50", (76.900, 72.671, 72.330)),
    ("deeplabv3_resnet101", "deeplabv3_resnet101", (77.300, 75.289, 74.492)),
    ("deeplabv3plus_mobilenet", "default", (71.100, 3.589, 3.570)),
    ("deeplabv3plus_resnet50", "deeplabv3plus_resnet50", (77.200, 72.723, 72.032)),
    ("deeplabv3plus_resnet101", "deeplabv3plus_resnet101", (78.300, 75.751, 75.143)),
)


ACCURACY = """\
## The six networks of VastModelZOO's page

mIoU in percent, `center-crop-513`, 725 images of VOC 2012 val. What is lost is the most under
`center-crop-513` and `squash-513` and, in int8, on either engine, in points of mIoU; less than
nothing is a gain. The page's own columns stand on the right: its fp32 is that of other weights
(VainF's, of more training images), so what compares is what fp16 and int8 lose. An empty cell was
not measured.
"""

COMMANDS = """\
`deeplabv3_mobilenet` is `fast` and `deeplabv3plus_mobilenet` is `default`, in the package; the
command is `atrous eval -m fast --data voc:VOCdevkit:benchmarks/voc2012-val-725.txt --protocol
center-crop-513`. `python recipes/resnets.py NETWORK` trains, compiles and measures each of the
others; their weights are too large for the package. They are first figures, of under an hour of
training on two cores: an ImageNet ResNet-50 of 8 bits, four fifths of it zeros, taught by Google's
DeepLabV3-MobileNetV2 beside the labels of 2303 images (`recipes/resnet.yaml`, which has the hours).
Their fp32 is therefore far from the page's and says nothing of these architectures.

Multiply-accumulates are those of one image of 513×513 before compiling, as torch's flop counter
has them, halved. The page's column of FLOPs is 2.2 to 2.3 times as much, follows from no size or
count that it names, and cannot be reproduced. Times are medians of [the
benchmarks](benchmarks.md#the-network-itself) on two cores, from image to class map, and the ratio
is that of the best peer there.
"""


def tables() -> str:
    """Both tables, of accuracy and of work, with what is said about them."""
    accuracy = ["network", *FORMS.values(), "most lost in fp16", "most lost in int8"]
    accuracy += [f"page: {form}" for form in ("fp32", "fp16", "int8")]
    work = ["network", "million parameters", "GMAC"]
    for form in ("fp32", "int8"):
        work += [f"{form}, ms", "against the best peer"]
    rows, costs = [accuracy], [work]
    for network, name, page in ROWS:
        score = {(form, one): _score(name, form, one) for form in FORMS for one in FEW}
        shown = [score[form, FEW[0]] for form in FORMS]
        lost = [_lost(score, "fp16"), _lost(score, "int8")]
        rows.append([f"`{network}`", *map(_shown, (*shown, *lost, *page))])
        row = zoo.variant(network)
        times = (cell for kind in ("fp32", "int8") for cell in _times(kind, network))
        costs.append([f"`{network}`", f"{row.params_m:.3f}", f"{row.gmacs:.2f}", *times])
    return "\n".join([ACCURACY, _table(rows), "", COMMANDS, _table(costs)])


def _score(name: str, form: str, protocol: str) -> float | None:
    path = RESULTS / f"{name}-{form}-{protocol}.json"
    return results.load(path).mean_iou if path.is_file() else None


def _lost(score: dict[tuple[str, str], float | None], dtype: str) -> float | None:
    """The most that forms of a type lose under any protocol; `None` if nothing was measured."""
    lost = [
        whole - part
        for (form, protocol), part in score.items()
        if form.startswith(dtype)
        and part is not None
        and (whole := score["fp32", protocol]) is not None
    ]
    return max(lost, default=None)


def _times(kind: str, network: str) -> list[str]:
    """Milliseconds of our faster engine, and how many times as long the best peer takes."""
    kept: dict[str, Any] = json.loads((TIMES / f"compile-{kind}.json").read_text())["networks"]
    times: dict[str, list[float]] = kept.get(network, {})
    if not times:
        return ["", ""]
    ours = min(
        (name for name in times if name.startswith("atrous")), key=lambda n: median(times[n])
    )
    peers = [name for name in times if not name.startswith(("atrous", "own"))]
    best = min(peers, key=lambda name: median(times[name]))
    ratio = median(theirs / mine for theirs, mine in zip(times[best], times[ours], strict=True))
    return [f"{median(times[ours]):.0f}", f"{ratio:.2f}×"]


def _shown(value: float | None) -> str:
    return "" if value is None else f"{round(value, 3) + 0.0:.3f}"  # no -0.000


def _table(rows: list[list[str]]) -> str:
    lines = [rows[0], ["---", *["--:"] * (len(rows[0]) - 1)], *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
