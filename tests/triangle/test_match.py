"""Widths that make patterns comparable."""

import pytest

from hybrids.model.backbone import Backbone
from hybrids.model.measure import measure_step
from hybrids.triangle.match import Size, match_width, size_of

WIDTHS = range(8, 129, 8)


@pytest.fixture
def builder(make_run):
    def of(pattern, *overrides):
        run = make_run(f"pattern={pattern}", *overrides)
        return lambda d_model: Backbone(d_model, run.pattern, run.letters)

    return of


def test_sizes_are_those_that_are_measured(builder):
    build = builder("LA")
    size, backbone = size_of(build, 32, 64), build(32)
    cost = measure_step(backbone, 32, 64)
    assert size.params == sum(parameter.numel() for parameter in backbone.parameters())
    assert size.state == cost.state_elements
    assert abs(size.flops / cost.flops - 1) < 0.1


@pytest.mark.parametrize("quantity", ["params", "state", "flops"])
def test_no_other_width_comes_closer(builder, quantity):
    target = size_of(builder("LLLA"), 64, 128)
    found = match_width(builder("AAAA"), quantity, getattr(target, quantity), 128, WIDTHS)
    others = [size_of(builder("AAAA"), width, 128) for width in WIDTHS]
    aim = getattr(target, quantity)
    ratios = [max(getattr(s, quantity), aim) / min(getattr(s, quantity), aim) for s in others]
    assert max(getattr(found, quantity), aim) / min(getattr(found, quantity), aim) == min(ratios)


def test_the_same_pattern_matches_itself(builder):
    target = size_of(builder("LA"), 64, 128)
    assert match_width(builder("LA"), "state", target.state, 128, WIDTHS) == target


def test_attention_that_matches_a_state_is_narrower(builder):
    """Four layers of keys and values, against one and three matrices of fixed size."""
    target = size_of(builder("LLLA"), 64, 256)
    assert match_width(builder("AAAA"), "state", target.state, 256, WIDTHS).d_model < 64


def test_widths_that_the_heads_do_not_divide_are_left_out(builder):
    build = builder("A", "mixers.A.num_heads=4")
    found = match_width(build, "params", size_of(build, 16, 8).params, 8, [15, 16, 17])
    assert isinstance(found, Size) and found.d_model == 16


def test_what_cannot_be_matched_is_refused(builder):
    with pytest.raises(ValueError, match="match='size' is unknown"):
        match_width(builder("A"), "size", 100, 8, WIDTHS)
    with pytest.raises(ValueError, match=r"no width comes within a factor 1.5 of 5; there are .* at d_model=8, "):
        match_width(builder("A"), "state", 5, 64, WIDTHS)
    with pytest.raises(ValueError, match=r"accept none of the widths 15 \.\.\. 17"):
        match_width(builder("A", "mixers.A.num_heads=4"), "params", 100, 8, [15, 17])
