import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrids import notation
from hybrids.notation import (
    describe,
    from_fla,
    from_layer_types,
    from_mamba,
    from_megatron,
    from_nemotron_h,
    parse_notation,
    pattern_from_ratios,
    to_fla,
    to_jamba,
    to_layer_types,
    to_layers_block_type,
    to_mamba,
    to_megatron,
    to_nemotron_h,
    to_qwen3_next,
)
from hybrids.pattern import Pattern

LINEAR, FULL = "linear_attention", "full_attention"
HEADS = {"num_heads": 4}
STACKS = st.text(alphabet="LA", min_size=1, max_size=12)
SPECIAL_CASES = ["L", "A", "LLLLL", "AAAAA", "LLLA", "LLLAx6.AA", "ALLL", "LALLA"]


def parse(text):
    return Pattern.parse(text)


def refusal(call, *args, **kwargs):
    with pytest.raises(ValueError, match=r".+") as caught:
        call(*args, **kwargs)
    return str(caught.value)


# `LLLA` in each notation: the table of the projects' own documentation.


def test_the_megatron_string_of_llla():
    assert to_megatron(parse("LLLA")) == "MMM*"
    assert to_megatron(parse("LLLA"), mlp="-") == "M-M-M-*-"
    assert from_megatron("MMM*").pattern == parse("LLLA")


def test_the_nemotron_forms_of_llla():
    assert to_nemotron_h(parse("LLLA"), mlp="E") == "MEMEME*E"
    assert to_layers_block_type(parse("LLLA")) == [LINEAR] * 3 + [FULL]


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


# Round trips.


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


# Against transformers itself.


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers", reason="transformers is a development dependency")


@pytest.mark.parametrize(("depth", "interval"), [(1, 4), (8, 4), (9, 3), (5, 1), (3, 7)])
def test_qwen3_next_intervals_mean_what_transformers_means(transformers, depth, interval):
    given = {"num_hidden_layers": depth, "full_attention_interval": interval}
    outside = transformers.Qwen3NextConfig(**given).layer_types
    pattern = from_layer_types(given).pattern
    assert pattern == from_layer_types(outside).pattern
    assert to_layer_types(pattern)["layer_types"] == outside
    assert transformers.Qwen3NextConfig(**to_qwen3_next(pattern)).layer_types == outside


@pytest.mark.parametrize(("depth", "period", "offset"), [(8, 8, 4), (32, 8, 4), (4, 4, 3), (5, 1, 0), (3, 8, 4)])
def test_jamba_periods_mean_what_transformers_means(transformers, depth, period, offset):
    given = {"num_hidden_layers": depth, "attn_layer_period": period, "attn_layer_offset": offset}
    config = transformers.JambaConfig(**given)
    pattern = from_layer_types(given).pattern
    assert pattern == from_layer_types(config.layer_types).pattern
    assert pattern == from_layer_types(config.layers_block_type).pattern, "the legacy names mamba and attention"
    assert transformers.JambaConfig(**to_jamba(pattern)).layer_types == config.layer_types


def test_jamba_defaults_are_those_of_transformers(transformers):
    outside = transformers.JambaConfig(num_hidden_layers=16).layer_types
    assert (
        from_layer_types({"num_hidden_layers": 16, "attn_layer_offset": 4}).pattern == from_layer_types(outside).pattern
    )


@pytest.mark.parametrize("text", ["ME*-", "M-M-M-*-", "MMM*", "*", "M", "-", "MEM*EM-"])
def test_nemotron_strings_mean_what_transformers_means(transformers, text):
    config = transformers.NemotronHConfig(hybrid_override_pattern=text)
    read = from_nemotron_h(text)
    assert read == from_nemotron_h(config.layers_block_type)
    assert to_layers_block_type(read.pattern, **read.settings) == config.layers_block_type
    assert to_nemotron_h(read.pattern, **read.settings) == config.hybrid_override_pattern


# Rules of single notations.


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


# What patterns say and the notations cannot.

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


def test_mlp_layers_of_their_own_exclude_an_mlp_in_each_block():
    assert "MLP layers of its own" in refusal(to_megatron, parse("LFA"), mlp="-")
    assert "mlp='x'" in refusal(to_megatron, parse("LA"), mlp="x")


@pytest.mark.parametrize("text", ["LAA", "ALLA", "LLLAAL", "AL"])
def test_patterns_without_an_interval_are_refused_by_qwen3_next(text):
    assert "at every k-th layer" in refusal(to_qwen3_next, parse(text))


@pytest.mark.parametrize("text", ["LAA", "AALL", "LLLAAL"])
def test_patterns_without_a_period_are_refused_by_jamba(text):
    assert "at every layer i with i % period = offset" in refusal(to_jamba, parse(text))


def test_an_unknown_block_type_lists_the_known_names():
    message = refusal(from_nemotron_h, ["mamba", "sliding_attention"])
    assert "entry 2: 'sliding_attention'; allowed: linear_attention, full_attention, mlp, moe" in message


def test_the_mapping_of_letters_can_be_changed():
    symbols = {"R": "M", "A": "*", "F": "-"}
    assert from_megatron("MM*", symbols).pattern == parse("RRA")
    assert to_megatron(parse("RRA"), symbols=symbols) == "MM*"
    assert from_layer_types(["conv", FULL], {"C": "conv", "A": FULL}).pattern == parse("CA")
    assert to_megatron(parse("LMA"), symbols={"L": "G", "M": "M", "A": "*"}) == "GM*"


# Text as pasted.


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
    assert notation.MEGATRON["L"] == notation.NEMOTRON_H["L"] == "M"
    assert notation.MEGATRON["F"] == notation.NEMOTRON_H["F"] == "-"
