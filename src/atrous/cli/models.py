"""`atrous models`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from atrous.cli import json_output, terminal

if TYPE_CHECKING:
    from rich.console import Console

    from atrous import zoo


def models(
    verbose: Annotated[
        bool,
        typer.Option(
            "-v",
            "--verbose",
            help="Also list every network and its cost, the backbones, and where the weights come "
            "from.",
        ),
    ] = False,
    as_json: json_output.JsonOption = False,
) -> None:
    """List the models that can be used by name.

    Example: atrous models --json

    Models marked "here" come with the package; those marked "downloads" are downloaded once, by the
    first -m NAME; those marked "by hand" have to be fetched from their page, and -m NAME then
    prints where to put them.
    """
    from dataclasses import asdict

    from atrous import zoo

    if as_json:
        document = {
            "networks": [
                {**asdict(row), "output_strides": zoo.backbone(row.backbone).output_strides}
                for row in zoo.VARIANTS.values()
            ],
            "weights": [
                {**asdict(row), "accuracy": known(row), "where": where(row)}
                for row in zoo.WEIGHTS.values()
            ],
        }
        print(json.dumps(document, indent=2))
        return
    console = terminal.console(output=True)
    # One line for each, also where it is read by another program.
    _print_models(terminal.console(output=True, width=180))
    if verbose:
        _print_networks(console)
        _print_sources(console)
    else:
        console.print(
            "\nCheckpoints of your own: -m FILE, read for the networks that atrous models -v "
            "lists; other networks as ONNX.",
            highlight=False,
        )


def _print_models(console: Console) -> None:
    from rich.table import Table

    from atrous import zoo

    table = Table(box=None)
    for column in ("name", "network", "MB", "mIoU", "protocol", "licence", "where"):
        table.add_column(column, no_wrap=True)
    for row in zoo.WEIGHTS.values():
        if row.kind != "segmentation":
            continue
        best = next((one for one in known(row) if one["metric"] == "mIoU"), None)
        value = best["value"] if best else None
        protocol, licence = str(best["protocol"]) if best else "", row.licence.partition(" (")[0]
        licence += " (code)" if "none is stated for the weights" in row.licence else ""
        claimed = "" if best is None or "measured by" in str(best["source"]) else "*"
        score = "?" if value is None else f"{value:.1f}{claimed}"
        table.add_row(
            row.name, row.network, f"{_megabytes(row):.1f}", score, protocol, licence, where(row)
        )
    console.print(table, highlight=False)
    console.print("* claimed by its authors, not measured here", highlight=False)


def _print_networks(console: Console) -> None:
    from rich.table import Table

    from atrous import zoo

    networks = Table("network", "params (M)", "GMACs", "strides", "paper", "as in", box=None)
    for network in zoo.VARIANTS.values():
        networks.add_row(
            network.name,
            f"{network.params_m:.3f}",
            f"{network.gmacs:.2f}",
            ", ".join(map(str, zoo.backbone(network.backbone).output_strides)),
            network.paper,
            network.library,
        )
    console.print()
    console.print(networks)
    console.print(
        "GMACs: multiply-accumulates of all convolutions at 3×513×513, output stride 16 (HRNet: "
        "4), 21 classes; torch's flop counter divided by 2. Networks without a model above are "
        "for checkpoints and training of your own; no accuracy of them was measured here.\n",
        highlight=False,
    )


def _print_sources(console: Console) -> None:
    from atrous import zoo

    for row in zoo.WEIGHTS.values():
        lines = [f"{row.name}: {row.network}, {row.num_classes} classes; {row.licence}"]
        for accuracy in known(row):
            percent = accuracy["value"]
            value = "not measured" if percent is None else f"{percent:g} %"
            lines.append(
                f"{accuracy['metric']} {value}: {accuracy['protocol']}; {accuracy['source']}"
            )
        lines.append(f"from {row.url or row.page}")
        console.print("\n  ".join(lines), highlight=False, soft_wrap=True)
    console.print(
        "\nThe reference's own checkpoints are downloaded by hand: see `note` in "
        "atrous models --json.",
        highlight=False,
    )


def _megabytes(row: zoo.Weights) -> float:
    """Of its file; where none is published, of its weights."""
    from atrous import cache, zoo

    path = cache.packaged(row.file_name)
    if path is not None:
        return path.stat().st_size / 1e6
    return row.megabytes or 4 * zoo.variant(row.network).params_m


def where(row: zoo.Weights) -> str:
    """`here`, `downloads` or `by hand`."""
    from atrous import cache

    if cache.packaged(row.file_name) or cache.is_cached(row):
        return "here"
    return "downloads" if row.url else "by hand"


def known(row: zoo.Weights) -> list[dict[str, str | float | None]]:
    """What is known of the accuracy of weights: claimed, or measured and kept in the file."""
    from dataclasses import asdict

    from atrous import artifact, cache

    path = cache.packaged(row.file_name)
    metadata = artifact.metadata_of(artifact.load(path), path) if path else None
    if metadata is None:
        return [asdict(claimed) for claimed in row.accuracy]
    return [
        {
            "metric": measured.metric,
            "value": measured.value,
            "protocol": f"{measured.images} images of {measured.data}, {measured.protocol}",
            "source": f"measured by this project, {measured.note}",
        }
        for measured in metadata.accuracies
    ]
