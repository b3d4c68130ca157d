"""The rule that derives E, C and R from the formulas of the atlas, and the formulas against what is measured."""

import importlib
from itertools import pairwise

import pytest
import sympy
import torch
import transformers
from atlas_rows import ALL, every_row
from hypothesis import given
from hypothesis import strategies as st

from hybrids.triangle.atlas.derive import Verdict, coordinates, derive, growth_of
from hybrids.triangle.atlas.measured import CONTEXTS, build, compare
from hybrids.triangle.atlas.table import architectures, n, size
from hybrids.triangle.coordinates import Measured, locate

RUNNABLE = [name for name, one in ALL.items() if one.is_runnable]


@pytest.fixture
def rows():
    return every_row()


# by hand, from what the papers say of themselves
TEXTBOOK = {
    "transformer": "R",
    "grouped_query": "R",
    "deepseek_v2": "R",
    "linear_transformer": "EC",
    "mamba": "EC",
    "mamba2": "EC",
    "rwkv7": "EC",
    "gated_delta_net": "EC",
    "mistral": "EC",
    "streaming_llm": "EC",
    "infini_attention": "EC",
    "titans": "EC",
    "log_linear_attention": "ec",
    "prefix_scannable": "Ec",
    "hyena": "-",
    "sparse_transformer": "-",
    "nsa": "R",
    "moba": "R",
    "retrieval_attention": "eR",
    "jamba": "R",
    "samba": "EC",
    "griffin": "EC",
    "kimi_linear": "R",
}


@pytest.mark.parametrize(("name", "label"), TEXTBOOK.items())
def test_textbook_cases_have_the_class_that_they_must_have(name, label):
    assert derive(ALL[name]).label == label


@pytest.mark.parametrize("name", ALL)
def test_no_row_breaks_the_law(name):
    """What a query reaches is part of the state, so a bounded state cannot hold facts that grow with n."""
    one, place = ALL[name], derive(ALL[name])
    for context in (1, 2, 100, 4096, 10**6):
        assert 0 <= one.at("reach", context) <= one.at("state", context) * (1 + 1e-9)
        assert one.at("step", context) > 0
    assert not (place.compactness.verdict is not Verdict.FAILS and place.recall.verdict is Verdict.HOLDS)


@pytest.mark.parametrize("name", ALL)
def test_the_class_agrees_with_the_numbers_far_out(name):
    """At n = 2^60 and 2^120, where constants no longer count, at the sizes of the row."""
    one, place = ALL[name], derive(ALL[name])
    for quantity, prop in (("step", place.efficiency), ("state", place.compactness)):
        near, far = one.at(quantity, 2**60), one.at(quantity, 2**120)
        assert prop.growth.is_bounded == (far == pytest.approx(near, rel=1e-6))
        assert (prop.verdict is Verdict.FAILS) == (far / near > 2**15)
    share = one.at("reach", 2**120) / 2.0**120
    assert (place.recall.verdict is Verdict.HOLDS) == (share > 1e-6)


SCALE = {
    "bounded": (sympy.Integer(1), 0),
    "log": (sympy.log(n), 1),
    "log2": (sympy.log(n, 2) ** 2, 2),
    "root": (sympy.sqrt(n), 3),
    "linear": (n, 4),
    "square": (n**2, 5),
}


@given(st.lists(st.tuples(st.sampled_from(list(SCALE)), st.integers(1, 10**6), st.sampled_from("KVw")), min_size=1))
def test_a_sum_grows_like_its_largest_term_whatever_the_sizes(terms):
    formula = sum(
        count * sympy.Symbol(size, positive=True, integer=True) * SCALE[name][0] for name, count, size in terms
    )
    largest = max((SCALE[name] for name, _, _ in terms), key=lambda pair: pair[1])[0]
    growth = growth_of(sympy.sympify(formula))
    limit = sympy.limit(growth.like / largest, n, sympy.oo)
    assert limit.is_finite and limit > 0


@pytest.mark.parametrize(
    ("text", "like"),
    [
        ("5*Min(n, w)", "1"),
        ("Min(n, w) + 3*floor(n/B)", "n"),
        ("floor(log(n, 2)) + 1", "log(n)"),
        ("n*log(n) + n", "n*log(n)"),
        ("0", "1"),
        ("Min(n, 2*sqrt(n)) + w", "sqrt(n)"),
        ("n - log(n)", "n"),
    ],
)
def test_growth_looks_through_minima_and_floors(text, like):
    symbols = {name: sympy.Symbol(name, positive=True, integer=True) for name in "wB"} | {"n": n}
    assert growth_of(sympy.sympify(text, locals=symbols)).spelt == like


# by hand: 4 H K a token that is scored and read, 2 G K a token that is kept, at 32 heads of 128 and 8 of keys
SLOPES = {
    "grouped_query": (4 * 32 * 128, 2 * 8 * 128),
    "transformer": (4 * 32 * 128, 2 * 32 * 128),
    "block_sparse": (4 * 32 * 128 / 64, 2 * 8 * 128 * (1 + 1 / 64)),
    "moba": (2 * 32 * 128 / 512, 2 * 8 * 128 + 8 * 128 / 512),
    "jamba": (4 * 4 * 32 * 128, 4 * 2 * 8 * 128),
    "minimax_01": (10 * 4 * 32 * 128, 10 * 2 * 8 * 128),
}


@pytest.mark.parametrize(("name", "slopes"), SLOPES.items())
def test_sparse_attention_and_hybrids_lower_slopes(name, slopes):
    place = derive(ALL[name])
    assert place.label == "R"
    assert (place.efficiency.slope, place.compactness.slope) == pytest.approx(slopes)


def test_growth_unlike_any_on_the_scale_is_an_error():
    with pytest.raises(ValueError, match="grows like none of 1, log"):
        growth_of(n**3)


def test_coordinates_are_those_of_the_triangle():
    one, context = architectures()["jamba"], 1000
    measured = [Measured(c, round(one.at("state", c)), round(one.at("step", c)), 0) for c in (context, 2 * context)]
    placed = locate(*measured)
    assert coordinates(one, context) == pytest.approx((placed.efficiency, placed.compactness), abs=1e-9)


def test_formulas_at_published_sizes_give_published_numbers():
    """Llama 3 8B has these widths: 128 KiB of keys and values a token in bf16 over 32 layers."""
    assert 32 * architectures()["grouped_query"].at("state", 1) * 2 == 128 * 1024
    assert architectures()["deepseek_v2"].at("state", 1) == 576  # elements a token and layer, arXiv:2405.04434, table 1
    assert architectures()["mamba"].at("state", 10**6) == 2 * 4096 * (16 + 3)


def test_samba_carries_the_keys_of_all_its_heads():
    """Samba 1.3B sets no n_query_groups (its lit_gpt/config.py): 9 windows of 2,047 tokens, and 9 Mamba layers."""
    window, mamba = 2 * 2047 * 32 * 128, 8192 * (16 + 3)
    assert architectures()["samba"].at("state", 10**6) == 9 * (window + mamba) == 152_322_048


def weights(module):
    """Numbers in the matrices of all its linear layers, adapters left out."""
    layers = [layer for name, layer in module.named_modules() if "adapter" not in name]
    return sum(layer.weight.numel() for layer in layers if isinstance(layer, torch.nn.Linear))


def step_of(name, letter, sizes):
    """FLOPs of the parts of one letter that are no mamba, after no token, at these sizes."""
    parts = [part for part in ALL[name].letters[letter] if part.mixer is None or "mamba" not in part.mixer]
    symbols = {size(key): value for key, value in sizes.items()} | {n: 0}
    return sum(part.step.subs(symbols) for part in parts)


def test_the_shared_block_of_zamba_costs_what_its_published_code_has():
    """Gated, and fed the embedding beside the stream; the products with one key are all that is no matrix."""
    for name, config in (("zamba", transformers.ZambaConfig()), ("zamba2", transformers.Zamba2Config())):
        module = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
        with torch.device("meta"):
            block = getattr(module, f"{name.capitalize()}AttentionDecoderLayer")(config, 0)
        heads, width = config.num_attention_heads, config.attention_head_dim
        sizes = {"D": config.hidden_size, "F": config.intermediate_size, "H": heads, "G": heads, "K": width}
        assert step_of(name, "Z", sizes) == 2 * weights(block) + 4 * heads * width
        assert coordinates(ALL[name], 131_072)[0] == pytest.approx(0.255, abs=5e-4)


def test_the_channel_mixer_of_rwkv_4_has_a_gate():
    config = transformers.RwkvConfig(hidden_size=64, num_hidden_layers=1)
    module = importlib.import_module("transformers.models.rwkv.modeling_rwkv")
    with torch.device("meta"):
        channel = module.RwkvFeedForward(config)
    part = ALL["rwkv4"].letters["L"][1]
    assert part.step.subs({size("D"): 64, size("F"): 256}) == 2 * weights(channel)
    assert ALL["rwkv6"].letters["L"][1] is part  # fla/models/rwkv6/modeling_rwkv6.py has the same three matrices


@pytest.mark.parametrize("name", RUNNABLE)
def test_formulas_are_what_is_measured(rows, name):
    found = next(row.comparisons for row in rows if row.architecture.name == name)
    assert [c.context for c in found] == list(CONTEXTS)
    for one in found:
        assert one.state_elements == one.state_formula
        assert one.step_ratio == pytest.approx(1, abs=0.05)
    for once, twice in pairwise(found):
        grown = twice.step_flops - once.step_flops
        assert grown == pytest.approx(twice.step_formula - once.step_formula, rel=0.05)


def test_most_rows_of_hybrids_and_all_our_mixers_are_measured():
    assert len(RUNNABLE) >= 25
    mixers = {part.mixer for name in RUNNABLE for letter in ALL[name].letters.values() for part in letter}
    assert len(mixers - {None}) >= 15


def test_what_cannot_be_built_says_why():
    with pytest.raises(ValueError, match=r"zamba cannot be measured: .* share"):
        compare(architectures()["zamba"])


def test_a_joined_layer_has_one_channel_mixer():
    one = architectures()["falcon_h1"]
    (layer,) = one.counts
    assert [part.name for _, part in one.parts_of(layer)] == ["attention", "swiglu", "mamba2"]
    assert len(list(build(one).blocks)) == 1
