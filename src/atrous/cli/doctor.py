"""`atrous doctor`."""

from __future__ import annotations

import json
import sys

from atrous.cli import options


def doctor(as_json: options.JsonOption = False) -> None:
    """Say which engines work on this machine, and why the others do not.

    Example: atrous doctor

    Every engine that is installed runs the model in the package once; the exit code is 1 if none
    of them works.
    """
    from dataclasses import asdict

    from atrous import upsample
    from atrous.engines.check import check_engines

    checks = check_engines()
    kernel = {
        "c": "compiled",
        "numpy": "NumPy: works, slower; reinstall atrous where a C compiler is present",
    }[upsample.KERNEL]
    if as_json:
        print(json.dumps({"engines": [asdict(c) for c in checks], "kernel": upsample.KERNEL}))
    else:
        from rich.console import Console
        from rich.table import Table

        console = Console(markup=False)
        table = Table("engine", "device", "version", "works", "why not", box=None)
        for check in checks:
            works = "yes" if check.works else "no"
            table.add_row(check.engine, check.device, check.version, works, check.reason)
        console.print(table)
        console.print(f"class-map kernel: {kernel}", highlight=False)
    if not any(check.works for check in checks):
        sys.exit(1)
