"""What a file or a server says reaches the terminal escaped, whichever verb says it."""

import dataclasses
import json
import logging
import re
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from PIL import Image

from atrous import artifact, zoo
from atrous.cli import terminal
from atrous.labels import LabelSet
from atrous.preprocess import Preprocess
from tests.builders.command import Done, Run
from tests.builders.networks import make_small_model

# Sets a title, colours, turns the direction of text, and the same in one byte.
EVIL = "\x1b]0;owned\x07\x1b[31mroad\u202e\x9b2J"
SEEN = r"\x1b]0;owned\x07\x1b[31mroad\u202e\x9b2J"
CLASSES = ["ground", EVIL, "sky"]
MODEL = ("-m", "model.onnx", "--engine", "onnxruntime")
DATA = ("--data", "folder:own.yaml:val")
COMPILE = {
    "name": "small",
    "frontend": {"type": "onnx", "checkpoint": "model.onnx"},
    "backend": {"dtype": "fp16", "engine": "onnxruntime"},
    "workspace": {"path": "out"},
}
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network, pictures and their masks, of which every name is hostile."""
    monkeypatch.chdir(tmp_path)
    preprocess = Preprocess(size=(32, 32), normalisation="div255")
    colours = ((0, 0, 0), (200, 0, 0), (0, 0, 200))
    labels = LabelSet(EVIL, tuple(CLASSES), colours, 255)
    known = artifact.Metadata(name=EVIL, labels=labels, preprocess=preprocess)
    artifact.save(make_small_model(), known, tmp_path / "model.onnx")
    for kind in ("images", "masks"):
        (tmp_path / kind / "val").mkdir(parents=True)
    pixels = np.zeros((32, 32, 3), np.uint8)
    for number in range(3):
        pixels[:, 11 * number : 11 * number + 11, number] = 200
    Image.fromarray(pixels).save(Path("images", "val", f"{EVIL}.png"))
    Image.fromarray(pixels.argmax(2).astype(np.uint8)).save(Path("masks", "val", f"{EVIL}.png"))
    Path("broken").mkdir()
    Path("broken", f"{EVIL}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + EVIL.encode())
    described = {"images": "images/{split}", "masks": "masks/{split}", "mask_type": "ids"}
    Path("own.yaml").write_text(yaml.safe_dump(described | {"classes": CLASSES}))
    Path("compile.yaml").write_text(yaml.safe_dump(COMPILE))
    Path(f"{EVIL}.yaml").write_text(f"{json.dumps(EVIL)}: 1\n")
    Path(f"{EVIL}.onnx").write_bytes(Path("model.onnx").read_bytes())
    Path("list.txt").write_text(f"{EVIL.replace(chr(7), '')}.npz\n")


def harmless(done: Done) -> str:
    """All that was printed, in which nothing is a command to the terminal."""
    assert not UNSEEN.search(done.out), repr(done.out)
    assert not UNSEEN.search(done.err), repr(done.err)
    return done.out + done.err


@pytest.mark.parametrize(
    "command",
    [
        ("predict", "images", "-o", "out", *MODEL),
        ("predict", "broken", "-o", "out", *MODEL),
        ("predict", "images", "-o", f"{EVIL}.xyz/", *MODEL),
        ("stream", "--file_path", "broken", "--save_dir", "out", *MODEL),
        ("eval", *DATA, *MODEL, "--protocol", "squash-32"),
        ("eval", "--data", f"folder:{EVIL}.yaml:val", *MODEL),
        ("doctor", *DATA),
        ("bench", "-m", f"{EVIL}.onnx", *MODEL[2:], "-t", "0.01"),
        ("export", "model.onnx", "--standalone", "-o", "made.onnx"),
        ("compile", f"{EVIL}.yaml"),
        ("compile", "compile.yaml", "--dry-run", f"name={EVIL}"),
        ("train", f"{EVIL}.yaml"),
        ("train", "--init", "folder:own.yaml:val", "-o", f"{EVIL}.yaml"),
        ("npz", "run", "--datalist", "list.txt", "-o", "out", *MODEL),
        ("predict", "images", "-o", "out", "-m", EVIL),
        (EVIL,),
    ],
    ids=lambda command: re.sub(r"[^\w. -]", "", " ".join(command[:2]), flags=re.ASCII),
)
def test_names_are_shown_escaped_by_every_verb(atrous: Run, command: tuple[str, ...]) -> None:
    said = harmless(atrous(*command))
    assert "Traceback" not in said
    if command[0] != "npz":
        assert r"\x1b[31mroad\u202e\x9b2J" in said


@pytest.mark.heavy
def test_what_a_compile_says(atrous: Run) -> None:
    assert "written: " in harmless(atrous("compile", "compile.yaml"))


@pytest.mark.parametrize("verb", ["predict", "eval", "doctor"])
def test_json_says_the_same_and_speaks_to_no_terminal(atrous: Run, verb: str) -> None:
    words = {
        "predict": ("images", "-o", "out", *MODEL),
        "eval": (*DATA, *MODEL, "--protocol", "squash-32"),
        "doctor": DATA,
    }[verb]
    done = atrous(verb, *words, "--json")
    harmless(done)
    text = json.dumps([json.loads(part) for part in done.out.splitlines()[:1] if verb != "eval"])
    text += json.dumps(json.loads(done.out)) if verb == "eval" else ""
    assert json.dumps(EVIL)[1:-1] in text


@contextmanager
def server(reason: bytes) -> Iterator[str]:
    """Answers every request with 404 and a reason."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(b"HTTP/1.1 404 " + reason + b"\r\nContent-Length: 0\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as opened:
        thread = threading.Thread(target=opened.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{opened.server_address[1]}/x.pth"
        finally:
            opened.shutdown()
            thread.join()


def test_the_reason_of_a_server(
    atrous: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path / "cache"))
    name = "deeplabv3_resnet101_coco"
    with server(b"\x1b[31mGone\x9b2J") as url:
        row = dataclasses.replace(zoo.WEIGHTS[name], url=url)
        monkeypatch.setitem(zoo.WEIGHTS, name, row)
        done = atrous("predict", "images", "-o", "out", "-m", name)
    assert r"the server answered 404 \x1b[31mGone\x9b2J" in harmless(done)
    assert done.code == 1


@pytest.mark.parametrize(
    "speak",
    [
        lambda text: logging.getLogger("atrous").warning("%s", text),
        lambda text: print(text),  # noqa: T201
        lambda text: terminal.console().print(text),
        lambda text: terminal.console().print(_table(text)),
    ],
    ids=["log", "print", "console", "table"],
)
def test_whatever_a_library_says(
    atrous: Run, speak: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = onnx.load

    def load(*arguments: object, **options: object) -> onnx.ModelProto:
        speak(f"library {EVIL}")
        return read(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("onnx.load", load)
    said = harmless(atrous("predict", "images", "-o", "out", *MODEL))
    assert f"library {SEEN}" in said


def _table(text: str) -> object:
    from rich.table import Table

    table = Table(text)
    table.add_row(text)
    return table


def test_a_line_of_the_servers_log_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from atrous.cli import streams
    from atrous.serve import logs

    for name in ("atrous", "uvicorn.error"):
        logger = logging.getLogger(name)
        for field in ("handlers", "level", "propagate"):
            monkeypatch.setattr(logger, field, getattr(logger, field))
    with streams.escaping():
        logs.set_up("text")
        logs.log.info("models: %s", f"{EVIL}\n2026 INFO all is well")
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith(rf"models: {SEEN}\n2026 INFO all is well")
