"""Colours to look at: what classes are painted with where their labels give none of their own.

Masks have VOC's colours, whose low bits tell ids apart, and few eyes. These are bright on dark and
on light pictures, neighbouring ids far apart, the first twenty also for eyes that see less colour.
Seven of the twenty are of M. Okabe and K. Ito, "Color Universal Design" (2008); the others were
computed by `recipes/palette.py`, which says how.
"""

from __future__ import annotations

OPACITY = 0.4
"""Of the paint in overlays: classes tell apart, and the photograph under them stays bright."""

_HEXADECIMAL = """
    e69f00 4b00f0 5affff c3000f 56b4e9 f0e442 692db4 009e73 0f693c 2dd2d2 c3ffc3 874bff
    f0c35a b41e78 cc79a7 d55e00 9678e1 96e1a5 87b478 0072b2 960f69 e1c3ff a5694b 0f96ff
    87ff87 e1873c d21ea5 c396c3 871e87 a54b5a 5a4be1 78e1d2 e16969 a5c378 b478c3 ff87ff
    5a5a00 c30fc3 698700 ff0f87 78c3a5 f04bff a5f0c3 b4003c e1ff00 a51e96 96874b f0a5b4
    6969d2 b46996 5a1ed2 7896e1 963c5a 69e100 a5ffe1 d2d287 1e8787 781eff 69b496 a5b45a
    5ac3e1 78f0e1 f0f0a5 d21e78 78001e 3c00a5 5a1e69 693c5a f05a3c 0087ff a569c3 870f00
    0000c3 4b1e87 691e4b d2e169 1ea5a5 875aa5 1e5a2d a5a55a c3c396 b44be1 5a6900 5a3c78
    d2ff69 871e4b 4b2da5 b4c33c e1b4ff a58769 c32d4b 695ac3 ffe1ff c387c3 5a2d78 96b4ff
    781e3c b42d96 96692d 87f0a5 0078e1 780096 4be15a 96002d 0f4b2d 5a961e 873ca5 d2f069
    c3a5c3 7869f0 692d5a e19687 4ba52d 2d4b87 00ff00 9678b4 b4e1ff 9696d2 b4b43c e1e1b4
    784b87 1e4b69 699687 b4d2b4 a578d2 e187b4 96f087 c33cb4 005a69 f03c96 782dc3 3cb44b
    a5c3f0 b4e1c3 c33cd2 695a2d c34b69 7878f0 78d2c3 5a3c00 d29696 960f96 5a3cd2 0f7887
    4b00b4 96a5d2 694bb4 4b965a 78693c 96d2e1 6900e1 96d278 e187f0 ff0fc3 3c6978 a52d4b
    694bf0 7887f0 96c35a e15a5a e16996 8769a5 5a3ca5 694bd2 002dc3 87b4d2 4b7869 f06978
    5a1e78 a5a5ff b4f0f0 b4d24b b44b00 a55a5a f069b4 5ac369 5a78d2 e10f87 00ffd2 965ab4
    5ad2a5 c3d269 69c300 e1ff96 e11e4b c33c96 4b0096 78a5f0 5ae1f0 785a78 a578a5 78a578
    693c1e 1e96d2 96a50f c396e1 3c5a3c 2d00d2 d2f0b4 e1b4d2 ff4ba5 78b487 d278e1 f0c3f0
    78e178 00872d 96c3b4 b487b4 00d269 b4ffd2 ffd2e1 2d6996 3ca5d2 c31e78 c3e14b 87c396
    c3fff0 3c0fff c35a00 a5b4f0 f078a5 d2874b 78d296 96960f 5ae1c3 d25ab4 ff9669 b45a87
    5aff96 5a1eb4 a5e196 692de1 e1c300 1e785a d25a78 00f0c3 b400b4 694b0f c3b487 2d5a96
    78f069 f00069 8787ff ffb4e1 d2ffb4 b4c387 3c694b 4b3c5a d21e5a a587f0 5a69a5 3cb4b4
    ff691e 781e1e b4b4e1 5a3c69
"""

COLOURS: tuple[tuple[int, int, int], ...] = tuple(
    (int(text[:2], 16), int(text[2:4], 16), int(text[4:], 16)) for text in _HEXADECIMAL.split()
)
"""256 colours, RGB, no two alike."""
