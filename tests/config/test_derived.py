"""Settings that stand for others: a run is what they come to, and its folder says so."""

import re
from itertools import product

import pytest

from hybrids.config.build import open_run
from hybrids.model.backbone import Backbone
from hybrids.model.measure import measure_step
from hybrids.pattern import Pattern, place


def test_a_context_is_the_same_run_as_the_sizes_that_it_stands_for(make_run):
    by_context = make_run("context=64")  # from 16 tokens with 2 pairs
    by_sizes = make_run("task.length=64", "task.num_pairs=8")
    assert by_context.id == by_sizes.id
    assert by_context.config["task"]["num_pairs"] == 8
    assert by_context.config["context"] is None


def test_a_context_works_on_any_task(make_run):
    short, long = (make_run("task=copying", f"context={n}", base=("logger=csv",)) for n in (16, 64))
    assert short.task.build().length <= 16 < long.task.build().length <= 64
    assert short.id != long.id


def test_a_context_keeps_what_a_task_gives_in_proportion(make_run):
    sizes = ("task=ngram_retrieval", "task.max_length=40", "task.min_length=10", "logger=csv")
    task = make_run("context=88", base=sizes).task.build()
    assert (task.max_length, task.min_length) == (80, 20)


def test_varied_facts_are_one_to_as_many_as_the_task_has_at_the_context_of_the_run(make_run):
    run = make_run("context=64", "vary_facts=true", "task.distinct_values=false")
    segments = [[64, num, 1] for num in (1, 2, 3, 4, 6, 8)]
    same = make_run("task.length=64", "task.num_pairs=8", f"task.segments={segments}", "task.distinct_values=false")
    assert (run.id, run.config["vary_facts"]) == (same.id, None)
    assert run.task.build().segments == segments
    assert make_run("vary_facts=false").id == make_run().id


def test_a_batch_has_as_many_tokens_at_every_context(make_run):
    base = ("logger=csv", "task.length=16", "task.num_pairs=2")
    sizes = [make_run("batch_tokens=4096", f"context={n}", base=base).data.batch_size for n in (16, 60, 128)]
    assert sizes == [256, 68, 32]
    same = make_run("data.batch_size=256", base=base)
    assert make_run("batch_tokens=4096", base=base).id == same.id
    for given, sentence in (
        ("data.batch_size=32", "batch_tokens=8 would replace data.batch_size=32; give one of them"),
        ("seed=0", "batch_tokens=8 must be at least the 16 tokens of an example"),
    ):
        with pytest.raises(ValueError, match=sentence):
            make_run("batch_tokens=8", given, base=base)


@pytest.mark.parametrize("quantity", ["params", "state", "flops"])
def test_a_matched_run_has_as_much_as_the_reference(make_run, quantity):
    """Both sides measured, not asked of `match`; a neighbour width is at most a factor 1.5 away."""

    def measured(run):
        cost = measure_step(Backbone(run.model.d_model, run.pattern, run.letters), run.model.d_model, 16)
        params = sum(p.numel() for p in Backbone(run.model.d_model, run.pattern, run.letters).parameters())
        return {"params": params, "state": cost.state_elements, "flops": cost.flops}[quantity]

    reference = make_run("pattern=LLLA", "model.d_model=32")
    matched = make_run("pattern=LA", "model.d_model=32", f"match={quantity}", "match_to=LLLA")
    unmatched = make_run("pattern=LA", "model.d_model=32")
    assert abs(measured(matched) / measured(reference) - 1) < 0.25
    assert abs(measured(unmatched) / measured(reference) - 1) > 0.3


def test_the_identity_of_a_matched_run_is_its_width_alone(make_run, tmp_path):
    matched = make_run("pattern=AA", "match=params", "match_to=LLL")
    width = matched.model.d_model
    assert width != 16
    assert matched.id == make_run("pattern=AA", f"model.d_model={width}").id
    assert [text in matched.notes[0] for text in (f"AA at d_model={width}", "LLL at d_model=16")] == [True, True]
    matched.folder.create(matched.config)
    reopened, _ = open_run(matched.folder.path)
    assert (reopened.id, reopened.notes) == (matched.id, ())
    assert reopened.config["matched"] == "params of LLL at d_model=16"


def test_a_pattern_that_is_the_reference_keeps_its_width(make_run):
    assert make_run("pattern=AA", "match=state", "match_to=Ax2").model.d_model == 16


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("match=state",), "match=state needs match_to=<pattern>, as in match=state match_to=LLLA"),
        (("match_to=LL",), "match_to=LL needs match=<quantity>"),
        (("match=size", "match_to=LL"), "match='size' is unknown; allowed: params, state, flops"),
        (("match=state", "match_to=LX"), "match_to=LX: pattern=LX uses the letter X, which stands for nothing"),
        (("match=state", "match_to=ll"), "column 1: 'l' is lower case"),
        (
            ("match=state", "match_to=LL", "pattern=X"),
            "accept none of the widths 1 ... 64; at the last, pattern=X uses",
        ),
        (("context=64", "task.segments=[[16,2,1]]"), "context=64 would replace task.segments=[[16, 2, 1]]; give one"),
        (("vary_facts=true", "task.segments=[[16,2,1]]"), "vary_facts=true would replace task.segments=[[16, 2, 1]]"),
        (
            ("vary_facts=true", "task.segments=[[16,2,1],[16,1,1]]"),
            "needs a task with one number of facts",
        ),
        (("context=2",), "context=2: length=2 must be even and at least 4"),
    ],
)
def test_what_cannot_be_resolved_is_refused(make_run, overrides, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        make_run(*overrides)


@pytest.mark.parametrize("task", ["copying", "counting"])  # with bits and without
def test_facts_are_varied_only_where_the_task_can(make_run, task):
    sentence = f"vary_facts=true: task={task} cannot vary its number of facts; allowed: mqar"
    with pytest.raises(ValueError, match=sentence):
        make_run(f"task={task}", "vary_facts=true", base=("logger=csv",))


@pytest.mark.parametrize(("depth", "count"), [(4, 0), (4, 1), (4, 2), (6, 3), (3, 3)])
def test_every_placement_once(depth, count):
    expected = {"".join(s) for s in product("LA", repeat=depth) if s.count("A") == count}
    placed = place(depth, count)
    assert (set(placed), len(placed)) == (expected, len(expected))
    assert placed[0] == "L" * (depth - count) + "A" * count
    assert all(len(Pattern.parse(text)) == depth for text in placed)


def test_placements_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="num_attention=5 does not fit into depth=4; allowed: 0 to 4"):
        place(4, 5)
    with pytest.raises(ValueError, match="depth=0 must be at least 1"):
        place(0, 0)
    with pytest.raises(ValueError, match=r"num_attention=8 in depth=16 gives 12,870 .* allowed are 1,000: depth=12 at"):
        place(16, 8)
    assert len(place(12, 8)) == 495
    with pytest.raises(ValueError, match="must be two different letters"):
        place(4, 1, letter="L")
