"""IsTree: the oracle, the published lengths, the graphs, controls, settings.

Walks and laws of graphs are tested with `hybrids.ops`. Seeds are fixed.
"""

import itertools
import math
import re

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from trees import MODES, episodes, name_of, spelled

from hybrids.task import Split
from hybrids.training.data import measure_overlap
from hybrids_plugins.tasks.is_tree import IsTree

MIN_P = 1e-4
PUBLISHED = {  # n: prompt, tour of trees, mean tour of others, mean and longest searches
    16: (47, 31, 10, 375, 566),
    32: (95, 63, 21, 772, 1158),
    64: (191, 127, 43, 1562, 2342),
    128: (383, 255, 84, 3101, 4710),
}


def edges_of(prompt):
    return [(int(u), int(v)) for u, v in re.findall(r"(\d+) - (\d+)", " ".join(prompt))]


@pytest.mark.parametrize("graph", ["hub", "uniform"])
@pytest.mark.parametrize("mode", MODES, ids=name_of)
def test_the_oracle_solves_every_example(mode, graph):
    for n, count in ((4, 150), (5, 100), (9, 150), (16, 110), (33, 50)):  # 10,080 examples in all
        task = IsTree(num_nodes=n, graph=graph, **mode)
        batch = task.sample(torch.arange(count), seed=1, split=Split.TEST)
        assert ((task.solve(batch.tokens, batch.positions) == batch.targets) | ~batch.valid).all()


@pytest.mark.parametrize("graph", ["hub", "uniform"])
@pytest.mark.parametrize("mode", MODES, ids=name_of)
def test_examples_are_a_shuffled_graph_and_whether_it_is_a_tree(mode, graph):
    task, drawn = episodes(num_nodes=9, graph=graph, **mode)
    for episode in drawn:
        prompt, trace = spelled(task, episode.prompt), spelled(task, episode.trace)
        assert re.fullmatch(r"\[BOS\]( \d+ - \d+){8} \[EOS\]( \[IDLE\])*", " ".join(prompt))
        edges = edges_of(prompt)
        assert all(8 >= u > v >= 0 for u, v in edges)
        graph = nx.Graph(edges)
        graph.add_nodes_from(range(9))
        assert graph.number_of_edges() == 8
        assert trace[-1] == ("[TRUE]" if nx.is_tree(graph) else "[FALSE]")
        assert trace[:-1].count("[EOS]") == (task.mode != "vanilla")


def test_all_modes_ask_about_the_same_graphs():
    prompts = [IsTree(**mode).sample(torch.arange(50), seed=3, split=Split.VAL).tokens[:, :47] for mode in MODES]
    assert all(torch.equal(prompt, prompts[0]) for prompt in prompts)


@pytest.mark.parametrize("n", PUBLISHED)
def test_lengths_are_the_published_ones(n):
    count = 2000 if n < 64 else 400
    index = torch.arange(count)
    prompt, tree, other, mean, longest = PUBLISHED[n]
    tours = IsTree(num_nodes=n).sample(index, seed=0, split=Split.TRAIN)
    assert (tours.tokens[:, prompt - 1] == tours.tokens[0, prompt - 1]).all()
    is_tree = tours.slices["is_tree"].bool()
    visits = tours.valid.sum(1) - 2
    assert visits[is_tree].unique().tolist() == [tree]
    # The tables' means are rounded, and drawn as ours are: both errors count.
    spread = visits[~is_tree].double().std() * (2 / (~is_tree).sum()) ** 0.5
    assert abs(visits[~is_tree].double().mean() - other) < 1 + 4 * spread
    searches = IsTree(num_nodes=n, mode="retrieval").sample(index, seed=0, split=Split.TRAIN)
    total = (searches.tokens != 0).sum(1) - prompt - 2
    assert total.max() == longest
    assert (total[is_tree] == longest).all()
    assert abs(total.double().mean() - mean) < 4 * total.double().std() * (2 / count) ** 0.5


@pytest.mark.parametrize("graph", ["hub", "uniform"])
def test_half_of_the_graphs_are_trees(graph):
    for n in (4, 16):
        batch = IsTree(num_nodes=n, graph=graph, mode="vanilla").sample(torch.arange(8000), seed=0, split=Split.TRAIN)
        assert stats.binomtest(int(batch.slices["is_tree"].sum()), 8000, 0.5).pvalue > MIN_P
        constants = batch.targets.flatten().bincount()
        assert abs(constants.max() / 8000 - 0.5) < 0.025


HUB = {4: 1.0, 6: 0.625, 8: 0.594, 16: 0.536, 32: 0.517, 64: 0.508}
"""By counting, and by a guesser on the published generator."""


@pytest.mark.parametrize(("num_nodes", "chance"), HUB.items())
def test_chance_is_that_of_a_guess_from_degrees(num_nodes, chance):
    assert IsTree(num_nodes=num_nodes).chance_accuracy == pytest.approx(chance, abs=5e-4)


@pytest.mark.parametrize(("graph", "num_nodes"), [("hub", 5), ("hub", 8), ("hub", 16), ("uniform", 5), ("uniform", 6)])
def test_a_guesser_that_sees_degrees_alone_reaches_chance(graph, num_nodes):
    """It answers as most of other graphs with the same degrees."""
    task = IsTree(num_nodes=num_nodes, graph=graph, mode="vanilla")
    batch = task.sample(torch.arange(40_000), seed=1, split=Split.TRAIN)
    ends = batch.tokens[:, : task.prompt_length]
    degrees = torch.stack([(ends == task.vocab_size - 128 + node).sum(1) for node in range(num_nodes)], dim=1)
    kinds = degrees.sort(dim=1).values.unique(dim=0, return_inverse=True)[1]
    tree = batch.slices["is_tree"]
    seen, asked = (slice(0, 20_000), slice(20_000, None))
    votes = torch.zeros(int(kinds.max()) + 1, 2).index_put_((kinds[seen], tree[seen]), torch.tensor(1.0), True)
    right = (votes.argmax(1)[kinds[asked]] == tree[asked]).double().mean().item()
    assert right == pytest.approx(task.chance_accuracy, abs=4 * math.sqrt(0.25 / 20_000))


@pytest.mark.parametrize("mode", MODES, ids=name_of)
def test_no_token_that_ignores_the_example_beats_chance(mode):
    for graph in ("hub", "uniform"):
        task = IsTree(graph=graph, **mode)
        batch = task.sample(torch.arange(500), seed=0, split=Split.TRAIN)
        best = batch.targets[batch.valid].bincount().max() / batch.valid.sum()
        assert best < task.chance_accuracy + 0.1


def test_edges_come_in_uniform_order():
    batch = IsTree(num_nodes=4, mode="vanilla").sample(torch.arange(6000), seed=0, split=Split.TRAIN)
    orders = []
    for row in batch.tokens.tolist():
        edges = [tuple(row[i : i + 3]) for i in (1, 4, 7)]
        orders.append(tuple(sorted(range(3), key=edges.__getitem__)))
    counts = [orders.count(order) for order in itertools.permutations(range(3))]
    assert stats.chisquare(counts).pvalue > MIN_P


@settings(max_examples=30, deadline=None)
@given(st.integers(-3, 40), st.integers(-3, 40), st.sampled_from(["hub", "uniform"]), st.sampled_from(MODES))
def test_a_size_is_refused_exactly_if_it_is_too_small_or_above_the_largest(n, largest, graph, mode):
    kwargs = {"max_num_nodes": largest, "graph": graph, **mode}
    if largest < 4:
        with pytest.raises(ValueError, match=f"max_num_nodes={largest} must be from 4 to 32768"):
            IsTree(num_nodes=n, **kwargs)
    elif not 4 <= n <= largest:
        with pytest.raises(ValueError, match=rf"num_nodes={n} must be from 4 to {largest} \(max_num_nodes"):
            IsTree(num_nodes=n, **kwargs)
        IsTree(num_nodes=largest, **kwargs)
    else:
        task = IsTree(num_nodes=n, **kwargs)
        batch = task.sample(torch.arange(4), seed=0, split=Split.TRAIN)
        assert batch.tokens.shape == (4, task.length)
        assert ((task.solve(batch.tokens, batch.positions) == batch.targets) | ~batch.valid).all()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"mode": "chain"}, "mode=.chain. is unknown; allowed: vanilla, cot, retrieval"),
        ({"graph": "random"}, "graph=.random. is unknown; allowed: hub, uniform"),
        ({"idle": "all"}, "idle=.all. is unknown; allowed: none, longest, example"),
        ({"mode": "vanilla", "stop_early": False}, "stop_early=False needs mode=cot, not mode=vanilla"),
        ({"mode": "retrieval", "idle": "longest"}, "idle=longest needs mode=vanilla or cot, not mode=retrieval"),
        ({"root_record": True}, "root_record=True needs mode=retrieval, not mode=cot"),
        ({"max_num_nodes": 2**15 + 1}, "max_num_nodes=32769 must be from 4 to 32768"),
    ],
)
def test_settings_that_mean_nothing_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        IsTree(**kwargs)


@pytest.mark.parametrize("mode", MODES, ids=name_of)
def test_the_most_nodes_fit_into_a_context(mode):
    task = IsTree(**mode)
    for context in (task.length, task.length + 1, 3 * task.length - 1):
        found = task.at_context(context)
        assert found.length <= context < found.replace(num_nodes=found.num_nodes + 1).length
    with pytest.raises(ValueError, match=r"num_nodes=\d+ must be from 4 to 128"):
        task.at_context(20 * task.length)
    with pytest.raises(ValueError, match=r"num_nodes=3 must be from 4"):
        task.at_context(task.replace(num_nodes=4).length - 1)


def test_splits_share_no_example():
    task = IsTree(mode="vanilla")
    for split in (Split.VAL, Split.TEST):
        assert measure_overlap(task, 0, split, num_train=3000, num_eval=3000) == 0


def test_nothing_is_offered_as_recalled():
    task = IsTree(num_nodes=20)
    assert (task.facts, task.bits, task.recalled_bits(torch.tensor([0.0]))) == (19, None, None)
