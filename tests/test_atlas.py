"""The atlas: its rows, the rule that derives E, C and R, and the formulas against what is measured."""

import csv
import io
import json
import math
import re
import sys
import tomllib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st

import hybrids.triangle.atlas
from hybrids import cli
from hybrids.backbone import Backbone
from hybrids.pattern import Pattern
from hybrids.registry import name_of
from hybrids.report import atlas
from hybrids.report.atlas_figure import draw_atlas
from hybrids.triangle.atlas import CONTEXT
from hybrids.triangle.atlas.derive import Verdict, coordinates, derive, growth_of
from hybrids.triangle.atlas.measured import CONTEXTS, build, compare
from hybrids.triangle.atlas.table import architectures, n, parts, sizes
from hybrids.triangle.coordinates import Measured, locate

CONF = Path(__file__).parent.parent / "conf" / "arch"
TABLES = [
    Path(hybrids.triangle.atlas.__file__).parent / f"{name}.toml" for name in ("attention", "recurrent", "stacks")
]
CONFIRMED = ("confirmed", "confirmed_layers")
ALL = architectures()
RUNNABLE = [name for name, one in ALL.items() if one.is_runnable]
PRESETS = {one.preset: one for one in ALL.values() if one.preset}


@pytest.fixture(scope="module")
def rows():
    return atlas.make_rows(list(ALL.values()), CONTEXT)


def test_there_are_enough_rows_and_none_twice():
    assert len(ALL) >= 52
    assert len({one.title for one in ALL.values()}) == len(ALL)


@pytest.mark.parametrize("name", ALL)
def test_every_row_has_a_source_from_before_march_2026(name):
    one = ALL[name]
    assert re.fullmatch(r"arXiv:\d{4}\.\d{4,5}|doi:10\.\d{4,}/\S+|https://\S+", one.source)
    assert re.fullmatch(r"\d{4}(-(0[1-9]|1[0-2]))?", one.published)
    assert one.published[:4] >= "1990" and one.published < "2026-03"
    if one.source.startswith("arXiv:"):
        assert one.source[6:10] < "2603"


@pytest.mark.parametrize("name", ALL)
def test_what_is_confirmed_was_read_somewhere(name):
    one = ALL[name]
    for read in filter(None, (one.confirmed, one.confirmed_layers)):
        assert re.fullmatch(r"[\w.-]+/[\w.-]+: \S+|https://\S+", read) and read != one.source
    assert one.confirmed or not one.confirmed_layers


def test_the_page_counts_what_is_confirmed(rows):
    entries = [tomllib.loads(file.read_text()) for file in TABLES]
    confirmed = [[row for table in entries for row in table.values() if key in row] for key in CONFIRMED]
    sources, layers = map(len, confirmed)
    assert all(row[key] for key, found in zip(CONFIRMED, confirmed, strict=True) for row in found)
    page = atlas.page(rows, "", "")
    assert f"the sources of {sources} of {len(ALL)} rows, the layers of {layers}." in page
    lstm = next(row for row in rows if row.architecture.name == "lstm")
    unread = replace(lstm, architecture=replace(lstm.architecture, confirmed="", confirmed_layers=""))
    assert "the sources of 0 of 1 rows, the layers of 0." in atlas.page([unread], "", "")


@pytest.mark.parametrize("name", ALL)
def test_a_row_runs_here_or_says_what_is_missing(name):
    one = ALL[name]
    assert one.is_runnable or one.missing
    if one.preset:
        assert (CONF / f"{one.preset}.yaml").exists()


def test_sources_are_shared_only_where_a_paper_has_two_architectures():
    shared = [one.name for one in ALL.values() if sum(other.source == one.source for other in ALL.values()) > 1]
    assert sorted(shared) == ["griffin", "hawk"]


def test_every_part_and_size_is_used():
    used = {part.name for one in ALL.values() for letter in one.letters.values() for part in letter}
    assert used == set(parts())
    named = {str(symbol).partition("_M")[0] for one in ALL.values() for symbol in one.values}
    assert set(sizes()) <= named | {str(symbol) for one in ALL.values() for symbol in one.values}


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


_runs = {}


@pytest.fixture
def preset_run(make_run):
    """The run of a preset, composed once."""

    def compose(preset):
        if preset not in _runs:
            _runs[preset] = make_run(f"arch={preset}")
        return _runs[preset]

    return compose


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_a_piece_of_the_published_stack(preset_run, preset):
    one, run = PRESETS[preset], preset_run(preset)
    layers, piece = [str(layer) for layer in one.pattern.layers] * 20, [str(layer) for layer in run.pattern.layers]
    assert any(layers[i : i + len(piece)] == piece for i in range(len(layers) - len(piece) + 1))
    assert set(run.pattern.layers) == set(one.pattern.layers)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_has_the_mixers_of_its_row(preset_run, preset):
    one, run = PRESETS[preset], preset_run(preset)
    stand_ins = {("minimax_01", "L"): "retention", ("kimi_linear", "A"): "attention"}
    for letter, row_parts in one.letters.items():
        wanted = next((part.mixer for part in row_parts if not part.is_channel), None)
        choice = run.letters[letter].mixer
        name = None if choice is None else name_of(choice.cls)
        assert name == stand_ins.get((preset, letter), wanted)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("width", [16, 64])
def test_a_preset_scales_by_its_width_alone_and_takes_a_step(preset_run, preset, width):
    run = preset_run(preset)
    backbone = Backbone(width, run.pattern, run.letters)
    y, _ = backbone(torch.randn(2, 5, width))
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


def test_patterns_are_those_that_others_publish():
    published = {  # of NVIDIA's configurations
        "nemotron_h": "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
        "mamba2_hybrid": "M-M-M--M-M*-M-M-M-M--M*-M-M-M-M-M*--M-M-M-M-M*-M--M-M-M-",
    }
    for name, text in published.items():
        assert architectures()[name].pattern == Pattern.parse(text.replace("*", "A").replace("-", "F"))
    transformers = pytest.importorskip("transformers")
    for name, config, letters in [
        ("jamba", transformers.JambaConfig(), {"linear_attention": "M", "full_attention": "A"}),
        ("qwen3_next", transformers.Qwen3NextConfig(), {"linear_attention": "L", "full_attention": "A"}),
        ("recurrentgemma", transformers.RecurrentGemmaConfig(), {"linear_attention": "R", "sliding_attention": "S"}),
        ("gpt_oss", transformers.GptOssConfig(), {"sliding_attention": "S", "full_attention": "A"}),
        ("zamba", transformers.ZambaConfig(), {"linear_attention": "M", "hybrid": "Z"}),
        ("zamba2", transformers.Zamba2Config(), {"linear_attention": "M", "hybrid": "Z"}),
        ("gemma_2", transformers.Gemma2Config(), {"sliding_attention": "S", "full_attention": "A"}),
    ]:
        assert architectures()[name].pattern == Pattern.parse("".join(letters[kind] for kind in config.layer_types)), (
            name
        )


def run_atlas(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["hybrids", "atlas", *arguments])
    code = cli.main()
    return code, capsys.readouterr()


def test_without_a_name_every_row_is_chosen_and_shown(rows):
    assert atlas.select() == list(ALL.values())
    shown = atlas.table_rows(rows)
    assert [row[0] for row in shown] == list(ALL)
    assert all(len(row) == len(atlas.COLUMNS) for row in shown)


def test_the_command_prints_a_table(monkeypatch, capsys):
    code, shown = run_atlas(monkeypatch, capsys, "rwkv")
    assert code == 0
    assert all(f" {name} " in shown.out for name in ("rwkv4", "rwkv6", "rwkv7"))
    assert "s 1, f 1.000" in shown.out


def test_one_name_shows_formulas_and_reasons(monkeypatch, capsys):
    code, shown = run_atlas(monkeypatch, capsys, "jamba", "--context", "1000")
    assert code == 0
    for text in ("28 M: I*(N + W - 1); 4 A: 2*G*K*n", "fails: the state takes as much as n (A: 4 of 32 layers)"):
        assert text in shown.out
    assert "arch=jamba" in shown.out and "at n = 1,000" in shown.out


def test_filters_choose_by_class_family_and_name(monkeypatch, capsys):
    shown = {}
    for key, arguments in {
        "ER": ["--class", "ER"],
        "none": ["--class", "none"],
        "hybrid EC": ["--class", "ce", "--family", "hybrid"],
        "gemma": ["gemma"],
    }.items():
        code, out = run_atlas(monkeypatch, capsys, *arguments, "--json")
        assert code == 0
        shown[key] = {row["name"] for row in json.loads(out.out)}
    assert shown["ER"] == {"retrieval_attention", "sparse_access_memory"}
    assert "hyena" in shown["none"] and "transformer" not in shown["none"]
    assert shown["hybrid EC"] == {"based", "griffin", "recurrentgemma", "samba"}
    assert shown["gemma"] == {"recurrentgemma", "gemma_2", "gemma_3"}


def test_records_hold_formulas_that_give_the_coordinates(monkeypatch, capsys):
    _, shown = run_atlas(monkeypatch, capsys, "--csv", "qwen3")
    rows = list(csv.DictReader(io.StringIO(shown.out)))
    (row,) = rows
    assert row["name"] == "qwen3_next"
    symbols = {name: sympy.Symbol(name) for name in [*json.loads(row["sizes"]), "n"]}
    formula = sympy.sympify(row["state_formula"], locals=symbols)
    values = {symbols[name]: value for name, value in json.loads(row["sizes"]).items()}
    once, twice = (float(formula.subs(values).subs(symbols["n"], k * int(row["context"]))) for k in (1, 2))
    assert 1 - math.log2(twice / once) == pytest.approx(float(row["compactness"]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jambo"], "no architecture is named 'jambo'; did you mean 'jamba'?"),
        (["--class", "EX"], "class 'EX': allowed are letters of E, C and R"),
        (["--context", "0"], "context=0 must be at least 1"),
        (["jamba", "--class", "EC"], "no architecture is of that name, class and family"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(monkeypatch, capsys, arguments, message):
    code, shown = run_atlas(monkeypatch, capsys, *arguments)
    assert code == 1
    assert message in shown.err and shown.err.count("\n") == 1


def test_the_command_writes_page_and_figure(tmp_path, monkeypatch, capsys):
    code, _ = run_atlas(monkeypatch, capsys, "gemma", "--write", str(tmp_path))
    assert code == 0
    text = (tmp_path / "atlas.md").read_text()
    assert "Gemma 2 2B" in text and "arXiv:2503.19786" in text
    assert (tmp_path / "atlas.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("context", [200, CONTEXT])
def test_figure_names_every_row_where_windows_still_fill_and_later(tmp_path, rows, context):
    draw_atlas([replace(row, context=context) for row in rows], tmp_path / "atlas.svg")
    texts = " ".join(re.findall(r"<!-- (.*?) -->", (tmp_path / "atlas.svg").read_text(), re.DOTALL))
    named = re.sub(r"\s+", " ", texts)
    assert all(one.title in named for one in ALL.values())
    numbers = {int(found) for found in re.findall(r"(?<!\S)(\d+) (?! )", texts)}
    assert set(range(1, 20)) <= numbers


def test_the_committed_page_is_what_the_command_writes(rows):
    committed = (CONF.parent.parent / "docs" / "atlas.md").read_text()
    assert committed == atlas.page(rows, "hybrids atlas --write docs", "atlas.png")
    assert all(one.title in committed and one.source in committed for one in ALL.values())
