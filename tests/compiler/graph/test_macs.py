"""Multiply-accumulates by hand."""

from typing import Any

import pytest

from atrous.compiler.graph import macs
from atrous.compiler.graph.graph import Graph
from tests.builders.sketch import Sketch


@pytest.mark.parametrize(
    ("kind", "x", "weight", "settings", "expected"),
    [
        # outputs · input channels of a group · taps · output pixels · batch
        ("Conv", (1, 2, 5, 7), (3, 2, 1, 1), {}, 3 * 2 * 1 * 35),
        ("Conv", (2, 2, 5, 7), (3, 2, 3, 3), {"pads": [1] * 4}, 3 * 2 * 9 * 35 * 2),
        ("Conv", (1, 2, 5, 7), (3, 2, 3, 3), {}, 3 * 2 * 9 * 15),
        ("Conv", (1, 2, 6, 8), (3, 2, 2, 2), {"strides": [2, 2]}, 3 * 2 * 4 * 12),
        ("Conv", (1, 4, 5, 7), (4, 1, 3, 3), {"group": 4, "pads": [1] * 4}, 4 * 9 * 35),
        ("Conv", (1, 2, 9), (3, 2, 3), {}, 3 * 2 * 3 * 7),
        # input pixels · input channels · outputs of a group · taps
        ("ConvTranspose", (1, 4, 5, 7), (4, 3, 2, 2), {"strides": [2, 2]}, 35 * 4 * 3 * 4),
        ("ConvTranspose", (1, 4, 5, 7), (4, 1, 2, 2), {"group": 4}, 35 * 4 * 4),
        ("MatMul", (5, 7), (7, 3), {}, 5 * 7 * 3),
        ("MatMul", (2, 4, 5, 7), (7, 3), {}, 2 * 4 * 5 * 7 * 3),
        ("MatMul", (7,), (7, 3), {}, 7 * 3),
        ("MatMul", (7,), (7,), {}, 7),
        ("Gemm", (5, 7), (7, 3), {}, 5 * 7 * 3),
        ("Gemm", (7, 5), (3, 7), {"transA": 1, "transB": 1}, 5 * 7 * 3),
        ("Add", (5, 7), (5, 7), {}, 0),
    ],
)
def test_one_node(
    kind: str, x: tuple[int, ...], weight: tuple[int, ...], settings: dict[str, Any], expected: int
) -> None:
    draft = Sketch()
    y = draft.node(kind, draft.input(*x), draft.weight(*weight), **settings)
    graph = Graph(draft.model(y))
    assert macs.of_node(graph, graph.nodes[0]) == expected
    assert macs.count(graph) == expected


def test_sum() -> None:
    draft = Sketch()
    a = draft.conv(draft.input(1, 2, 4, 4), 2, 3)
    b = draft.conv(draft.node("Relu", a), 3, 5, size=3)
    assert macs.count(Graph(draft.model(b))) == 16 * (2 * 3 + 3 * 5 * 9)


def test_unknown_sizes_count_as_nothing() -> None:
    draft = Sketch()
    y = draft.conv(draft.input(1, 2, "h", "w"), 2, 3)
    assert macs.count(Graph(draft.model(y))) == 0
