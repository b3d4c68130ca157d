"""In-context search finds what Python's `re` finds on the text joined by spaces."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrids.tasks.in_context_search import (
    Query,
    SearchTokens,
    count_exceeds,
    hide_queries,
    last_query,
    token_after,
    token_at,
)

SPECIAL = SearchTokens(open=100, close=101, failed=102)
TOKENS = st.lists(st.sampled_from([1, 2, 11, 12]), max_size=12)  # 1 is a prefix of 11: only whole tokens may match
WORDS = st.lists(st.sampled_from([1, 2, 11, 12]), min_size=1, max_size=3)
WRITTEN = st.lists(st.sampled_from([1, 2, SPECIAL.open, SPECIAL.close]), max_size=14)


def joined(tokens):
    return " ".join(map(str, tokens))


def found(pattern, tokens):
    match = re.search(pattern, joined(tokens))
    return None if match is None else int(match.group(1))


@given(TOKENS, st.integers(0, 14))
def test_a_place_is_found_as_by_the_pattern_of_index(text, place):
    assert token_at(text, place) == found(rf"^(?:\S+\s+){{{place}}}(\S+)", text)


def test_a_place_before_the_text_is_not_found():
    assert token_at([1, 2], -1) is None


@given(TOKENS, WORDS)
def test_words_are_found_as_by_the_pattern_of_associative_recall(text, words):
    assert token_after(text, words) == found(r"(?:^|\s)" + r"\s+".join(map(str, words)) + r"\s+(\S+)", text)


@pytest.mark.parametrize(
    ("text", "words", "answer"),
    [
        ([5, 6, 7, 5, 8], [5], 6),
        ([5, 5, 6, 7], [5, 6], 7),  # the words start inside an attempt that failed
        ([4, 5], [5], None),
        ([5], [5], None),
        ([5, 6], [], None),
        ([], [5], None),
    ],
)
def test_the_token_after_the_first_occurrence_is_found(text, words, answer):
    assert token_after(text, words) == answer
    assert token_after(tuple(text), tuple(words)) == answer


@given(TOKENS, st.sampled_from([1, 2, 11, 12]), st.integers(0, 5))
def test_counting_is_the_pattern_of_counting_and_a_linear_count(text, word, threshold):
    pattern = rf"(?:(?:^|\s){word}(?=\s|$).*?){{{threshold + 1}}}"
    assert count_exceeds(text, word, threshold) == (re.search(pattern, joined(text)) is not None)
    assert count_exceeds(text, word, threshold) == (joined(text).split().count(str(word)) > threshold)


def test_counting_does_not_take_the_time_of_the_pattern():
    assert not count_exceeds([1] * 1000, 1, 1000)
    assert count_exceeds([1] * 1001, 1, 1000)


@given(WRITTEN, st.booleans())
def test_the_last_query_is_the_text_between_the_last_pair(tokens, is_closed):
    tokens = [*tokens, SPECIAL.close] if is_closed else tokens
    match = re.match(r"^(.*)\bO( [^OC]*|)C $", "".join(f"{t} " for t in tokens).replace("100", "O").replace("101", "C"))
    if match is None:
        assert last_query(tokens, SPECIAL) is None
    else:
        text = match[1].replace("O", "100").replace("C", "101").split()
        assert last_query(tokens, SPECIAL) == Query([int(t) for t in text], [int(t) for t in match[2].split()])


@pytest.mark.parametrize(
    ("written", "query"),
    [
        ("7 O 1 2 C", ("7", "1 2")),
        ("O C", ("", "")),
        ("7 O 1 C 3 O 2 C", ("7 O 1 C 3", "2")),
        ("7 O 1 O 2 C", ("7 O 1", "2")),
        ("7 O 1 C 2", None),
        ("7 1 C", None),
        ("7 O 1 C 2 C", None),
        ("C", None),
        ("", None),
    ],
)
def test_a_query_ends_the_tokens_and_starts_at_an_open_of_its_own(written, query):
    def read(text):
        return [{"O": SPECIAL.open, "C": SPECIAL.close}.get(t) or int(t) for t in text.split()]

    expected = None if query is None else Query(read(query[0]), read(query[1]))
    assert last_query(read(written), SPECIAL) == expected
    assert last_query(tuple(read(written)), SPECIAL) == expected


@given(WRITTEN)
def test_hidden_queries_leave_their_special_tokens_and_all_else(tokens):
    expected = re.sub(r"O [^OC]*?C", "O C", joined(tokens).replace("100", "O").replace("101", "C"))
    expected = expected.replace("O", "100").replace("C", "101").split()
    assert hide_queries(tokens, SPECIAL) == [int(t) for t in expected]
