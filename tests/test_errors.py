"""A setting that cannot be is refused with what is allowed."""

import math

import pytest

from hybrids.errors import UserError, check_choice, check_number, check_positive, printable


@pytest.mark.parametrize(
    ("value", "limits", "message"),
    [
        (1, {"low": 2}, "size=1 must be at least 2"),
        (9, {"low": 2, "high": 8}, "size=9 must be from 2 to 8"),
        (1, {"low": 2, "high": 8, "why": "room=8"}, r"size=1 must be from 2 to 8 \(room=8\)"),
        (math.nan, {"low": 0}, "size=nan must be at least 0"),
        (math.inf, {"low": 0, "high": 1}, "size=inf must be from 0 to 1"),
    ],
)
def test_a_number_outside_its_limits_is_refused(value, limits, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        check_number("size", value, **limits)


def test_the_limits_themselves_are_allowed_and_a_number_left_out():
    for value in (2, 8, None):
        check_number("size", value, 2, 8)
    check_number("size", 10**9, 2)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
def test_only_a_finite_number_above_nothing_is_positive(value):
    check_positive("rate", 1e-9)
    with pytest.raises(UserError, match=f"^rate={value} must be positive$"):
        check_positive("rate", value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("fsat", "speed='fsat' is unknown; did you mean 'fast'? allowed: null, fast, slow"),
        ("?", "speed='?' is unknown; allowed: null, fast, slow"),
    ],
)
def test_a_word_that_is_no_choice_is_refused_with_the_closest(value, message):
    check_choice("speed", None, (None, "fast", "slow"))
    with pytest.raises(UserError) as refusal:
        check_choice("speed", value, (None, "fast", "slow"))
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mqar-LA", "mqar-LA"),
        ("häßlich 名前", "häßlich 名前"),
        ("a\nb\x1b[31m", r"a\nb\x1b[31m"),
        ("a\u202eb", r"a\u202eb"),
        ("a\udcff", r"a\udcff"),
        ("x" * 70 + "y" * 80, "x" * 64 + "..." + "y" * 33),
    ],
)
def test_a_text_from_outside_is_shown_as_one_line(text, shown):
    assert printable(text) == shown
