"""A setting that a task cannot have is refused with what is allowed."""

import pytest

from hybrids.errors import UserError
from hybrids.tasks.setting_checks import check_number
from hybrids_plugins.tasks.index import Index


@pytest.mark.parametrize(
    ("value", "limits", "message"),
    [
        (1, {"low": 2}, "size=1 must be at least 2"),
        (9, {"low": 2, "high": 8}, "size=9 must be from 2 to 8"),
        (1, {"low": 2, "high": 8, "why": "room=8"}, r"size=1 must be from 2 to 8 \(room=8\)"),
    ],
)
def test_a_number_outside_its_limits_is_refused(value, limits, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        check_number("size", value, **limits)


def test_the_limits_themselves_are_allowed():
    for value in (2, 8):
        check_number("size", value, 2, 8)
    check_number("size", 10**9, 2)


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("retreival", "mode='retreival' is unknown; did you mean 'retrieval'? allowed: vanilla, retrieval"),
        ("?", "mode='?' is unknown; allowed: vanilla, retrieval"),
    ],
)
def test_a_word_that_is_no_choice_is_refused_with_the_closest(mode, message):
    with pytest.raises(UserError) as refusal:
        Index(mode=mode)
    assert str(refusal.value) == message
