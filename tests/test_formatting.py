"""Numbers and names as they are shown."""

import os

import pytest

from atrous.formatting import as_percent, shown


@pytest.mark.parametrize(
    ("share", "digits", "expected"),
    [
        (0.0, 1, "0.0 %"),
        (0.0004, 1, "< 0.1 %"),
        (0.0006, 1, "0.1 %"),
        (0.123, 1, "12.3 %"),
        (0.9994, 1, "99.9 %"),
        (0.9996, 1, "> 99.9 %"),
        (1.0, 1, "100.0 %"),
        (0.00004, 2, "< 0.01 %"),
    ],
)
def test_a_share_is_none_or_all_only_if_it_is(share: float, digits: int, expected: str) -> None:
    assert as_percent(share, digits) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"plain \xc3\xa9 \xf0\x9f\x90\x88.png", "plain \u00e9 \U0001f408.png"),
        (b"caf\xe9.png", r"caf\xe9.png"),
        (b"two\nlines\tand\r", r"two\nlines\tand\r"),
        (b"\x1b[31mred\x07\x7f\xc2\x9b", r"\x1b[31mred\x07\x7f\x9b"),
        (b"gpj.\xe2\x80\xaegnp\xe2\x80\xa8", r"gpj.\u202egnp\u2028"),
    ],
)
def test_names_are_one_line_that_does_nothing(name: bytes, expected: str) -> None:
    assert shown(os.fsdecode(name)) == expected


def test_text_may_have_lines() -> None:
    assert shown("a\n\tb\x1b", lines=True) == "a\n\tb\\x1b"
