"""`hybrids state` shows what every layer carries and costs, measured beside declared, and beside zoology's numbers."""

import sys

import pytest
import torch

from hybrids import cli
from hybrids.mixer import PublishedSize
from hybrids.model.backbone import Backbone
from hybrids.model.block import Choice, Letter
from hybrids.model.measure import measure_step, parameter_bytes
from hybrids.pattern import Pattern
from hybrids.registry import get
from hybrids.report.terminal.state import COLUMNS, measure_parts, notes, table_rows

WIDTH = 32


def make_backbone(pattern, **mixers):
    torch.manual_seed(0)
    chosen = {"A": "attention", "S": "sliding_attention", "L": "gated_delta_net", **mixers}
    channel = Choice(get("channel", "swiglu").cls)
    heads = {"num_heads": 4}
    letters = {
        letter: Letter(Choice(get("mixer", name).cls, heads if name == "gated_delta_net" else {}), channel)
        for letter, name in chosen.items()
    }
    letters["C"] = Letter(None, channel)
    return Backbone(WIDTH, Pattern.parse(pattern), letters)


@pytest.mark.parametrize("context", [0, 1, 70])
def test_the_parts_add_up_to_the_backbone(context):
    backbone = make_backbone("L+A.SCL:A")
    parts, whole = measure_parts(backbone, context), measure_step(backbone, WIDTH, context)
    assert sum(part.elements for part in parts) == whole.state_elements == backbone.state_elements(context)
    assert sum(part.bits for part in parts) == whole.state_bits
    assert sum(part.flops for part in parts) == whole.flops
    assert sum(part.declared_flops for part in parts) == backbone.step_flops(context)
    assert sum(part.bytes_read for part in parts) == whole.bytes_read


def test_tensors_are_shown_by_field_without_the_batch():
    mixer, rest = measure_parts(make_backbone("L"), 5)
    assert mixer.kinds == "tail 3x96, matrix 4x8x8"
    assert mixer.elements == 3 * 96 + 4 * 8 * 8
    assert (rest.name, rest.kinds, rest.elements) == ("norms, swiglu", "", 0)
    assert rest.bytes_read == parameter_bytes(make_backbone("L")) - (mixer.bytes_read - mixer.bits // 8)


# elements of one layer at n = 100, width 32, by hand from zoology's formulas
BY_HAND = {"attention": 2 * 32 * 100, "sliding_attention": 2 * 32 * 64, "gated_delta_net": 4 * 8 * 8}


@pytest.mark.parametrize("name", BY_HAND)
def test_zoologys_number_is_its_formula(name):
    part = measure_parts(make_backbone("X", X=name), 100)[0]
    assert part.published == BY_HAND[name]
    assert bool(part.note) == (part.published != part.elements)


def test_a_difference_is_named_once_with_both_numbers_and_the_cause():
    shown = notes(measure_parts(make_backbone("LLA"), 10))
    assert shown == [
        "gated_delta_net: zoology counts 256 = H K V, measured 544: it leaves out the inputs that the short "
        "convolutions still need"
    ]


@pytest.mark.parametrize(
    "name",
    [
        "attention",
        "based",
        "block_sparse_attention",
        "delta_net",
        "gated_delta_net",
        "gla",
        "mamba",
        "mamba2",
        "rwkv7",
        "short_conv",
        "sliding_attention",
    ],
)
def test_a_mixer_that_zoology_has_gets_its_number(name):
    part = measure_parts(make_backbone("X", X=name), 40)[0]
    assert part.published is not None and part.published > 0


def test_the_table_asks_the_mixer():
    """The framework knows none by name."""
    backbone = make_backbone("A")
    mixer = backbone.blocks[0].mixers[0]
    mixer.published_sizes = lambda context: [
        PublishedSize("another", "n", context, "is not shown"),
        PublishedSize("zoology", "3 n", 3 * context, "takes three"),
    ]
    part = measure_parts(backbone, 5)[0]
    assert (part.published, part.note) == (15, "attention: zoology counts 15 = 3 n, measured 320: it takes three")


def test_a_mixer_that_zoology_does_not_have_gets_none():
    part = measure_parts(make_backbone("X", X="linear_attention"), 40)[0]
    assert part.published is None and part.note == ""


def test_a_wrong_declaration_is_reported(monkeypatch):
    backbone = make_backbone("A")
    monkeypatch.setattr(type(backbone.blocks[0].mixers[0]), "state_elements", lambda self, context: 7)
    assert notes(measure_parts(backbone, 3)) == ["layer 0 A: attention declares 7 elements and carries 192"]


def test_the_last_row_is_the_total():
    parts = measure_parts(make_backbone("LA"), 10)
    rows = table_rows(parts)
    assert all(len(row) == len(COLUMNS) for row in rows)
    assert rows[-1][0] == "total"
    assert rows[-1][COLUMNS.index("elements")] == f"{sum(part.elements for part in parts):,}"
    assert rows[-1][9] == f"{256 + 640:,}"


def run_state(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["hybrids", "state", *arguments])
    code = cli.main()
    return code, capsys.readouterr()


def test_the_command_composes_like_a_run(monkeypatch, capsys):
    arguments = ["pattern=LA", "context=50", "mixer@mixers.L=linear_attention", "model.d_model=16"]
    code, shown = run_state(monkeypatch, capsys, *arguments)
    assert code == 0
    assert "pattern=LA context=50 model.d_model=16" in shown.out
    assert "k 50x2x8, v 50x2x8" in shown.out
    assert "linear_attention" in shown.out and "gated_delta_net" not in shown.out


def test_help_says_how(monkeypatch, capsys):
    code, shown = run_state(monkeypatch, capsys, "--help")
    assert code == 0
    assert "hybrids state pattern=LLLA context=4096" in shown.out
    assert "context=<tokens>" in shown.out and "d_model: 64" in shown.out


def test_the_default_context_is_1024(monkeypatch, capsys):
    _, shown = run_state(monkeypatch, capsys, "pattern=A", "model.d_model=8")
    assert "context=1024" in shown.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["context=-1"], "context=-1 is not a number of tokens; allowed: 0 or more"),
        (["patern=L"], "unknown setting 'patern'; did you mean 'pattern'?"),
        (["pattern=Q"], "the letter Q"),
        (["mixer@mixers.L=gated_delta"], "did you mean 'gated_delta_net'?"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(monkeypatch, capsys, arguments, message):
    code, shown = run_state(monkeypatch, capsys, *arguments)
    assert code == 1
    assert message in shown.err
    assert shown.err.count("\n") == 1
