"""`atrous models`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from atrous.cli import options

if TYPE_CHECKING:
    from atrous import zoo


def models(as_json: options.JsonOption = False) -> None:
    """List the zoo: networks, what they cost, and where weights come from.

    Example: atrous models --json
    """
    from dataclasses import asdict

    from atrous import zoo

    if as_json:
        document = {
            "networks": [
                {**asdict(row), "output_strides": zoo.backbone(row.backbone).output_strides}
                for row in zoo.VARIANTS.values()
            ],
            "weights": [{**asdict(row), "accuracy": known(row)} for row in zoo.WEIGHTS.values()],
        }
        print(json.dumps(document, indent=2))
        return

    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False)
    networks = Table("network", "params (M)", "GMACs", "strides", "paper", box=None)
    for network in zoo.VARIANTS.values():
        networks.add_row(
            network.name,
            f"{network.params_m:.3f}",
            f"{network.gmacs:.2f}",
            ", ".join(map(str, zoo.backbone(network.backbone).output_strides)),
            network.paper,
        )
    console.print(networks)
    console.print(
        "GMACs: multiply-accumulates of all convolutions at 3×513×513, output stride 16 (HRNet: "
        "4), 21 classes; torch's flop counter divided by 2. Networks without weights below are "
        "for checkpoints and training of your own; no accuracy of them was measured here.\n",
        highlight=False,
    )
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
