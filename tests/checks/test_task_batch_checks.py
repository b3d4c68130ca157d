"""Every check of the batches of a task finds the bug that was planted for it."""

import pytest
import torch
from planting import planting
from sound_task import BATCH_CHECKS, Changed, Lookup

from hybrids.checks import Subject, tasks
from hybrids.checks.settings import settings_are_a_schema
from hybrids.task import Split

PLANTS, plant = planting()


@plant(settings_are_a_schema, "'num_facts' of Positional is not keyword-only")
class Positional(Lookup):
    def __init__(self, num_facts: int = 4) -> None:
        super().__init__(num_facts=num_facts)


@plant(settings_are_a_schema, "'d_model' of WidthSetting has no default")
class WidthSetting(Lookup):
    def __init__(self, *, num_facts: int = 4, d_model: int) -> None: ...


@plant(tasks.declarations_are_plausible, "generated_on is 'gpu'")
class OddPlace(Lookup):
    generated_on = "gpu"


@plant(tasks.declarations_are_plausible, "vocab_size is 48.0; it must be an integer")
class FloatVocabulary(Lookup):
    vocab_size = 48.0  # pyright: ignore


@plant(tasks.declarations_are_plausible, "num_targets is 0; it must be positive")
class NoTargets(Lookup):
    num_targets = 0


@plant(tasks.batches_have_declared_shapes, r"tokens has shape \[1, 5\], declared is \[1, 6\]")
class ShortTokens(Changed):
    def change(self, batch, index):
        return batch._replace(tokens=batch.tokens[:, :-1])


@plant(tasks.batches_have_declared_shapes, r"positions has shape \[1, 1\], declared is \[1, 2\]")
class FewerPositions(Changed):
    def change(self, batch, index):
        return batch._replace(positions=batch.positions[:, :1])


@plant(tasks.batches_have_declared_shapes, "targets has dtype torch.float32; it must be an integer")
class FloatTargets(Changed):
    def change(self, batch, index):
        return batch._replace(targets=batch.targets.float())


@plant(tasks.batches_have_declared_shapes, "valid has dtype torch.int64; it must be boolean")
class NumberValid(Changed):
    def change(self, batch, index):
        return batch._replace(valid=batch.valid.long())


@plant(tasks.batches_have_declared_shapes, r"slices\['num_facts'\] is a int, not a tensor")
class NumberSlice(Changed):
    def change(self, batch, index):
        return batch._replace(slices={"num_facts": 4})


@plant(tasks.batches_have_declared_shapes, r"slices\['num_facts'\] has shape \[1, 1\], declared is \[1, 2\]")
class ShortSliceOfAnswers(Changed):
    def change(self, batch, index):
        return batch._replace(slices={"num_facts": batch.slices["num_facts"][:, None]})


@plant(tasks.numbers_are_in_range, "tokens go from .* to 48; allowed: 0 to 47")
class TokenOutside(Changed):
    def change(self, batch, index):
        return batch._replace(tokens=torch.where(index[:, None] == 40, self.vocab_size, batch.tokens))


@plant(tasks.numbers_are_in_range, "targets go from 48 to 63")
class TargetOutside(Changed):
    def change(self, batch, index):
        return batch._replace(targets=batch.targets + self.vocab_size)


@plant(tasks.numbers_are_in_range, "positions go from -1")
class PositionOutside(Changed):
    def change(self, batch, index):
        return batch._replace(positions=batch.positions - 1)


@plant(tasks.numbers_are_in_range, r"examples \[0, 4, 8, 12, 16\] of TRAIN have no valid answer")
class AsksNothing(Changed):
    def change(self, batch, index):
        return batch._replace(valid=batch.valid & (index % 4 != 0)[:, None])


INDEX_ALONE = tasks.examples_depend_on_their_index_alone


@plant(INDEX_ALONE, r"tokens of the same examples differ when sampled as batch \[7\]")
class BatchSizeMatters(Changed):
    def change(self, batch, index):
        return batch._replace(tokens=(batch.tokens + len(index)) % self.vocab_size)


@plant(INDEX_ALONE, "targets of the same examples differ")
class PlaceInBatchMatters(Changed):
    def change(self, batch, index):
        return batch._replace(targets=batch.targets + torch.arange(len(index))[:, None])


@plant(INDEX_ALONE, "tokens of the same examples differ")
class GlobalRandomNumbers(Changed):
    def change(self, batch, index):
        return batch._replace(tokens=torch.randint_like(batch.tokens, self.vocab_size))


@plant(INDEX_ALONE, "slices.* of the same examples differ")
class CountsCalls(Changed):
    calls = 0

    def change(self, batch, index):
        self.calls += 1
        return batch._replace(slices={"num_facts": torch.full_like(index, self.calls)})


DIFFER = tasks.splits_seeds_and_indices_differ


@plant(DIFFER, "split VAL: the same examples")
class OneSplit(Lookup):
    def sample(self, index, *, seed, split):
        return super().sample(index, seed=seed, split=Split.TRAIN)


@plant(DIFFER, "seed 1: the same examples")
class OneSeed(Lookup):
    def sample(self, index, *, seed, split):
        return super().sample(index, seed=0, split=split)


@plant(DIFFER, "indices that start elsewhere: the same examples")
class FewExamples(Lookup):
    def sample(self, index, *, seed, split):
        return super().sample(index % 100, seed=seed, split=split)


@plant(DIFFER, "all examples are the same")
class OneExample(Lookup):
    def sample(self, index, *, seed, split):
        return super().sample(index * 0 + (index[0] > 9), seed=seed, split=split)


@pytest.mark.parametrize(("check", "cls", "match"), PLANTS)
def test_a_planted_bug_is_found_and_named(check, cls, match):
    with pytest.raises(AssertionError, match=match):
        check(Subject(cls))


def test_every_check_of_batches_has_a_planted_bug():
    assert {case.values[0] for case in PLANTS} == BATCH_CHECKS
