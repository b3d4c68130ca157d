"""A run's place in the triangle: what result.json, the table and the logs hold."""

import json
import math

import pytest

from hybrids.errors import UserError
from hybrids.report.terminal.tables import describe_place, print_result
from hybrids.training.metrics import read_metrics
from hybrids.training.train import build_model, train
from hybrids.triangle.intervals import LawBroken
from hybrids.triangle.place import _recall, check_places

SMALL = (
    "logger=csv",
    "trainer.progress_bar=false",
    "trainer.max_steps=2",
    "model.d_model=16",
    *(f"data.num_{name}_examples=16" for name in ("val", "test", "recall")),
)


@pytest.fixture(scope="module")
def trained(make_run_in, tmp_path_factory):
    sizes = ["task.vocab_size=32", "task.length=16", "task.num_pairs=2", "model.d_model=16", "trainer.max_steps=4"]
    counts = [f"data.num_{name}_examples=32" for name in ("val", "test", "recall")]
    base = ["pattern=LA", *sizes, *counts, "logger=csv", "trainer.progress_bar=false"]
    run = make_run_in(tmp_path_factory.mktemp("runs"), base=base)
    return run, train(run)


def test_the_result_holds_three_contexts(trained):
    run, result = trained
    places = json.loads(run.folder.result_file.read_text())["triangle"]
    assert [place["context"] for place in places] == [16, 32, 64]
    assert places == result["triangle"]
    assert places[0]["state_bits"] == result["state_bits"] and places[0]["step_flops"] == result["step_flops"]


def test_attention_takes_over_as_the_context_grows(trained):
    """Of one recurrent and one attention layer: C and E fall towards 0, and offered bits grow in proportion."""
    places = trained[1]["triangle"]
    for name in ("efficiency", "compactness"):
        values = [place[name] for place in places]
        assert values == sorted(values, reverse=True) and 0 < values[-1] < values[0] < 1
    assert places[1]["offered_bits"] > 1.8 * places[0]["offered_bits"]
    keys_and_values = [place["facts_state_bits"] - places[0]["facts_state_bits"] for place in places]
    assert keys_and_values == [0, 4 * 2 * 16 * 32, 12 * 2 * 16 * 32]  # of 4, 8 and 16 tokens of pairs


def test_the_table_and_the_metrics_file_say_it(trained, capsys):
    run, result = trained
    print_result(result, "runs/x")
    assert f"Efficiency {result['triangle'][1]['efficiency']:.2f}" in capsys.readouterr().out
    logged = read_metrics(run.folder.metrics_file)["triangle/32/state_bits"]
    assert list(logged.values()) == [result["triangle"][1]["state_bits"]]


def test_a_broken_law_is_an_error(trained):
    place = dict(trained[1]["triangle"][0], surely=900.0, facts_state_bits=800, law_broken=True)
    assert any("ERROR: more than it holds" in value for _, value in describe_place(place))
    with pytest.raises(LawBroken, match=r"at least 900\.0 bits were recalled from a state of 800 bits"):
        check_places([place])


def test_a_mixture_is_placed_by_its_largest_size(make_run):
    run = make_run("pattern=L", "vary_facts=true", "task.distinct_values=false", "data.num_recall_examples=32")
    places = train(run)["triangle"]
    task = run.task.build()
    assert task.bits is None
    values = task.vocab_size // 2
    assert [place["offered_bits"] for place in places] == [num * math.log2(values) for num in (2, 4, 8)]


@pytest.mark.parametrize("error", [ValueError, UserError])
def test_a_fault_of_a_mixer_is_not_taken_for_a_task_without_recall(make_run, error):
    run = make_run("pattern=A")
    task = run.task.build()
    model = build_model(run, task)

    def fail(x, state=None):
        raise error("a fault of the mixer")

    model.backbone.blocks[0].mixers[0].heads.merge = fail
    with pytest.raises(error, match="a fault of the mixer"):
        _recall(model, task, 1, seed=0, num_examples=4, batch_size=4)


@pytest.mark.parametrize("num_examples", [0, 1])
def test_too_few_examples_for_an_interval_give_no_recall(make_run, num_examples):
    run = make_run("pattern=L")
    task = run.task.build()
    model = build_model(run, task)
    assert _recall(model, task, 1, seed=0, num_examples=num_examples, batch_size=4) is None
    assert _recall(model, task, 1, seed=0, num_examples=2, batch_size=4) is not None


def test_without_bits_only_state_and_cost_are_placed(make_run):
    run = make_run("task=counting", "pattern=L", *SMALL, base=())
    place = train(run)["triangle"][0]
    assert place["recalled_bits"] is None and place["efficiency"] == 1.0
    why = "the task does not say how many bits its facts have"
    title = f"triangle at {place['context']} tokens"
    told = f"Efficiency 1.00  Compactness 1.00  no Recall: {why}  (beyond training)"
    assert list(describe_place(place, 8)) == [(title, told)]
