"""Colour profiles that show at once whether they are looked at."""

from PIL import ImageCms


def srgb() -> bytes:
    """An ordinary sRGB profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped() -> bytes:
    """sRGB whose red and green are exchanged: what is stored as red is seen as green."""
    data = srgb()
    table = 128 + 4 + 12 * int.from_bytes(data[128:132], "big")
    names = data[:table].replace(b"rXYZ", b"....").replace(b"gXYZ", b"rXYZ")
    return names.replace(b"....", b"gXYZ") + data[table:]


def grey(gamma: float) -> bytes:
    """Grey of another gamma than sRGB has."""
    data = bytearray(srgb())
    data[16:20] = b"GRAY"
    table = 128 + 4 + 12 * int.from_bytes(data[128:132], "big")
    curve = b"curv" + bytes(4) + (1).to_bytes(4, "big") + round(gamma * 256).to_bytes(2, "big")
    head = bytes(data[:table]).replace(b"rTRC", b"kTRC")
    at = head.index(b"kTRC")
    entry = b"kTRC" + len(data).to_bytes(4, "big") + len(curve).to_bytes(4, "big")
    whole = head[:at] + entry + head[at + 12 :] + bytes(data[table:]) + curve + bytes(2)
    return len(whole).to_bytes(4, "big") + whole[4:]
