"""IsTree: what the model is asked to write, searches while it decodes, judgement, idle tokens."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import MODES, episodes, name_of, spelled

from hybrids.task import Split
from hybrids.tasks.in_context_search import SearchTokens, hide_queries, token_after
from hybrids_plugins.tasks.is_tree import IsTree


def encoded(task, text):
    ids = {task.spell(token): token for token in range(task.vocab_size)}
    return [ids[word] for word in text.split()]


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
