"""Configurations that name blocks: layer types, intervals and periods, attention of fla and of mamba_ssm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from notations import FULL, LINEAR, parse, refusal

from hybrids.notation.blocks import (
    from_fla,
    from_layer_types,
    from_mamba,
    to_fla,
    to_jamba,
    to_layer_types,
    to_mamba,
    to_qwen3_next,
)

HEADS = {"num_heads": 4}
STACKS = st.text(alphabet="LA", min_size=1, max_size=12)


def test_the_transformers_forms_of_llla():
    assert to_layer_types(parse("LLLA")) == {"layer_types": [LINEAR, LINEAR, LINEAR, FULL]}
    assert to_qwen3_next(parse("LLLA")) == {"num_hidden_layers": 4, "full_attention_interval": 4}
    jamba = {"num_hidden_layers": 4, "attn_layer_period": 4, "attn_layer_offset": 3}
    assert to_jamba(parse("LLLA")) == jamba


def test_the_fla_and_mamba_forms_of_llla():
    fla = {"num_hidden_layers": 4, "attn": {"layers": [3], "num_heads": 4}}
    assert to_fla(parse("LLLA"), attention=HEADS) == fla
    mamba = to_mamba(parse("LLLA"), attn_cfg=HEADS, ssm_cfg={"layer": "Mamba2"})
    assert mamba == {
        "n_layer": 4,
        "attn_layer_idx": [3],
        "attn_cfg": {"causal": True, "num_heads": 4},
        "ssm_cfg": {"layer": "Mamba2"},
    }


@given(st.lists(st.sampled_from([LINEAR, FULL, "sliding_attention"]), min_size=1, max_size=12))
def test_every_layer_types_list_comes_back_exactly(names):
    read = from_layer_types({"layer_types": names, "sliding_window": 64})
    assert to_layer_types(read.pattern, **read.settings)["layer_types"] == names


@given(st.text(alphabet="LAS", min_size=1, max_size=12))
def test_block_notations_round_trip(text):
    window = {"num_heads": 2, "window_size": 64}
    fla = to_fla(parse(text), attention=HEADS, window=window)
    read = from_fla(fla)
    assert read.pattern == parse(text)
    assert to_fla(read.pattern, **read.settings) == fla
    assert from_layer_types(to_layer_types(parse(text), window=64)).pattern == parse(text)


@given(STACKS)
def test_mamba_configs_round_trip(text):
    config = to_mamba(parse(text), attn_cfg=HEADS, ssm_cfg={"layer": "Mamba3"}, d_intermediate=256)
    read = from_mamba(config)
    assert read.pattern == parse(text)
    assert to_mamba(read.pattern, **read.settings) == config


@given(STACKS)
def test_periodic_forms_round_trip_or_are_refused(text):
    for write in (to_qwen3_next, to_jamba):
        try:
            config = write(parse(text))
        except ValueError:
            continue
        assert from_layer_types(config).pattern == parse(text)


def test_legacy_and_current_names_mix():
    assert from_layer_types(["mamba", LINEAR, "attention", FULL]).pattern == parse("LLAA")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["sliding_attention"], "need a window"),
        (
            [LINEAR, "chunked_attention"],
            "entry 2: 'chunked_attention' cannot be expressed: attention inside fixed chunks",
        ),
        (["conv"], "short convolution"),
        (["hybrid"], "both kinds in one layer"),
        (["minimax_m3_sparse"], "sparse attention"),
        (["mlp"], "read such a list as nemotron_h"),
        (["nonsense"], "known: linear_attention, full_attention, sliding_attention"),
        ([], "not empty"),
        ([3], "list of names"),
        ({"num_hidden_layers": 4}, "give layer_types"),
        ({"full_attention_interval": 4}, "num_hidden_layers"),
        ({"num_hidden_layers": 4, "full_attention_interval": 0}, "at least 1"),
        ({"num_hidden_layers": 4, "attn_layer_period": 4}, "attn_layer_offset=4 must be below"),
        (
            {"num_hidden_layers": 8, "attn_layer_period": 4, "attn_layer_offset": 4},
            "must be below attn_layer_period=4",
        ),
        ({"num_hidden_layers": 3, "layer_types": [LINEAR]}, "layer_types has 1 entries"),
        ({"num_hidden_layers": 10_001, "full_attention_interval": 4}, "at most 10,000"),
    ],
)
def test_what_layer_types_cannot_give_is_refused(given, says):
    assert says in refusal(from_layer_types, given)


def test_a_window_is_kept_beside_the_pattern():
    read = from_layer_types({"layer_types": [LINEAR, "sliding_attention"], "sliding_window": 512})
    assert (str(read.pattern), read.settings) == ("LS", {"window": 512})


def test_keys_that_are_no_part_of_a_pattern_are_named():
    read = from_layer_types({"num_hidden_layers": 2, "full_attention_interval": 2, "hidden_size": 64})
    assert any("hidden_size" in note for note in read.notes)
    assert not any("num_hidden_layers" in note for note in read.notes)


def test_fla_takes_none_a_dict_or_a_list_and_keeps_unknown_keys():
    assert from_fla({"num_hidden_layers": 2, "attn": None}).pattern == parse("LL")
    specs = [{"layers": [1], "num_heads": 4, "extra": 1}, {"layers": (2,), "num_heads": 2, "window_size": 64}]
    read = from_fla({"num_hidden_layers": 4, "attn": specs})
    assert str(read.pattern) == "LASL"
    assert read.settings == {
        "attention": {"num_heads": 4, "extra": 1},
        "window": {"num_heads": 2, "window_size": 64},
    }


@pytest.mark.parametrize(
    ("attn", "says"),
    [
        ({"layers": [3]}, "at least layers and num_heads"),
        ({"layers": [4], "num_heads": 1}, "from 0 to 3"),
        ({"layers": [-1], "num_heads": 1}, "from 0 to 3"),
        ({"layers": [True], "num_heads": 1}, "True must be an integer"),
        ({"layers": [1, 1], "num_heads": 1}, "layer 1 is named twice"),
        ({"layers": "3", "num_heads": 1}, "must be a list"),
        ({"layers": [1], "num_heads": 0}, "at least 1"),
        ([{"layers": [1], "num_heads": 1}, {"layers": [1], "num_heads": 1}], "layer 1 is named twice"),
        ([{"layers": [1], "num_heads": 1}, {"layers": [2], "num_heads": 2}], "would be one letter"),
        (3, "must be a list"),
        ([3], "must be a dict"),
    ],
)
def test_bad_fla_specs_are_refused(attn, says):
    assert says in refusal(from_fla, {"num_hidden_layers": 4, "attn": attn})


def test_fla_attention_needs_heads_and_a_window_its_size():
    assert "num_heads" in refusal(to_fla, parse("LA"))
    assert "window_size" in refusal(to_fla, parse("LS"), window=HEADS)


def test_mamba_attention_that_is_not_causal_is_pointed_out():
    def notes(attn_cfg):
        return " ".join(from_mamba({"n_layer": 2, "attn_layer_idx": [1], "attn_cfg": attn_cfg}).notes)

    assert "causal" in notes({})
    assert "causal" not in notes({"causal": True})


def test_mamba_notes_name_the_native_mixer_and_the_mlp():
    notes = from_mamba({"n_layer": 2, "ssm_cfg": {"layer": "Mamba2"}, "d_intermediate": 8}).notes
    assert notes == ("the native mixer is Mamba2", "a gated MLP in every block")
    assert "the native mixer is Mamba1" in from_mamba({"n_layer": 2}).notes


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"attn_layer_idx": [3]}, "n_layer"),
        ({"n_layer": 2, "attn_layer_idx": [2]}, "from 0 to 1"),
        ({"n_layer": 2, "attn_layer_idx": [1, 1]}, "named twice"),
        ({"n_layer": 2, "ssm_cfg": "Mamba2"}, "must be a dict"),
        ({"n_layer": True}, "at least 1"),
        ([3], "n_layer"),
    ],
)
def test_bad_mamba_configs_are_refused(config, says):
    assert says in refusal(from_mamba, config)


@pytest.mark.parametrize("text", ["LAA", "ALLA", "LLLAAL", "AL"])
def test_patterns_without_an_interval_are_refused_by_qwen3_next(text):
    assert "at every k-th layer" in refusal(to_qwen3_next, parse(text))


@pytest.mark.parametrize("text", ["LAA", "AALL", "LLLAAL"])
def test_patterns_without_a_period_are_refused_by_jamba(text):
    assert "at every layer i with i % period = offset" in refusal(to_jamba, parse(text))
