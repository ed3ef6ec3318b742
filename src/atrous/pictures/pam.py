"""Pillow's missing reader of PAM, the Netpbm format for any number of channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_LONGEST = 4096  # bytes of a header


class PamImageFile(ImageFile.ImageFile):
    """A PAM file; values are scaled to 8 bits by the maximum that it names.

    Attributes:
        most: that maximum.
    """

    format = "PAM"
    format_description = "Portable arbitrary map"

    def _open(self) -> None:
        assert self.fp is not None
        head = self.fp.read(_LONGEST)
        lines, ends, _ = head.partition(b"\nENDHDR\n")
        if not head.startswith(b"P7\n") or not ends:
            raise SyntaxError("not a PAM file")
        fields = {}
        for line in lines.split(b"\n")[1:]:
            name, _, value = line.strip().partition(b" ")
            if name and not name.startswith(b"#"):
                fields[name] = value.strip()
        try:
            width, height, depth, most = (
                int(fields[name]) for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL")
            )
        except (KeyError, ValueError):
            raise SyntaxError("a PAM file without WIDTH, HEIGHT, DEPTH or MAXVAL") from None
        if min(width, height) < 1 or depth not in _MODES or not 0 < most < 65536:
            raise ValueError(
                f"a PAM file of {width}×{height} with {depth} channels up to {most}, expected "
                "pixels, 1 to 4 channels and at most 65535"
            )
        self._size, self._mode = (width, height), _MODES[depth]
        self.most, self._start, self._unread = most, len(lines) + len(ends), True

    def values(self) -> NDArray[Any]:
        """The stored numbers, `(H, W, C)` uint8 or uint16.

        Raises:
            OSError: the file is cut short, or holds a number above its maximum.
        """
        assert self.fp is not None
        channels = len(self.getbands())
        kind = np.dtype(">u2" if self.most > 255 else "u1")
        self.fp.seek(self._start)
        wanted = self.width * self.height * channels * kind.itemsize
        data = self.fp.read(wanted)
        if len(data) < wanted:
            raise OSError(f"image file is truncated ({wanted - len(data)} bytes are missing)")
        values = np.frombuffer(data, kind).astype(kind.newbyteorder("="))
        if (highest := int(values.max())) > self.most:
            raise OSError(f"its header says that {self.most} is white, but it holds {highest}")
        return values.reshape(self.height, self.width, channels)

    def load(self) -> Any:
        """Read the pixels."""
        if self._unread:
            self._unread = False
            values = self.values()
            if self.most != 255:
                scaled = (values.astype(np.uint32) * 255 + self.most // 2) // self.most
                values = scaled.astype(np.uint8)
            self.load_prepare()
            self.frombytes(values.tobytes())
        return Image.Image.load(self)


Image.register_open("PAM", PamImageFile, lambda prefix: prefix.startswith(b"P7\n"))
