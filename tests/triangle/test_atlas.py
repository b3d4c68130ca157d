"""The rows of the atlas: their sources, and the presets that are built from them."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from atlas_rows import ALL, every_row

import hybrids.triangle.atlas
from hybrids.model.backbone import Backbone
from hybrids.pattern import Pattern
from hybrids.registry import name_of
from hybrids.report.terminal import atlas
from hybrids.triangle.atlas.table import architectures, parts, sizes

CONF = Path(__file__).parents[2] / "conf" / "arch"
TABLES = [
    Path(hybrids.triangle.atlas.__file__).parent / f"{name}.toml" for name in ("attention", "recurrent", "stacks")
]
CONFIRMED = ("confirmed", "confirmed_layers")
PRESETS = {one.preset: one for one in ALL.values() if one.preset}


@pytest.fixture
def rows():
    return every_row()


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


# Presets

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
def test_a_preset_groups_its_heads_where_its_row_does(preset_run, preset):
    one, run = PRESETS[preset], preset_run(preset)
    for letter, row_parts in one.letters.items():
        if {part.mixer for part in row_parts} & {"attention", "sliding_attention"}:
            is_grouped = run.letters[letter].mixer.settings.get("num_kv_heads") is not None
            assert is_grouped == (one.sizes.get(letter, {}).get("G") != "H")


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
