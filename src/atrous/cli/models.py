"""`atrous models`."""

from __future__ import annotations

import json

from atrous.cli import options


def models(as_json: options.JsonOption = False) -> None:
    """List the zoo: networks, what they cost, and where weights come from.

    Example: atrous models --json
    """
    from dataclasses import asdict

    from atrous import zoo

    if as_json:
        document = {
            "networks": [asdict(row) for row in zoo.VARIANTS.values()],
            "weights": [asdict(row) for row in zoo.WEIGHTS.values()],
        }
        print(json.dumps(document, indent=2))
        return

    from rich.console import Console
    from rich.table import Table

    console = Console()
    networks = Table("network", "params (M)", "GMACs", "paper", box=None)
    for network in zoo.VARIANTS.values():
        networks.add_row(
            network.name, f"{network.params_m:.3f}", f"{network.gmacs:.2f}", network.paper
        )
    console.print(networks)
    console.print(
        "GMACs: multiply-accumulates of all convolutions at 3×513×513, output stride 16, 21 "
        "classes; torch's flop counter divided by 2.\n",
        highlight=False,
    )
    weights = Table("weights", "network", "accuracy (%)", "protocol and who measured", "from")
    for row in zoo.WEIGHTS.values():
        accuracies = row.accuracy or (None,)
        for number, accuracy in enumerate(accuracies):
            first = number == 0
            weights.add_row(
                row.name if first else "",
                row.network if first else "",
                f"{accuracy.metric} {accuracy.value:g}"
                if accuracy and accuracy.value is not None
                else "not measured",
                f"{accuracy.protocol}; {accuracy.source}" if accuracy else "",
                (row.url or row.page) if first else "",
            )
    console.print(weights)
    console.print(
        "Weights without a download address are got by hand: see `note` in atrous models --json.",
        highlight=False,
    )
