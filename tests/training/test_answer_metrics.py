"""Scores by slice: of whole examples, and of single answers."""

import pytest
import torch

from hybrids.task import Batch
from hybrids.training.lit import AnswerMetrics
from hybrids_plugins.tasks.word_problem import WordProblem


class TwoSlices(WordProblem):
    """A slice of examples beside the one of answers."""

    @property
    def slice_values(self):
        return {"prefix": (1, 2, 4), "kind": (3, 7)}


def test_scores_are_split_by_example_and_by_answer():
    metrics = AnswerMetrics(TwoSlices(length=3))
    valid = torch.tensor([[True, True, True], [True, True, False]])
    correct = torch.tensor([[True, False, True], [True, True, True]])
    slices = {"prefix": torch.tensor([1, 2, 4]).expand(2, 3), "kind": torch.tensor([7, 3])}
    nothing = torch.zeros(2, 3, dtype=torch.long)
    for _ in range(2):
        metrics.update(torch.tensor(0.5), correct, Batch(nothing, nothing, nothing, valid, slices))
    expected = {
        "loss": 0.5,
        "accuracy": 4 / 5,
        "exact_match": 1 / 2,
        "accuracy/prefix=1": 1.0,
        "accuracy/prefix=2": 1 / 2,
        "accuracy/prefix=4": 1.0,
        "accuracy/kind=3": 1.0,
        "accuracy/kind=7": 2 / 3,
    }
    assert metrics.compute() == pytest.approx(expected)
