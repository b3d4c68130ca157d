"""Strings of sublayers: Megatron's and Nemotron-H's, and the MLPs in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from notations import FULL, LINEAR, SPECIAL_CASES, parse, refusal

from hybrids.notation.sublayers import (
    from_megatron,
    from_nemotron_h,
    pattern_from_ratios,
    to_layers_block_type,
    to_megatron,
    to_nemotron_h,
)


def test_the_megatron_string_of_llla():
    assert to_megatron(parse("LLLA")) == "MMM*"
    assert to_megatron(parse("LLLA"), mlp="-") == "M-M-M-*-"
    assert from_megatron("MMM*").pattern == parse("LLLA")


def test_the_nemotron_forms_of_llla():
    assert to_nemotron_h(parse("LLLA"), mlp="E") == "MEMEME*E"
    assert to_layers_block_type(parse("LLLA")) == [LINEAR] * 3 + [FULL]


@pytest.mark.parametrize("text", SPECIAL_CASES)
@pytest.mark.parametrize("mlp", ["", "-", "E"])
def test_sublayer_strings_round_trip(text, mlp):
    for write, read in ((to_megatron, from_megatron), (to_nemotron_h, from_nemotron_h)):
        written = write(parse(text), mlp=mlp)
        back = read(written)
        assert back.pattern == parse(text)
        assert write(back.pattern, **back.settings) == written


@given(st.text(alphabet="MG*-E", min_size=1, max_size=12))
def test_every_megatron_string_comes_back_exactly(text):
    read = from_megatron(text)
    assert to_megatron(read.pattern, **read.settings) == text


@given(st.lists(st.sampled_from([LINEAR, FULL, "mlp", "moe"]), min_size=1, max_size=12))
def test_every_layers_block_type_comes_back_exactly(names):
    read = from_nemotron_h(names)
    assert to_layers_block_type(read.pattern, **read.settings) == names


@pytest.mark.parametrize(
    ("text", "pattern", "settings"),
    [
        ("M-*-", "LA", {"mlp": "-"}),
        ("ME*E", "LA", {"mlp": "E"}),
        ("M*", "LA", {}),
        ("M-M*-", "LFLAF", {}),
        ("ME*-", "LEAF", {}),
        ("-M-*", "FLFA", {}),
        ("----", "FFFF", {}),
        ("MGW", "LGS", {}),
    ],
)
def test_mlps_nowhere_or_after_every_mixer_are_blocks_and_sublayers_otherwise(text, pattern, settings):
    read = from_megatron(text)
    assert (str(read.pattern), read.settings) == (pattern, settings)


def test_a_note_says_what_the_mlps_of_the_string_mean():
    assert any("channel mixer is none" in note for note in from_megatron("M*").notes)
    assert any("MLP" in note and "after every mixer" in note for note in from_megatron("M-*-").notes)
    assert any("bind no mixer" in note for note in from_megatron("M-M*-").notes)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("M|M*", "entry 2: '|' cannot be expressed: it marks a pipeline stage"),
        ("MM*/M*/M*", "entry 4: '/' cannot be expressed: it starts a multi-token-prediction"),
        ("M[M*E]", "entry 2: '[' cannot be expressed: '[..]' is one fused group"),
        ("MD", "sparse and compressed attention"),
        ("MC", "sparse and compressed attention"),
        ("MH", "sparse and compressed attention"),
        ("M+", "latent attention"),
        ("MX", "unknown here; known: M, G, *, W, -, E"),
        ("M*W", "'*' may not stand in one model with 'W'"),
        ("", "not empty"),
    ],
)
def test_what_a_megatron_string_has_and_a_pattern_has_not_is_refused(text, says):
    message = refusal(from_megatron, text)
    assert says in message
    assert "megatron" in message


@pytest.mark.parametrize(
    ("layers", "attention", "mlp", "text"),
    [
        (10, 0.2, 0.0, "MMM*MM*MMM"),
        (8, 0.25, 0.0, "MM*MM*MM"),
        (8, 0.25, 0.25, "MM*-M*M-"),  # by hand from the rule: sections of 4/2 = 2 of the six Mamba layers
        (4, 0.0, 0.0, "MMMM"),
        (4, 1.0, 0.0, "****"),
        (5, 0.5, 0.0, "M*M*M"),  # 2.5 rounds to even: two
    ],
)
def test_ratios_place_attention_where_megatron_does(layers, attention, mlp, text):
    assert pattern_from_ratios(layers, attention, mlp) == text


@pytest.mark.parametrize("ratios", [(0, 0.1, 0.0), (4, -0.1, 0.0), (4, 0.8, 0.4)])
def test_ratios_that_mean_no_stack_are_refused(ratios):
    assert "ratios >= 0, sum <= 1" in refusal(pattern_from_ratios, *ratios)


def test_the_list_of_a_nemotron_config_beats_its_string_and_its_depth():
    config = {
        "layers_block_type": ["mamba", "attention"],
        "hybrid_override_pattern": "MMM",
        "num_hidden_layers": 52,
    }
    read = from_nemotron_h(config)
    assert read.pattern == parse("LA")
    assert any("num_hidden_layers=52" in note for note in read.notes)
    assert any("hybrid_override_pattern is ignored" in note for note in read.notes)


def test_mlp_layers_of_their_own_exclude_an_mlp_in_each_block():
    assert "MLP layers of its own" in refusal(to_megatron, parse("LFA"), mlp="-")
    assert "mlp='x'" in refusal(to_megatron, parse("LA"), mlp="x")


def test_an_unknown_block_type_lists_the_known_names():
    message = refusal(from_nemotron_h, ["mamba", "sliding_attention"])
    assert "entry 2: 'sliding_attention'; allowed: linear_attention, full_attention, mlp, moe" in message
