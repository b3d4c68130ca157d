"""What the tests of notations share: names of layer types, patterns, and the sentence of a refusal."""

import pytest

from hybrids.pattern import Pattern

LINEAR, FULL = "linear_attention", "full_attention"
SPECIAL_CASES = ["L", "A", "LLLLL", "AAAAA", "LLLA", "LLLAx6.AA", "ALLL", "LALLA"]


def parse(text):
    return Pattern.parse(text)


def refusal(call, *args, **kwargs):
    with pytest.raises(ValueError, match=r".+") as caught:
        call(*args, **kwargs)
    return str(caught.value)
