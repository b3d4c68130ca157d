"""A naive interpreter of programs over variables, from their spelled words."""

from typing import NamedTuple


class Answer(NamedTuple):
    """A question and its answer."""

    place: int
    """Of the word at which it is asked."""
    word: str


def interpret(text: str, num_variables: int) -> list[Answer]:
    """What is asked, in order: reveals that are shown, and the variable at the end.

    AssertionError for words that are no program, or reveals that are not what is held.
    """
    words = text.split()
    held: dict[str, str] = {}
    answers = []
    for place in range(0, len(words) - 2, 4):
        kind, first, second, reveal = words[place : place + 4]
        if kind == "[SET]":
            held[first] = second
            assert reveal == "."
        else:
            assert kind == "[SWAP]" and first != second and len(held) == num_variables
            held[first], held[second] = held[second], held[first]
            if reveal != ".":
                assert reveal == held[first]
                answers.append(Answer(place + 2, reveal))
    assert list(held) == [f"x{i}" for i in range(num_variables)] and words[-2] == "[GET]"
    return [*answers, Answer(len(words) - 1, held[words[-1]])]
