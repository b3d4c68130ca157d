"""Any notation: what none of them can say, the mapping of letters, text as pasted, and what describe prints."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from notations import FULL, SPECIAL_CASES, parse, refusal

from hybrids.notation import describe, parse_notation
from hybrids.notation.blocks import from_layer_types, to_fla, to_jamba, to_layer_types, to_mamba, to_qwen3_next
from hybrids.notation.sublayers import (
    MEGATRON,
    NEMOTRON_H,
    from_megatron,
    to_layers_block_type,
    to_megatron,
    to_nemotron_h,
)


@pytest.mark.parametrize("text", SPECIAL_CASES)
def test_what_describe_prints_can_be_pasted_back(text):
    rows = dict(describe(parse(text)))
    readers = {"layers_block_type": "nemotron_h", "qwen3_next": "layer_types", "jamba": "layer_types"}
    checked = 0
    for name, written in rows.items():
        if not written.startswith("cannot: "):
            reader = readers.get(name, name.split(",")[0])
            assert parse_notation(reader, written.replace(": H", ": 4")).pattern == parse(text), name
            checked += 1
    assert checked >= 8


WRITERS = [
    to_megatron,
    to_nemotron_h,
    to_layers_block_type,
    to_layer_types,
    to_qwen3_next,
    to_jamba,
    to_fla,
    to_mamba,
]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("LL+A", "layer 2 is L+A"),
        ("L:A", "layer 1 is L:A"),
        ("LQ", "letter Q (layer 2)"),
        ("LM", "L and M would both be"),
    ],
)
def test_a_layer_without_a_form_there_is_refused(write, text, says):
    assert says in refusal(write, parse(text))


def test_sliding_windows_are_refused_where_there_are_none():
    assert "letter S" in refusal(to_nemotron_h, parse("LS"))
    assert "letter S" in refusal(to_mamba, parse("LS"))
    assert "need a window" in refusal(to_layer_types, parse("LS"))
    assert "only linear and full attention" in refusal(to_jamba, parse("LS"))
    assert "'*' may not stand" in refusal(to_megatron, parse("AS"))


def test_the_mapping_of_letters_can_be_changed():
    symbols = {"R": "M", "A": "*", "F": "-"}
    assert from_megatron("MM*", symbols).pattern == parse("RRA")
    assert to_megatron(parse("RRA"), symbols=symbols) == "MM*"
    assert from_layer_types(["conv", FULL], {"C": "conv", "A": FULL}).pattern == parse("CA")
    assert to_megatron(parse("LMA"), symbols={"L": "G", "M": "M", "A": "*"}) == "GM*"


@pytest.mark.parametrize(
    ("name", "text", "pattern"),
    [
        ("megatron", " MMM* ", "LLLA"),
        ("megatron", '"M-M-M-*-"', "LLLA"),
        ("nemotron_h", "M-M-M-*-", "LLLA"),
        ("nemotron_h", '["mamba", "attention"]', "LA"),
        ("nemotron_h", "mamba, attention, mlp", "LAF"),
        ("nemotron_h", '{"hybrid_override_pattern": "ME*-"}', "LEAF"),
        ("nemotron_h", "hybrid_override_pattern='M*'", "LA"),
        ("layer_types", "linear_attention", "L"),
        ("layer_types", "[linear_attention, full_attention]", "LA"),
        ("layer_types", "('linear_attention', 'full_attention',)", "LA"),
        ("layer_types", '"num_hidden_layers": 4, "full_attention_interval": 4', "LLLA"),
        ("layer_types", '{"num_hidden_layers": 3, "attn_layer_period": 3, "attn_layer_offset": 1}', "LAL"),
        ("fla", "num_hidden_layers=4, attn={'layers': [3], 'num_heads': 2}", "LLLA"),
        ("fla", '{"num_hidden_layers": 2, "attn": null}', "LL"),
        ("mamba", "n_layer=4, attn_layer_idx=[3]", "LLLA"),
        ("mamba", "{'n_layer': 4, 'attn_layer_idx': [3], 'attn_cfg': {'causal': True}}", "LLLA"),
    ],
)
def test_text_is_read_as_one_would_paste_it(name, text, pattern):
    assert str(parse_notation(name, text).pattern) == pattern


def test_an_unknown_notation_lists_the_known_ones():
    assert refusal(parse_notation, "zoology", "x").endswith("allowed: megatron, nemotron_h, layer_types, fla, mamba")


@settings(max_examples=300)
@given(
    st.sampled_from(["megatron", "nemotron_h", "layer_types", "fla", "mamba"]),
    st.one_of(
        st.text(max_size=20),
        st.text(alphabet="M*-E[]{}(),:='\" 0123", max_size=15),
        st.dictionaries(
            st.sampled_from(["num_hidden_layers", "attn", "n_layer", "layer_types", "ssm_cfg", "attn_layer_idx"]),
            st.one_of(st.integers(-1, 9), st.none(), st.text(max_size=3), st.lists(st.integers(-1, 5), max_size=3)),
        ).map(str),
    ),
)
def test_junk_is_a_pattern_or_a_value_error(name, text):
    try:
        read = parse_notation(name, text)
    except ValueError:
        return
    assert len(read.pattern) >= 1


@given(st.text(alphabet="LAMSFQ+:", min_size=1, max_size=8))
def test_describe_answers_for_every_pattern(text):
    try:
        pattern = parse(text)
    except ValueError:
        return
    names = [name for name, _ in describe(pattern, window=64)]
    assert {"megatron", "nemotron_h", "layer_types", "fla", "mamba"} <= set(names)
    assert all(text for _, text in describe(pattern, window=64))


def test_describe_says_what_cannot_be_written_and_why():
    rows = dict(describe(parse("LLA+L")))
    assert set(rows.values()) == {"cannot: layer 3 is A+L, but an entry there holds one mixer"}
    assert dict(describe(parse("LS"), window=64))["layer_types"].endswith("sliding_window=64")


def test_the_default_letters_are_the_documented_ones():
    assert MEGATRON["L"] == NEMOTRON_H["L"] == "M"
    assert MEGATRON["F"] == NEMOTRON_H["F"] == "-"
