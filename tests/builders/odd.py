"""Pictures with metadata as cameras' firmware, phones and editors leave them."""

import base64
import io
import struct
import zlib

from PIL import Image

Tag = tuple[int, int, int, bytes]

TAGS: dict[str, tuple[Tag, ...]] = {
    "a resolution below zero": ((0x11A, 10, 1, struct.pack("<ii", -1, 0)),),
    "a resolution over zero": ((0x11A, 5, 1, struct.pack("<II", 300, 0)),),
    "a text where a number belongs": ((0x128, 2, 4, b"inch"),),
    "a tag that points behind the end": ((0x10F, 2, 9999, struct.pack("<I", 99999)),),
    "a directory behind the end": ((0x8769, 4, 1, struct.pack("<I", 0xFFFFFF)),),
    "an unknown type": ((0x132, 77, 3, b"abc"),),
    "numbers where one belongs": ((0x213, 3, 3, struct.pack("<HHH", 1, 2, 3)),),
}
"""Name → entries of a directory of EXIF (tag, type, count, value), beside the orientation."""

HEIC = base64.b85decode(
    b"0000SW^{RQXk}?*00000ZE0pPXk}?*ZE0a<0005VZDn*}000000000XXk=`10000000000aA{+7000000000000000"
    b"00000G-+&aV*mgE07O6l0ssL300001>;M4(00000002t>0ssI200K7v0RR9100000Bme*aIB98aW&i*H00062000$f"
    b"Zf0cy000000RRAKc4ILB0000LX>Mj^0ssI300IC2MR;ju000004sdC7Z2$lO00031009SSaB^?}008D`aAR)(004Gq"
    b"c4I>U18@KU0FVFx0000U@BsY%`1k+-4+CHT0RR|40Sp2E{{wIU00RJ!0009300RIXx&lC90096hLID8-Z~y=U0FVFx"
    b"0{{R603M(qfd!W8<fgf}2xu@M00096AOHXZ03l)k0RRR>0l{;?i2wiq6Ju{|a&BX6cmM$a4FCp!0000KX>)L800000"
    b"0000$0000$0000eV{Bn?0000W000010000$00001|NsBs0000200000000020000GaA|mH000000|*ER00009X>xCL"
    b"0{{R38EJ5BVE_OC000000RRC8fdT^sgoXeB02*m>Wo7^X0000001jhhb7KGk009620001YZDe6|0000-C;_ht;5j2C"
    b"zyJKgpWgpmQvdwU{<4b0=SBn1SlLhhB*1U`jxe@S15XT<5Gz|_;Ek!cfIPBVT8IpoH^@r$cWzo%{C|J|000I>cxh$;"
    b"08LE*DgXcg2mk>A5&#1L000311^@s60000"
)
"""64×32 pixels of blue, 16×16 of red at the top left, stored turned; pi-heif writes none itself."""


def exif(orientation: int, *entries: Tag) -> bytes:
    """A block of EXIF, with `Exif` before it."""
    rows = sorted([(0x112, 3, 1, struct.pack("<H", orientation)), *entries])
    at, table, data = 8 + 2 + 12 * len(rows) + 4, b"", b""
    for tag, kind, count, payload in rows:
        value = payload.ljust(4, b"\0")
        if len(payload) > 4:
            value, data = struct.pack("<I", at + len(data)), data + payload
        table += struct.pack("<HHI", tag, kind, count) + value
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(rows)) + table + bytes(4) + data


def jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95)
    return file.getvalue()


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def with_exif(picture: Image.Image, kind: str, block: bytes) -> bytes:
    """A picture in a format of Pillow with this block, byte by byte; an AVIF is turned by 6."""
    if kind == "JPEG":
        data = jpeg(picture)
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]
    if kind == "PNG":
        return with_chunks(png(picture), [(b"eXIf", block[6:])])
    file = io.BytesIO()
    if kind == "TIFF":  # which has its tags beside those of the pixels
        picture.save(file, kind)
        return _with_tags(file.getvalue(), block)
    if kind == "WEBP":
        picture.save(file, kind, exif=block, quality=95)
        return file.getvalue()
    # Its writer reads EXIF, which it turns into a box of its own: the block takes the place of one.
    room = Image.Exif()
    room[0x112], room[0x10F] = 6, "x" * 200
    picture.save(file, kind, exif=room.tobytes(), quality=95)
    data = file.getvalue()
    at = max(data.rfind(start, 0, data.index(b"x" * 200)) for start in (b"MM\0*", b"II*\0"))
    return data[:at] + block[6:] + data[at + len(block) - 6 :]


def with_chunks(data: bytes, chunks: list[tuple[bytes, bytes]], *, behind: bool = False) -> bytes:
    """A PNG with more chunks, before or behind its pixels."""
    more = b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    at = len(data) - 12 if behind else 33
    return data[:at] + more + data[at:]


def _with_tags(data: bytes, block: bytes) -> bytes:
    """A TIFF whose directory holds the entries of a block of EXIF too, at a new place."""
    (at,) = struct.unpack_from("<I", data, 4)
    rows = {}
    for source, start, moved in ((data, at, False), (block[6:], 8, True)):
        (count,) = struct.unpack_from("<H", source, start)
        for row in range(count):
            entry = bytearray(source[start + 2 + 12 * row : start + 14 + 12 * row])
            tag, kind, values, where = struct.unpack("<HHII", entry)
            size = values * {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 10: 8}.get(kind, 0)
            if moved and size > 4 and where < len(block):
                entry[8:] = struct.pack("<I", where + len(data))
            rows[tag] = bytes(entry)
    directory = (
        struct.pack("<H", len(rows)) + b"".join(rows[tag] for tag in sorted(rows)) + bytes(4)
    )
    body = data + block[6:]
    return body[:4] + struct.pack("<I", len(body)) + body[8:] + directory
