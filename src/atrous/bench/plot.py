"""A sweep as a picture: throughput against latency."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from atrous.bench.measurement import Measurement
from atrous.bench.sweep import best
from atrous.errors import AtrousError, ConfigError
from atrous.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

_INK, _GREY, _BLUE, _RED, _GREEN = "#1f2933", "#9aa5b1", "#2b6cb0", "#c2410c", "#15803d"
_PLACES = (6, -14, 18, -26, 30, -38, 42, -50)  # points above or below


def check(path: Path) -> None:
    """Refuse what `draw` would refuse, before anything is measured.

    Raises:
        ConfigError: the file is to be no PNG.
        AtrousError: matplotlib is not installed.
    """
    if path.suffix.lower() != ".png":
        raise ConfigError(f"`plot` {path}: expected a name that ends in .png, which it becomes")
    if find_spec("matplotlib") is None:
        raise _no_matplotlib(path)


def _no_matplotlib(path: Path) -> AtrousError:
    return AtrousError(
        f"{path}: plots need matplotlib, which is not installed: pip install 'atrous[report]'"
    )


def draw(results: Sequence[Measurement], path: Path) -> None:
    """Draw a point for each result at its median latency, with a line to its 99th percentile.

    Args:
        results: of one sweep.
        path: of the PNG.

    Raises:
        AtrousError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise _no_matplotlib(path) from None
    figure = Figure(figsize=(9, 5.5), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    labels = _points(axes, results)
    _frame(axes, results)
    figure.draw_without_rendering()
    _place(axes, labels)
    content = BytesIO()
    figure.savefig(content, format="png")
    write_whole(path, content.getvalue())


def _points(axes: Axes, results: Sequence[Measurement]) -> list[Annotation]:
    """Draw every result; returns its label, which is still to be placed."""
    fastest, quickest = best(results)
    labels = []
    for one in results:
        latency, throughput = one.latency, one.throughput
        name, colour = "", _BLUE
        if one is fastest:
            name, colour = "best throughput" + " and latency" * (one is quickest), _RED
        elif one is quickest:
            name, colour = "best latency", _GREEN
        axes.hlines(throughput.mean, latency.p50, latency.p99, color=colour, alpha=0.35, lw=2)
        axes.plot(latency.p99, throughput.mean, "|", color=colour, ms=7, mew=1.5)
        axes.errorbar(
            latency.p50, throughput.mean, throughput.half, color=colour, elinewidth=1, capsize=3
        )
        axes.plot(
            latency.p50,
            throughput.mean,
            "o",
            color=colour,
            ms=9 if name else 6.5,
            label=name or None,
            zorder=3,
        )
        text = axes.annotate(
            f"-i {one.plan.instances} -p {one.plan.processes} -b {one.facts.shape[0]}",
            (latency.p50, throughput.mean),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=8.5,
            fontweight="bold" if name else "normal",
            color=colour if name else _INK,
        )
        labels.append(text)
    return labels


def _place(axes: Axes, labels: Sequence[Annotation]) -> None:
    """Put each label where it covers no other and no point."""
    from matplotlib.transforms import Bbox

    sides: tuple[Literal["left", "right"], ...] = ("left", "right")
    centres = [axes.transData.transform(label.xy) for label in labels]
    taken = [Bbox.from_bounds(x - 10, y - 10, 20, 20) for x, y in centres]
    for label in labels:
        for side, distance in product(sides, _PLACES):
            label.set_horizontalalignment(side)
            label.xyann = (8 if side == "left" else -8, distance)
            box = label.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                break
        taken.append(label.get_window_extent())


def _frame(axes: Axes, results: Sequence[Measurement]) -> None:
    """Axes, grid, legend and title."""
    one = results[0]
    plan, facts = one.plan, one.facts
    axes.margins(x=0.12, y=0.12)
    axes.set_xlim(left=0)
    rates = [each.throughput.mean for each in results]
    # Differences of a few percent would not show on an axis from zero.
    if min(rates) < 0.5 * max(rates):
        axes.set_ylim(bottom=0)
    what = "a query" if one.samples == 1 else f"a query of {one.samples} images"
    axes.set_xlabel(f"latency of {what}, ms: ● median, | 99th percentile", color=_INK)
    axes.set_ylabel("throughput, images/s (bars: 95 % confidence)", color=_INK)
    axes.grid(color=_GREY, alpha=0.25, lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK)
    axes.legend(loc="best", frameon=False)
    model = Path(plan.model).name if plan.model else "the model in the package"
    precision = f" ({facts.precision})" if facts.precision else ""
    axes.set_title(
        f"{model}{precision}, {facts.engine} {facts.version}{facts.computed}\n"
        f"{plan.scenario}, {facts.fed}, {one.machine.processor}, {one.machine.cores} cores",
        loc="left",
        fontsize=10.5,
        color=_INK,
    )
