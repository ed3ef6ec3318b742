"""What `predict` says of images: as they are done, and what they add up to."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import PurePath
from typing import TYPE_CHECKING

from atrous.cli import terminal

if TYPE_CHECKING:
    from rich.progress import TaskID
    from rich.table import Table

    from atrous.artifact import Metadata
    from atrous.cli.options import ModelOptions
    from atrous.jobs.output import ImageResult, Output
    from atrous.labels import LabelSet

_LISTED = 12
_STALE = (
    "in place of what Atrous made from another picture, or by another model, setting or version"
)


class Report:
    """Adds up what was found, in memory that does not grow with the number of images.

    Args:
        labels: names of the classes.
        ran: which model, and on what.
        output: where the results went.
        as_json: print one line of JSON per image, and nothing at the end.
        more: what lies in the output beside masks and overlays.
    """

    def __init__(
        self,
        labels: LabelSet,
        ran: str,
        output: Output,
        as_json: bool,
        more: Sequence[str] = (),
    ) -> None:
        self._more = more
        self._labels, self._ran, self._output, self._as_json = labels, ran, output, as_json
        self._counts = {"written": 0, "kept": 0, "failed": 0}
        self._stale = 0
        self._images = [0] * 256
        self._share = [0.0] * 256
        self._first: list[ImageResult] = []
        self._console = terminal.console()
        self._progress = terminal.progress(self._console)
        self._rows: TaskID | None = None

    def follow(self, results: Generator[ImageResult], total: int) -> None:
        """Show results as they come, then what they add up to.

        Raises:
            SystemExit: an image failed.
        """
        with self._progress, closing(results):
            task = self._progress.add_task("segmenting", total=total)
            for result in results:
                self._progress.advance(task)
                self._add(result)
        if not self._as_json:
            self._print()
        if self._counts["failed"]:
            sys.exit(1)

    def rows(self, done: int, total: int) -> None:
        """Show how far an image is that is read row by row."""
        if self._rows is None:
            self._rows = self._progress.add_task("rows", total=None)
        self._progress.update(self._rows, completed=done, total=total)

    def _add(self, result: ImageResult) -> None:
        self._counts[result.status] += 1
        self._stale += result.stale
        for class_id, share in (result.shares or {}).items():
            self._images[class_id] += 1
            self._share[class_id] += share
        if result.shares and len(self._first) <= _LISTED:
            self._first.append(result)
        if result.error:
            terminal.failed(self._console, result.error)
        if self._as_json:
            print(json.dumps(_record(result, self._labels)), flush=True)

    def _print(self) -> None:
        from atrous.formatting import shown

        console, written = terminal.console(output=True), self._counts["written"]
        if written:
            console.print(self._by_image() if written <= _LISTED else self._by_class())
        words = {"written": f"written by {self._ran}"}
        if self._stale:
            words["written"] += f" ({self._stale} of them {_STALE})"
        found = {words.get(status, status): count for status, count in self._counts.items()}
        said = ", ".join(f"{count} {word}" for word, count in found.items() if count)
        if self._counts["kept"]:
            said += " (--force makes them again)"
        if sum(self._counts.values()) > self._counts["failed"]:
            places = [*self._output.shown(), *self._more]
            said += f"; see {', '.join(places[:-1])}{' and ' * (len(places) > 1)}{places[-1]}"
        console.print(shown(said), highlight=False, soft_wrap=True)

    def _by_image(self) -> Table:
        from rich.table import Table

        from atrous.formatting import as_percent, shown
        from atrous.image import class_name

        table = Table("image", "size", "class", "share of pixels", box=None)
        for result in self._first:
            assert result.size is not None
            assert result.shares is not None
            name, size = shown(PurePath(result.source).name), "×".join(map(str, result.size))
            for class_id, share in result.shares.items():
                table.add_row(name, size, class_name(self._labels, class_id), as_percent(share))
                name = size = ""
        return table

    def _by_class(self) -> Table:
        from rich.table import Table

        from atrous.formatting import as_percent
        from atrous.image import class_name

        table = Table("class", "images", "share of pixels", box=None)
        for class_id in sorted(range(256), key=lambda class_id: -self._share[class_id]):
            if self._images[class_id]:
                share = self._share[class_id] / self._counts["written"]
                name = class_name(self._labels, class_id)
                table.add_row(name, str(self._images[class_id]), as_percent(share))
        return table


def what_ran(
    network: ModelOptions, engine: str, metadata: Metadata | None, threads: int | None = None
) -> str:
    """Which model runs and on what, as `default-int8 (int8) on openvino, 2 threads`.

    Args:
        network: as it was asked for.
        engine: what people call it.
        metadata: of the model.
        threads: of the CPU, by default those that the engine is opened with.
    """
    from atrous.engines import find_model, model_name

    name = model_name(find_model(network.model, network.device))
    precision = f" ({metadata.precision})" if metadata else ""
    count = network.engine_options.cores if threads is None else threads
    where = f"{count} thread{'s' * (count != 1)}" if network.device == "cpu" else network.device
    return f"{name}{precision} on {engine}, {where}"


def _record(result: ImageResult, labels: LabelSet) -> dict[str, object]:
    from atrous.image import class_name

    return {
        "source": str(result.source),
        "status": result.status,
        "replaced": result.stale,
        "mask": str(result.mask) if result.mask else None,
        "overlay": str(result.overlay) if result.overlay else None,
        "width": result.size[0] if result.size else None,
        "height": result.size[1] if result.size else None,
        "classes": [
            {"id": class_id, "name": class_name(labels, class_id), "share": share}
            for class_id, share in result.shares.items()
        ]
        if result.shares is not None
        else None,
        "error": result.error or None,
    }
