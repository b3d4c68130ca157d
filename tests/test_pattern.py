import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrids.pattern import MAX_LAYERS, Layer, Pattern

LETTER = st.sampled_from("ALMSZ")
SINGLE = LETTER.map(lambda letter: Layer((letter,)))
SUM = st.lists(LETTER, min_size=2, max_size=4).map(lambda letters: Layer(tuple(letters), "+"))
STREAMS = st.tuples(LETTER, LETTER).map(lambda letters: Layer(letters, ":"))
LAYERS = st.lists(st.one_of(SINGLE, SINGLE, SUM, STREAMS), min_size=1, max_size=6)
# Repeated and mirrored parts, so that counts and dots occur in the compact form.
STACKS = st.builds(
    lambda a, n, b, m, tail: a * n + b * m + tail,
    LAYERS,
    st.integers(1, 6),
    LAYERS,
    st.integers(1, 6),
    LAYERS,
)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("L", "L"),
        ("LLLA", "LLLA"),
        ("Lx7.A", "LLLLLLLA"),
        ("LLLAx2", "LLLALLLA"),
        ("LLLAx2.AA", "LLLALLLAAA"),
        ("Lx1.A", "LA"),
        ("A.B.C", "ABC"),
        ("Zx03", "ZZZ"),
        ("L+A", "L+A"),
        ("L+Ax3", "L+AL+AL+A"),
        ("LL+AL", "LL+AL"),
        ("L:Ax2.S", "L:AL:AS"),
        ("L+A+S", "L+A+S"),
    ],
)
def test_a_pattern_expands_to_the_whole_stack(text, expanded):
    assert str(Pattern.parse(text)) == expanded


def test_the_layers_of_a_pattern_hold_letters_and_join():
    assert Pattern.parse("LL+Ax2.L:S").layers == (
        Layer(("L",)),
        Layer(("L", "A"), "+"),
        Layer(("L",)),
        Layer(("L", "A"), "+"),
        Layer(("L", "S"), ":"),
    )


def test_length_counts_layers_not_letters():
    assert len(Pattern.parse("L+Ax3.L:A.S")) == 5


def test_letters_come_in_order_of_first_use():
    assert Pattern.parse("SL+AL.A:M").letters == ("S", "L", "A", "M")


@pytest.mark.parametrize(
    ("text", "compact"),
    [
        ("LLLAx6.AA", "LLLAx6.AA"),
        ("LLLLLLLA", "Lx7.A"),
        ("LLLA", "LLLA"),
        ("LL", "LL"),
        ("A" * 12, "Ax12"),
        ("L+AL+AL+A", "L+Ax3"),
        ("A" + "LLLA" * 3, "A.LLLAx3"),
        ("AS" + "L:A" * 5 + "S", "AS.L:Ax5.S"),
        ("Ax4.Lx4.Sx4", "Ax4.Lx4.Sx4"),
    ],
)
def test_the_compact_form_is_the_short_spelling(text, compact):
    assert Pattern.parse(text).compact() == compact


def test_the_longest_stack_has_a_compact_form():
    assert Pattern.parse("L" * MAX_LAYERS).compact() == "Lx10000"


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("LLx", 4, "count after x is missing"),
        ("LLx.A", 4, "count after x is missing"),
        ("Ax0", 3, "must be at least 1"),
        ("Ax-1", 3, "count after x is missing"),
        ("L+", 2, "needs a letter"),
        ("L+.A", 2, "needs a letter"),
        ("+L", 1, "needs a letter"),
        ("L++A", 2, "did you mean 'L+A'?"),
        ("lla", 1, "did you mean 'LLA'?"),
        ("LLLa", 4, "did you mean 'LLLA'?"),
        ("lllax6", 1, "did you mean 'LLLAx6'?"),
        ("LLLAX6", 6, "did you mean 'LLLAx6'?"),
        ("LLLA*6", 5, "did you mean 'LLLAx6'?"),
        ("[LA]", 1, "did you mean 'LA'?"),
        ("(LLLA)x6.A", 1, "did you mean 'LLLAx6.A'?"),
        ("L A", 2, "did you mean 'LA'?"),
        (" LA", 1, "did you mean 'LA'?"),
        ("LA\n", 3, "did you mean 'LA'?"),
        ("L,L,A", 2, "did you mean 'LLA'?"),
        ("LL Ax2", 3, "did you mean 'LL.Ax2'?"),
        ("Ax2L", 4, "did you mean 'Ax2.L'?"),
        ("L..A", 3, "empty segment"),
        (".A", 1, "empty segment"),
        ("A.", 3, "layer is missing"),
        (".", 1, "empty segment"),
        ("x3", 1, "needs layers before it"),
        ("A.x3", 3, "needs layers before it"),
        ("3A", 1, "only after x"),
        ("A3", 2, "only after x"),
        ("Ax1x2", 4, "one count"),
        ("L:A:S", 1, "exactly two"),
        ("LL+A:S", 2, "mixes"),
        ("MMM*", 4, "'*' cannot stand here"),
        ("ÄÖ", 1, "allowed: letters A-Z"),
        ("Ax٣", 3, "count after x is missing"),
    ],
)
def test_a_bad_pattern_is_one_error_with_text_column_and_help(text, column, says):
    with pytest.raises(ValueError, match="pattern") as caught:
        Pattern.parse(text)
    message = str(caught.value)
    assert message.startswith(f"pattern {text!r}, column {column}: ")
    assert says in message


@pytest.mark.parametrize("given", [None, True, 3, 1.5, ["L", "A"], b"LA", "", "null", "None"])
def test_what_is_no_pattern_at_all_is_refused_the_same_way(given):
    with pytest.raises(ValueError, match="pattern") as caught:
        Pattern.parse(given)
    assert repr(given) in str(caught.value)
    assert "LLLA" in str(caught.value)


@pytest.mark.parametrize("text", ["Ax10001", "LAx5001", "Lx9999.LL", "A" * 10_001, "Ax" + "9" * 5000])
def test_more_than_ten_thousand_layers_are_refused(text):
    with pytest.raises(ValueError, match=r"at most 10,000 are allowed"):
        Pattern.parse(text)


def test_exactly_ten_thousand_layers_are_accepted():
    assert len(Pattern.parse("LAx5000")) == MAX_LAYERS == 10_000


@pytest.mark.parametrize(
    "letters_and_join",
    [
        ((), ""),
        (("l",), ""),
        (("LA",), ""),
        (("L", "A"), ""),
        (("L",), "+"),
        (("L", "A", "S"), ":"),
        (("L", "A"), "x"),
    ],
)
def test_a_layer_that_has_no_spelling_cannot_be_built(letters_and_join):
    with pytest.raises(ValueError, match="layer"):
        Layer(*letters_and_join)


def test_an_empty_stack_cannot_be_built():
    with pytest.raises(ValueError, match="0 layers"):
        Pattern(())


def test_a_pattern_is_a_value():
    one, other = Pattern.parse("LLAx2"), Pattern.parse("LLALLA")
    assert one == other
    assert hash(one) == hash(other)
    assert pickle.loads(pickle.dumps(one)) == one
    assert one != Pattern.parse("LLA")


@given(STACKS)
def test_expanded_and_compact_forms_parse_back(layers):
    pattern = Pattern(tuple(layers))
    assert Pattern.parse(str(pattern)) == pattern
    assert Pattern.parse(pattern.compact()) == pattern
    assert len(pattern.compact()) <= len(str(pattern))


@given(LAYERS, st.integers(1, 50), LAYERS)
def test_a_count_repeats_its_whole_segment(unit, count, tail):
    spelt = "".join(map(str, unit)) + f"x{count}." + "".join(map(str, tail))
    assert Pattern.parse(spelt).layers == tuple(unit * count + tail)


@settings(max_examples=400)
@given(st.one_of(st.text(max_size=20), st.text(alphabet="LAx+:.019 l[", max_size=12)))
def test_junk_is_a_pattern_or_a_value_error_that_names_the_text(text):
    try:
        pattern, refusal = Pattern.parse(text), None
    except ValueError as error:
        pattern, refusal = None, str(error)
    if pattern is None:
        assert repr(text) in refusal
    else:
        assert Pattern.parse(str(pattern)) == pattern


@given(st.text(alphabet="LAx+:.23 l[(,", max_size=12))
def test_what_an_error_suggests_is_itself_a_pattern(text):
    try:
        Pattern.parse(text)
    except ValueError as error:
        _, found, suggestion = str(error).partition("did you mean '")
        if found:
            assert len(Pattern.parse(suggestion.removesuffix("'?"))) > 0


@given(
    st.one_of(
        st.integers(),
        st.floats(),
        st.none(),
        st.binary(max_size=5),
        st.lists(st.text(max_size=2), max_size=3),
    )
)
def test_a_value_that_is_not_text_is_a_value_error(value):
    with pytest.raises(ValueError, match="not a string"):
        Pattern.parse(value)
