"""IsTree: the oracle, the published lengths, what is asked, searches while decoding, controls, settings.

Walks and laws of graphs are tested with `hybrids.ops`. Seeds are fixed.
"""

import itertools
import re

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hybrids.data import measure_overlap
from hybrids.search import SearchTokens, hide_queries, token_after
from hybrids.task import Split
from hybrids_plugins.tasks.is_tree import IsTree

MIN_P = 1e-4
MODES = [
    {"mode": "vanilla"},
    {"mode": "vanilla", "idle": "longest"},
    {"mode": "vanilla", "idle": "example"},
    {"mode": "cot"},
    {"mode": "cot", "stop_early": False},
    {"mode": "cot", "idle": "longest"},
    {"mode": "cot", "idle": "example", "stop_early": False},
    {"mode": "retrieval"},
    {"mode": "retrieval", "root_record": True},
]
PUBLISHED = {  # n: prompt, tour of trees, mean tour of others, mean and longest searches
    16: (47, 31, 10, 375, 566),
    32: (95, 63, 21, 772, 1158),
    64: (191, 127, 43, 1562, 2342),
    128: (383, 255, 84, 3101, 4710),
}


def name_of(mode):
    return " ".join(f"{key}={value}" for key, value in mode.items())


def episodes(count=20, seed=0, **kwargs):
    task = IsTree(**kwargs)
    return task, task.episodes(torch.arange(count), seed=seed, split=Split.TRAIN)


def spelled(task, tokens):
    return [task.spell(token) for token in tokens]


def encoded(task, text):
    ids = {task.spell(token): token for token in range(task.vocab_size)}
    return [ids[word] for word in text.split()]


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
        assert abs(constants.max() / 8000 - IsTree().chance_accuracy) < 0.025


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


@pytest.mark.parametrize("mode", MODES, ids=name_of)
def test_the_model_is_asked_for_what_it_writes_itself(mode):
    task = IsTree(num_nodes=8, graph="uniform", **mode)
    batch = task.sample(torch.arange(40), seed=0, split=Split.TRAIN)
    for tokens, positions, targets, valid in zip(*(x.tolist() for x in batch[:4]), strict=True):
        words = spelled(task, tokens)
        asked = [
            place
            for place in range(words.index("[EOS]") + 1, len(words))
            if words[place] not in ("[PAD]", "[IDLE]") and words[place - 1] != "[ENDSEARCH]"
        ]
        assert [p + 1 for p, v in zip(positions, valid, strict=True) if v] == asked
        assert [t for t, v in zip(targets, valid, strict=True) if v] == [tokens[place] for place in asked]
        assert valid == sorted(valid, reverse=True)
    assert batch.valid.all(1).any()


@pytest.mark.parametrize("mode", MODES, ids=name_of)
def test_a_perfect_model_is_served_by_the_search_while_it_decodes(mode):
    task, drawn = episodes(num_nodes=7, graph="uniform", **mode)
    batch = task.sample(torch.arange(20), seed=0, split=Split.TRAIN)
    for tokens, episode in zip(batch.tokens.tolist(), drawn, strict=True):
        text, generated, answers = list(episode.prompt), 0, []
        for place, token in enumerate(episode.trace, start=len(text)):
            if len(text) == place:
                returned = task.search(text)
                if returned is None:
                    text.append(token)
                    generated += 1
                else:
                    text += returned
                    answers.append(returned)
        assert text == episode.prompt + episode.trace == [token for token in tokens if token]
        assert answers == episode.answers
        assert generated <= task.max_new_tokens
        assert [token for token in episode.trace if token in task.stop_tokens] == episode.trace[-1:]
    assert task.max_new_tokens == max(len(e.trace) - sum(map(len, e.answers)) for e in drawn)


def test_searches_find_parents_and_edges():
    task = IsTree(num_nodes=5, mode="retrieval")
    start = "[BOS] 1 - 0 4 - 0 3 - 1 4 - 2 [EOS] 0 [STARTSEARCH] 1 ~ [ENDSEARCH] [FAILED] 1 ~ 0 1"
    for query, answer in {
        "1 ~": "0",
        "0 ~": "[FAILED]",
        "3 ~": "[FAILED]",
        "0 -": "1",
        "0 - 1": "4",
        "0 - 4": "[FAILED]",
        "1 -": "0",
        "1 - 0": "3",
        "4 - 0": "2",
        "4 - 1": "[FAILED]",
        "2 - 0": "[FAILED]",
        "": "[FAILED]",
        "1": "[FAILED]",
        "1 0": "[FAILED]",
        "1 - 0 3": "[FAILED]",
        "- 1": "[FAILED]",
        "[EOS] - [BOS]": "[FAILED]",
        "~ ~": "[FAILED]",
    }.items():
        text = encoded(task, f"{start} [STARTSEARCH] {query} [ENDSEARCH]")
        assert spelled(task, task.search(text) or []) == [answer], query
    for text in (start, f"{start} [STARTSEARCH] 1 ~", f"{start} [ENDSEARCH]"):
        assert task.search(encoded(task, text)) is None
    assert IsTree(num_nodes=5).search(encoded(task, f"{start} [STARTSEARCH] 1 ~ [ENDSEARCH]")) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["2", "3", "~", "-", "[FAILED]", "< 2 ~ > 3", "< 3 ~ > 2", "2 ~ 3", "3 ~ 2"])))
def test_a_record_is_what_the_shared_search_finds_outside_queries(parts):
    task = IsTree(num_nodes=5, mode="retrieval")
    words = " ".join(["[BOS] 3 - 2 [EOS]", *parts]).replace("<", "[STARTSEARCH]").replace(">", "[ENDSEARCH]")
    text, query = encoded(task, words), encoded(task, "2 ~")
    special = SearchTokens(*encoded(task, "[STARTSEARCH] [ENDSEARCH] [FAILED]"))
    expected = token_after(hide_queries(text, special), query)
    assert task.search([*text, special.open, *query, special.close]) == [
        special.failed if expected is None else expected
    ]


def test_the_first_answer_written_is_judged():
    task, drawn = episodes(count=8, num_nodes=6)
    answers = set()
    for episode in drawn:
        right = episode.trace[-1]
        wrong = sum(task.stop_tokens) - right
        assert task.judge(episode, episode.trace) is True
        assert task.judge(episode, [*episode.trace[:-1], wrong, right]) is False
        assert task.judge(episode, [right, wrong]) is True
        assert task.judge(episode, episode.trace[:-1]) is None
        answers.add(right)
    assert answers == set(task.stop_tokens)


def test_a_tour_that_does_not_stop_has_one_length_and_visits_all():
    for graph in ("hub", "uniform"):
        _, drawn = episodes(num_nodes=12, graph=graph, stop_early=False, count=60)
        assert {len(episode.trace) for episode in drawn} == {25}
        assert all(len(set(episode.trace[:23])) == 12 for episode in drawn)


@pytest.mark.parametrize("mode", ["vanilla", "cot"])
def test_idle_tokens_make_up_for_the_searches(mode):
    kwargs = {"num_nodes": 10, "graph": "uniform"}
    _, searching = episodes(mode="retrieval", **kwargs)
    _, plain = episodes(mode=mode, **kwargs)
    longest = max(len(episode.trace) for episode in searching)
    for idle, totals in (
        ("example", [len(episode.trace) for episode in searching]),
        ("longest", [longest] * len(searching)),
    ):
        task, padded = episodes(mode=mode, idle=idle, **kwargs)
        assert task.length == IsTree(mode="retrieval", **kwargs).length
        for total, before, after in zip(totals, plain, padded, strict=True):
            text = after.prompt[29:] + after.trace
            assert len(text) == total
            assert [token for token in text if task.spell(token) != "[IDLE]"] == before.trace
            assert task.spell(text[-2]) == "[IDLE]"


def test_idle_tokens_fill_up_a_tour_of_any_length():
    task, drawn = episodes(num_nodes=6, idle="longest")
    end = encoded(task, "[EOS]")
    lengths = {
        len(drawn[0].prompt + tour + end + (task.search(drawn[0].prompt + tour + end) or [])) for tour in ([], [12] * 9)
    }
    assert lengths == {task.length - 1}


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
        ({"mode": "chain"}, "mode=chain must be one of vanilla, cot, retrieval"),
        ({"graph": "random"}, "graph=random must be one of hub, uniform"),
        ({"idle": "all"}, "idle=all must be one of none, longest, example"),
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
