"""The rules of docs/architecture.md, kept by the test run."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "atrous"
MODULES = sorted(SRC.rglob("*.py"))
TESTS = Path(__file__).parent

# Top to bottom. A part may import only from its own folder and from the lines below.
LAYERS = [
    {"cli"},
    {"verbs"},
    {"bench", "serve", "training"},
    {"compiler"},
    {"vastai"},
    {"exporters"},
    {"evaluation"},
    {"jobs"},
    {"data", "runtime"},
    {"engines"},
    {"artifact", "models", "pages"},
    {"regions", "snapshot"},
    {"agreement", "cache", "image", "metrics", "preprocess", "upsample"},
    {"pictures"},
    {"zoo"},
    {"labels", "locks"},
    {
        "cores",
        "download",
        "external_data",
        "palette",
        "files",
        "formatting",
        "geometry",
        "hub",
        "onnx_content",
        "onnx_cost",
        "record",
        "resize",
        "stamp",
        "strict_yaml",
    },
    {"texts"},
    {"limits"},
    {"errors"},
]
DEPTH = {part: depth for depth, parts in enumerate(LAYERS) for part in parts}
NEEDS_TORCH = {"models", "exporters", "training"}
TAG = re.compile(r"</\w|<!doctype|<(?:div|p|table|t[dhr]|h[1-6]|ul|li|img|svg|style|pre|code|b)\b")
# VastModelZOO's formats, each with the one module besides the command line that reads it: a compile
# file has steps of that zoo's kind, and calibration and benchmarks take its npz files.
DOORS = {
    "bench/load.py": {"npz", "vdsp"},
    "compiler/config.py": {"process_ops"},
    "compiler/int8/samples.py": {"npz"},
}
COMMAND = r"atrous( \w+)+( --[\w-]+)+|^optimum-cli .*"
WITH_FLAGS = {"cli", "engines", "jobs"}
NEEDS_AN_EXTRA = {Path("engines/torch.py"), Path("engines/openvino.py")}


def part_of(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


@cache
def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write absolute imports"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported_parts(path: Path) -> set[str]:
    parts = {name.split(".")[1] for name in imported(path) if name.startswith("atrous.")}
    return parts - {"_upsample", "__version__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SRC)))
def test_imports_flow_down(path: Path) -> None:
    part = part_of(path)
    if part.startswith("__"):
        return
    upward = {p for p in imported_parts(path) if p != part and DEPTH[p] <= DEPTH[part]}
    assert not upward, f"{part} must not import {upward}"


def test_the_core_does_not_name_its_guest() -> None:
    """What lies below `vastai` knows nothing of it; above it, a format has one door."""
    found: dict[str, set[str]] = {}
    for path in (p for p in MODULES if part_of(p) not in ("cli", "vastai")):
        names = {name for name in imported(path) if name.startswith("atrous.vastai.")}
        if names:
            found[str(path.relative_to(SRC))] = {name.split(".")[2] for name in names}
    assert found == DOORS


@pytest.mark.parametrize(
    "path", [p for p in MODULES if part_of(p) not in WITH_FLAGS], ids=lambda p: p.name
)
def test_messages_name_fields_and_not_flags(path: Path) -> None:
    """The command line puts its flags where a message has a field in backquotes."""
    strings = [
        n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)
    ]
    # A whole command, as `atrous bench --json`, can be followed from anywhere; others' too.
    found = [
        text
        for text in strings
        if isinstance(text, str) and re.search(r"(?<![\w-])--[a-z]", re.sub(COMMAND, "", text))
    ]
    assert not found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SRC)))
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_tests_share_builders_and_nothing_else() -> None:
    """What two tests need lies in `tests/builders`; fixtures are found by name, in a conftest."""
    for path in TESTS.rglob("*.py"):
        # Also in the code that a test hands to another process.
        found = re.findall(r"^ *(?:from|import) (tests\S*)", path.read_text(), re.MULTILINE)
        assert not [name for name in found if not name.startswith("tests.builders")], path


def test_no_two_public_classes_share_a_name() -> None:
    """Parts of networks apart, which are called as in their papers and stay in their modules."""
    found = [
        node.name
        for path in MODULES
        if part_of(path) != "models"
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert {name for name in found if found.count(name) > 1} == set()


@pytest.mark.heavy
def test_every_other_module_imports_without_torch() -> None:
    names = [
        ".".join(("atrous", *path.relative_to(SRC).with_suffix("").parts)).removesuffix(".__init__")
        for path in MODULES
        if part_of(path) not in NEEDS_TORCH
        and path.name != "__main__.py"
        and path.relative_to(SRC) not in NEEDS_AN_EXTRA
    ]
    assert len(names) > 15
    code = f"import sys; sys.modules['torch'] = None\nimport {', '.join(names)}"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SRC)))
def test_only_templates_write_html(path: Path) -> None:
    assert not TAG.findall(path.read_text())


@pytest.mark.heavy
def test_help_needs_no_heavy_import() -> None:
    heavy = {
        "torch",
        "numpy",
        "cv2",
        "onnx",
        "onnxruntime",
        "openvino",
        "PIL",
        "pydantic",
        "jinja2",
    }
    code = f"import sys, atrous.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
