"""Coordinates of stacks that work in blocks: in [0, 1] wherever a context ends within one."""

import pytest

from hybrids import registry
from hybrids.model.backbone import Backbone
from hybrids.model.block import Choice, Letter
from hybrids.model.model import Model
from hybrids.pattern import Pattern
from hybrids.report.terminal.growth import measure_growth
from hybrids.triangle.coordinates import flatness, whole_blocks
from hybrids.triangle.place import measure_places

SETTINGS = [
    *((name, {}) for name in registry.names("mixer")),
    ("sliding_attention", {"window": 5}),
    *(("block_sparse_attention", {"block_size": b, "num_selected": k}) for b, k in ((3, 2), (8, 4), (16, 1))),
]


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_declared_growth_is_between_none_and_in_proportion(name, settings):
    mixer = registry.get("mixer", name).cls(64, **settings)
    for context in range(1, 200):
        end = whole_blocks(context, mixer.period)
        for quantity in (mixer.state_elements, mixer.step_flops):
            assert -1e-9 <= flatness(quantity(end), quantity(2 * end)) <= 1, (quantity.__name__, context)


def build(pattern, **blocks):
    cls = registry.get("mixer", "block_sparse_attention").cls
    letters = {letter: Letter(Choice(cls, {"block_size": size}), None) for letter, size in blocks.items()}
    return Backbone(16, Pattern.parse(pattern), letters)


@pytest.mark.parametrize("context", [1, 2, 3, 5, 8])
def test_compactness_of_block_sparse_attention_is_none(context):
    """n keys and values and n / 4 compressed ones: 2 ends in a block, at 4 and 8 tokens there are 5 and 10."""
    (layer, total) = measure_growth(build("B", B=4), [context, 2 * context])
    assert layer.coordinates(context).compactness == total.coordinates(context).compactness == 0
    assert 0 <= total.coordinates(context).efficiency <= 1


def test_a_place_within_a_block_has_the_coordinates_of_its_end():
    """Blocks of 8 at 4 tokens, whose state would grow from 4 keys and values to 8 and one that is compressed."""
    cls = registry.get("mixer", "block_sparse_attention").cls
    model = Model(16, 16, Pattern.parse("B"), {"B": Letter(Choice(cls, {"block_size": 8}), None)})
    task = registry.get("task", "mqar").cls(vocab_size=16, length=4, num_pairs=1)
    places = measure_places(model, task, seed=0, num_examples=4, batch_size=4)
    assert [place["context"] for place in places] == [4, 8, 16]
    assert [place["state_bits"] // 32 for place in places] == [4 * 32, 9 * 32, 18 * 32]
    assert [place["compactness"] for place in places] == [0, 0, 0]
    assert all(0 <= place["efficiency"] <= 1 for place in places)


def test_blocks_of_all_layers_end_together():
    assert build("BC", B=4, C=6).period == 12
    assert build("B+C", B=4, C=6).period == 12
    assert (whole_blocks(2, 12), whole_blocks(12, 12), whole_blocks(13, 12)) == (12, 12, 24)
