"""TIFFs, portable maps and PNGs whose stored numbers are known."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Stored = NDArray[Any]


def tiff(path: Path, bands: Stored, **options: Any) -> Path:
    """Write `(C, H, W)` with rasterio."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    count, height, width = bands.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", width=width, height=height, count=count,
            dtype=bands.dtype.name, **options,
        ) as file:  # fmt: skip
            file.write(bands)
    return path


def portable(path: Path, bands: Stored, most: int, *, plain: bool = False) -> Path:
    """Write `(1 or 3, H, W)` as PGM or PPM, in decimal numbers where it is `plain`."""
    count, height, width = bands.shape
    values = np.moveaxis(bands, 0, 2)
    kind = {(1, False): 5, (3, False): 6, (1, True): 2, (3, True): 3}[count, plain]
    head = f"P{kind}\n# made by a test\n{width} {height}\n{most}\n".encode()
    if plain:
        body = " ".join(map(str, values.reshape(-1))).encode()
    else:
        body = values.astype(">u2" if most > 255 else "u1").tobytes()
    path.write_bytes(head + body)
    return path


def arbitrary(path: Path, bands: Stored, most: int) -> Path:
    """Write `(C, H, W)` as PAM."""
    count, height, width = bands.shape
    kinds = ("GRAYSCALE", "GRAYSCALE_ALPHA", "RGB", "RGB_ALPHA")
    head = (
        f"P7\nWIDTH {width}\nHEIGHT {height}\nDEPTH {count}\nMAXVAL {most}\n"
        f"TUPLTYPE {kinds[count - 1]}\nENDHDR\n"
    )
    body = np.moveaxis(bands, 0, 2).astype(">u2" if most > 255 else "u1").tobytes()
    path.write_bytes(head.encode() + body)
    return path


def png(path: Path, bands: Stored, bits: int, *chunks: tuple[bytes, bytes]) -> Path:
    """Write `(C, H, W)`: grey, grey and alpha, RGB, RGB and alpha, of 1 to 16 bits."""
    count, height, width = bands.shape
    values = np.moveaxis(bands, 0, 2).reshape(height, width * count)
    if bits >= 8:
        rows = values.astype(f">u{bits // 8}").view(np.uint8).reshape(height, -1)
    else:
        planes = values[..., None] >> np.arange(bits - 1, -1, -1) & 1
        rows = np.packbits(planes.reshape(height, -1).astype(np.uint8), axis=1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", width, height, bits, (0, 4, 2, 6)[count - 1], 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(data, 1)), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in parts
        )
    )
    return path
