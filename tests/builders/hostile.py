"""Files that lie, and every reader tried on each in a process of its own.

As a program it prints one line of JSON per trial: `python tests/builders/hostile.py FOLDER`. It
imports nothing of these tests, so that it runs on any version of the package.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import pickle
import resource
import signal
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LIMIT_BYTES = 6 << 30
LIMIT_SECONDS = 20


def _png(width: int, height: int, data: bytes = b"", extra: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(data or b"\0" * min((width * 3 + 1) * height, 1 << 20))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + extra
        + chunk(b"IDAT", body)
        + chunk(b"IEND", b"")
    )


def _npz(header: str, zeros: int = 64) -> bytes:
    text = header.encode().ljust(118) + b"\n"
    held = io.BytesIO()
    with (
        zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("input_0.npy", "w", force_zip64=True) as entry,
    ):
        entry.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)
        for _ in range(zeros >> 20 or 1):
            entry.write(bytes(min(zeros, 1 << 20)))
    return held.getvalue()


def network(case: str) -> bytes:
    """An ONNX file of one kind; see `_ONNX`."""
    import onnx
    from onnx import TensorProto, helper

    big = {"batch": 2**60, "sides": 3}.get(case, 1)
    side = 2**31 if case == "sides" else 8
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, [big, 3, side, side])
    given = helper.make_tensor_value_info("y", TensorProto.FLOAT, [big, 3, side, side])
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    if case == "attribute":
        nodes[0].attribute.append(helper.make_attribute("mode", b"\xff\xfe\0"))
    if case == "fill":
        shape = helper.make_tensor("s", TensorProto.INT64, [4], [1, 3, 2**20, 2**20])
        graph = helper.make_graph(
            [helper.make_node("ConstantOfShape", ["s"], ["y"])], "g", [taken], [given], [shape]
        )
        return _model(graph)
    if case == "loop":
        return _model(_loop(taken, given))
    graph = helper.make_graph(nodes, "g", [taken], [given])
    if case == "short":
        tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2**40])
        tensor.raw_data = b"\0" * 16
        graph.initializer.append(tensor)
    model = onnx.load_from_string(_model(graph))
    entries = {
        "deep": "[" * 50_000,
        "wrong": json.dumps({"format": 1, "name": ["x"], "labels": 3, "preprocess": []}),
        "digits": '{"format": ' + "1" * 5000 + "}",
    }
    if case in entries:
        model.metadata_props.add(key="atrous", value=entries[case])
    if case == "functions":
        _doubling(model)
    return model.SerializeToString()


def _model(graph: object) -> bytes:
    from onnx import helper

    opset = [helper.make_opsetid("", 17)]
    made = helper.make_model(graph, opset_imports=opset, ir_version=8)  # type: ignore[arg-type]
    content: bytes = made.SerializeToString()
    return content


def _loop(taken: object, given: object) -> object:
    from onnx import TensorProto, helper

    scalar = [
        helper.make_tensor_value_info(name, kind, [])
        for name, kind in (("i", TensorProto.INT64), ("c", TensorProto.BOOL))
    ]
    state, after = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in "ab"
    )
    passed = helper.make_tensor_value_info("k", TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["k"]), helper.make_node("Relu", ["a"], ["b"])],
        "body", [*scalar, state], [passed, after],
    )  # fmt: skip
    times = helper.make_tensor("n", TensorProto.INT64, [], [2**62])
    go = helper.make_tensor("t", TensorProto.BOOL, [], [True])
    node = helper.make_node("Loop", ["n", "t", "x"], ["y"], body=body)
    return helper.make_graph([node], "g", [taken], [given], [times, go])


def _doubling(model: object) -> None:
    from onnx import helper

    opset = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    for depth in range(40):
        kind, domain = (f"f{depth - 1}", "f") if depth else ("Relu", "")
        nodes = [
            helper.make_node(kind, ["a"], ["m"], domain=domain),
            helper.make_node(kind, ["m"], ["b"], domain=domain),
        ]
        function = helper.make_function("f", f"f{depth}", ["a"], ["b"], nodes, opset)
        model.functions.append(function)  # type: ignore[attr-defined]
    model.opset_import.append(opset[1])  # type: ignore[attr-defined]
    node = model.graph.node[0]  # type: ignore[attr-defined]
    node.op_type, node.domain = "f39", "f"


def _stride_zero() -> bytes | None:
    try:
        import torch
    except ImportError:
        return None
    held = io.BytesIO()
    wide = torch.zeros(1).expand(2**20, 2**11)
    torch.save({f"t{i}": wide for i in range(4)}, held)
    return held.getvalue()


def _deflated(content: bytes) -> bytes:
    held = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as plain,
        zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    return held.getvalue()


def _pickled() -> bytes | None:
    try:
        import torch
    except ImportError:
        return None
    held = io.BytesIO()
    torch.save({"a": torch.zeros(1 << 28)}, held)
    return _deflated(held.getvalue())


def _safetensors(header: object) -> bytes:
    text = header if isinstance(header, str) else json.dumps(header)
    return struct.pack("<Q", len(text)) + text.encode() + b"\0" * 16


VRT = b"""<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1">
<SimpleSource><SourceFilename>/etc/hostname</SourceFilename></SimpleSource></VRTRasterBand>
</VRTDataset>"""

_ONNX = [
    "batch",
    "sides",
    "attribute",
    "fill",
    "loop",
    "short",
    "deep",
    "wrong",
    "digits",
    "functions",
]

TIFF = b"II*\0\x08\0\0\0"


def _tiff(*tags: tuple[int, int, int, int]) -> bytes:
    packed = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return TIFF + struct.pack("<H", len(tags)) + packed + b"\0" * 4


def _tiff_of(width: int, height: int) -> bytes:
    return _tiff(
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 2**31),
    )  # fmt: skip


def aliases() -> str:
    """YAML of 1 kB that stands for 4 ** 29 values."""
    lines = (f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 4)}]\n" for i in range(1, 30))
    return "a0: &a0 [x, x]\n" + "".join(lines)


def contents() -> dict[str, bytes]:
    """Hostile files by name, none of them larger than a few MB."""
    npy = "{{'descr': '|u1', 'fortran_order': False, 'shape': {}, }}"
    found: dict[str, bytes | None] = {
        "line.png": _png(60000, 1, b"\0" * 180001),
        "column.png": _png(1, 60000, b"\0\1\2\3" * 60000),
        "huge.png": _png(2**31 - 1, 2**31 - 1),
        "large.png": _png(30000, 30000),
        "cut.png": _png(64, 64)[:60],
        "text.png": _png(8, 8, extra=struct.pack(">I", 2**31 - 1) + b"zTXt"),
        "empty.png": b"",
        "vrt.tif": VRT,
        "vrt.png": VRT,
        "huge.tif": _tiff_of(2**31 - 1, 2**31 - 1),
        "loop.tif": TIFF + struct.pack("<HHHII", 1, 256, 4, 1, 8) + struct.pack("<I", 8),
        "offset.tif": TIFF[:4] + b"\xff\xff\xff\xff",
        "eps.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%true) (w) file\n",
        "svg.png": b"<svg><image href='file:///etc/passwd'/></svg>",
        "playlist.mp4": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "concat.mp4": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "box.mp4": b"\0\0\0\x18ftypmp42" + b"\0" * 12 + b"\xff" * 64,
        "huge.pnm": b"P6 100000 100000 65535\n" + b"\0" * 64,
        "digits.pnm": b"P6 " + b"9" * 5000 + b" 1 255\n",
        "huge.pam": b"P7\nWIDTH 2147483647\nHEIGHT 2147483647\nDEPTH 3\nMAXVAL 255\nENDHDR\n",
        "huge.webp": b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff",
        "huge.jpg": b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03" + b"\x01\x22\0" * 3,
        "aliases.yaml": aliases().encode(),
        "deep.yaml": b"[" * 20_000,
        "blocks.yaml": b"\n".join(b" " * i + b"a:" for i in range(2000)),
        "merge.yaml": b"a: &a {<<: *a}\n",
        "date.yaml": b"a: 9999-99-99\n",
        "digits.yaml": b"a: " + b"1" * 5000,
        "deep.json": b"[" * 100_000,
        "digits.json": b'{"a": ' + b"1" * 5000 + b"}",
        "lists.json": b'{"IimageFormat": [1], "OimageWidth": [[]], "Mean": {}, "Std": "x"}',
        "nul.json": b'{"ResizeWidth": NaN, "ResizeHeight": Infinity, "NormaType": "\\u0000"}',
        "bare.json": b"3",
        "nul.txt": b"a\0b\n\x1b]0;x\x07\n",
        "long.txt": b"x" * 5000 + b"\n",
        "bomb.npz": _npz(npy.format((3, 2**14, 2**16)), 3 << 30),
        "claims.npz": _npz(npy.format((3, 2**20, 2**20))),
        "minus.npz": _npz(npy.format((-3, -2, 2))),
        "object.npz": _npz("{'descr': '|O', 'fortran_order': False, 'shape': (3,), }"),
        "deep.npz": _npz("(" * 100),
        "bad.npz": b"PK\x03\x04" + b"\0" * 64,
        "code.pth": pickle.dumps(os.getcwd),
        "stride.pth": _stride_zero(),
        "packed.pth": _pickled(),
        "deep.pth": b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".",
        "cut.pth": b"PK\x03\x04archive",
        "long.safetensors": struct.pack("<Q", 2**62) + b"{}",
        "deep.safetensors": _safetensors("{" + '"a":{' * 50_000),
        "lists.safetensors": _safetensors(
            {"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 16]}}
        ),
        "header.safetensors": _safetensors(
            {"__metadata__": {"output_stride": "²", "labels": "[" * 30_000, "preprocess": "3"},
             "a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}
        ),
        "bad.onnx": b"\x08\x08" + b"\xff" * 64,
    }  # fmt: skip
    for case in _ONNX:
        found[f"{case}.onnx"] = network(case)
    return {name: content for name, content in found.items() if content is not None}


def make(folder: Path) -> list[Path]:
    """Write them, and what is no file at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents().items():
        (folder / name).write_bytes(content)
    for name, target in (
        ("zero.txt", "/dev/zero"),
        ("self.png", "self.png"),
        ("mem", "/proc/self/mem"),
    ):
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    (folder / "folder.onnx").mkdir(exist_ok=True)
    return sorted(folder.iterdir())


def readers() -> dict[str, Callable[[Path], object]]:
    """Everything that opens a file of somebody else's; earlier versions had it in other modules."""
    import numpy as np

    from atrous import engines, image
    from atrous.data import masks
    from atrous.preprocess import Preprocess

    crop = Preprocess(fit="crop", size=(513, 513), resize=513)

    def run(path: Path) -> None:
        with engines.open_engine(path, engine="onnxruntime") as engine:
            shape = [side or 1 for side in engine.signature.input.shape]
            if np.prod(shape, dtype=float) < 1 << 24:
                engine.run(np.zeros(shape, engine.signature.dtype))

    def raster(path: Path) -> None:
        from atrous.pictures.samples import Notes, Taking

        geotiff = importlib.import_module("atrous.pictures.geotiff")
        geotiff.GeoRaster(path, path, Taking(), Notes(), 2**28).close()

    found: dict[str, Callable[[Path], object]] = {
        "image": image.read,
        "crop": lambda path: crop(image.read(path)),
        "mask": masks.read_ids,
        "onnxruntime": run,
        "openvino": lambda path: engines.open_engine(path, engine="openvino").close(),
    }
    npz = _first("vastai.npz", "evaluation.npz")
    yaml = _first("strict_yaml", "compiler.keys")
    found |= {
        "npz": npz.read_input,
        "list": npz.read_list,
        "vdsp": _first("vastai.vdsp", "vdsp").read,
        "yaml": lambda path: yaml.read(path, such_as="a"),
        "compile file": _first("compiler.config").load,
    }
    if hasattr(npz, "stamp_of"):
        found["npz stamp"] = lambda path: npz.stamp_of(path, npz.INPUT)
        found["mask stamp"] = image.mask_stamp
        found["overlay stamp"] = _first("stamp").of_jpeg
        found["video stamp"] = _first("jobs.video.seal").stamp_of
        found["hub"] = _first("hub").configuration
        found["folder"] = lambda path: _first("pictures.folders").search(path.parent)
        for name, module in (("rasterio", raster), ("av", _first("jobs.video.reader").Reader)):
            if find_spec(name):
                found["raster" if name == "rasterio" else "video"] = module
    if find_spec("torch"):
        found["checkpoint"] = _first("models.weights").load
        found["recipe"] = _first("training.config").load
    return found


def _first(*modules: str) -> Any:
    """The first of these modules that this version has."""
    for name in modules[:-1]:
        with suppress(ImportError):
            return importlib.import_module(f"atrous.{name}")
    return importlib.import_module(f"atrous.{modules[-1]}")


def tried(read: Callable[[Path], object], path: Path) -> tuple[str, float]:
    """How a reader ended in a process of its own, and how much memory it took beyond (MB)."""
    got, put = os.pipe()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = os.fork()
    if child == 0:
        os.close(got)
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
        signal.alarm(LIMIT_SECONDS)
        from atrous.errors import AtrousError

        try:
            read(path)
            said = "read"
        except (AtrousError, OSError) as error:
            said = "refused" if len(str(error).splitlines()) < 2 else f"lines: {error}"[:200]
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"[:200]
        os.write(put, said.encode(errors="backslashreplace"))
        os._exit(0)
    os.close(put)
    _, status, usage = os.wait4(child, 0)
    with os.fdopen(got, "rb") as pipe:
        said = pipe.read().decode()
    if os.WIFSIGNALED(status):
        said = f"killed by signal {os.WTERMSIG(status)}"
    return said or "ended without a word", max(0, usage.ru_maxrss - before) / 1024


def main() -> None:
    """Try every reader on every file."""
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.getLogger("atrous").addHandler(logging.NullHandler())
    paths = make(Path(sys.argv[1]))
    only = sys.argv[2:]
    for name, read in readers().items():
        for path in paths:
            if not only or name in only:
                said, memory = tried(read, path)
                line = json.dumps([name, path.name, said, round(memory)])
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
