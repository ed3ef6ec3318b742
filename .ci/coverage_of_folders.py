"""Print how much of each folder of `src/atrous` the tests went through, lines and branches.

python .ci/coverage_of_folders.py [DATA [EARLIER]]

DATA is what a run with `--cov` left behind, `.coverage` without. With that of an earlier run the
changes are printed too; a folder that was renamed since stands there under both names.
"""

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

from coverage import Coverage

PARTS = ("covered_lines", "covered_branches", "num_statements", "num_branches")


def folders(data: str) -> dict[str, float]:
    """Percent of the lines and branches of each folder, and of `all`."""
    coverage = Coverage(data_file=data)
    coverage.load()
    sums: dict[str, Counter[str]] = {}
    with tempfile.NamedTemporaryFile("r") as file:
        coverage.json_report(outfile=file.name)
        for path, found in json.load(file)["files"].items():
            inside = Path(path).parts[Path(path).parts.index("atrous") + 1 :]
            for folder in (inside[0] if len(inside) > 1 else ".", "all"):
                counts = sums.setdefault(folder, Counter())
                counts.update({part: found["summary"][part] for part in PARTS})
    return {
        folder: 100
        * (counts["covered_lines"] + counts["covered_branches"])
        / (counts["num_statements"] + counts["num_branches"])
        for folder, counts in sums.items()
    }


def main() -> None:
    """Print one line for each folder."""
    now, *before = [folders(data) for data in sys.argv[1:3] or [".coverage"]]
    for folder in sorted({*now, *(before[0] if before else ())}):
        both = [each.get(folder) for each in (*before, now)]
        line = "".join(f"{value:9.2f}" if value is not None else f"{'':9}" for value in both)
        if len(both) == 2 and None not in both:
            line += f"{both[1] - both[0]:+9.2f}"
        print(f"{folder:12}{line}")


main()
