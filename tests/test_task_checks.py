"""Every check of a task finds the bug that was planted for it, and nothing in a task without bugs."""

import pytest
import torch

from hybrids.checks import Subject, checks_for, run_check, tasks
from hybrids.checks.settings import settings_are_a_schema
from hybrids.rng import Draws
from hybrids.task import Batch, Split, Task

PLANTS = []


def plant(check, match):
    """The class has one bug, which `check` must name."""

    def add(cls):
        PLANTS.append(pytest.param(check, cls, match, id=f"{check.__name__}-{cls.__name__}"))
        return cls

    return add


class Lookup(Task):
    """Values, then the index of one of them, then a token of padding: a task without bugs."""

    num_targets = 2
    num_values = 16
    vocab_size = 16 + 32

    def __init__(self, *, num_facts: int = 4) -> None:
        if num_facts not in range(1, 33):
            raise ValueError(f"num_facts={num_facts} must be from 1 to 32")
        self.num_facts, self.length = num_facts, num_facts + 2

    def sample(self, index, *, seed, split):
        draws = Draws.of(index, seed=seed, stream=split)
        values = draws.integers("values", self.num_facts, self.num_values)
        query = draws.integers("query", 1, self.num_facts)
        padding = draws.integers("padding", 1, self.vocab_size)
        tokens = torch.cat([values, query + self.num_values, padding], dim=1)
        targets = torch.cat([values.gather(1, query), -torch.ones_like(query)], dim=1)
        positions = torch.tensor([self.num_facts, 0]).expand_as(targets)
        slices = {"num_facts": torch.full_like(index, self.num_facts)}
        return Batch(tokens, positions, targets, targets >= 0, slices)

    def solve(self, tokens, positions):
        asked = tokens.gather(1, positions) - self.num_values
        return tokens.gather(1, asked.clamp(0, self.length - 1))

    def spell(self, token):
        return str(token)

    @property
    def chance_accuracy(self):
        return 1 / self.num_values

    @property
    def slice_values(self):
        return {"num_facts": (self.num_facts,)}

    @property
    def facts(self):
        return self.num_facts

    @property
    def bits(self):
        return 4.0 * self.num_facts

    def recalled_bits(self, errors):
        return self.bits * (1 - errors)

    @property
    def sizes(self):
        return {"num_facts": (1, 4, 64)}

    def resize(self, **sizes):
        return self.replace(**sizes)

    def at_context(self, context):
        return self.resize(num_facts=self.num_facts * context // self.length)


class Changed(Lookup):
    """Changes the batch that a right task gives."""

    def sample(self, index, *, seed, split):
        return self.change(super().sample(index, seed=seed, split=split), index)

    def change(self, batch, index):
        raise NotImplementedError


@plant(settings_are_a_schema, "'num_facts' of Positional is not keyword-only")
class Positional(Lookup):
    def __init__(self, num_facts: int = 4) -> None:
        super().__init__(num_facts=num_facts)


@plant(settings_are_a_schema, "'d_model' of WidthSetting has no default")
class WidthSetting(Lookup):
    def __init__(self, *, num_facts: int = 4, d_model: int) -> None: ...


@plant(tasks.settings_make_the_task_again, r"settings\(\)\) changes settings: \{'num_facts': 16\}")
class Doubled(Lookup):
    def __init__(self, *, num_facts: int = 4) -> None:
        super().__init__(num_facts=2 * num_facts)


@plant(tasks.settings_make_the_task_again, r"pickling changes settings")
class LosesSettings(Lookup):
    def __reduce__(self):
        return type(self), (), {"num_facts": 5}


@plant(tasks.settings_make_the_task_again, "cannot be pickled")
class HoldsFunction(Lookup):
    def __init__(self, *, num_facts: int = 4) -> None:
        super().__init__(num_facts=num_facts)
        self.key = lambda x: x


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


@plant(tasks.oracle_agrees, "solve and targets disagree on .* of 48 answers")
class WrongOracle(Lookup):
    def solve(self, tokens, positions):
        return super().solve(tokens, positions).clamp(max=14)


@plant(tasks.oracle_agrees, "solve and targets disagree on 48 of 48 answers")
class LeakyOracle(Changed):
    """Its targets cannot be had from the tokens; the oracle remembers them."""

    remembered = None

    def change(self, batch, index):
        self.remembered = (batch.targets + 1) % self.num_values
        return batch._replace(targets=self.remembered)

    def solve(self, tokens, positions):
        return super().solve(tokens, positions) if self.remembered is None else self.remembered


@plant(tasks.answers_can_be_known, "once the tokens after the last position asked are replaced")
class AsksBeforeTheQuery(Changed):
    def change(self, batch, index):
        return batch._replace(positions=(batch.positions - 1).clamp(min=0))

    def solve(self, tokens, positions):
        return super().solve(tokens, positions + 1)


@plant(tasks.slices_are_declared, r"takes values \[4\], which slice_values does not declare")
class UndeclaredSlice(Lookup):
    @property
    def slice_values(self):
        return {"num_facts": (1, 2)}


@plant(tasks.slices_are_declared, r"keys \[\], batches have \['num_facts'\]")
class MissingSlice(Lookup):
    @property
    def slice_values(self):
        return {}


@plant(tasks.slices_are_declared, "is not ascending")
class DescendingSlice(Lookup):
    @property
    def slice_values(self):
        return {"num_facts": (4, 2)}


@plant(tasks.chance_is_not_beaten_by_a_constant, "chance_accuracy is 6.25; it must be from 0 to 1")
class ChanceInPercent(Lookup):
    @property
    def chance_accuracy(self):
        return 6.25


@plant(tasks.chance_is_not_beaten_by_a_constant, "a constant answer is right .* of the time")
class SkewedAnswers(Changed):
    def change(self, batch, index):
        return batch._replace(targets=torch.where(index[:, None] % 4 == 0, 3, batch.targets))


BITS = tasks.recalled_bits_are_consistent


@plant(BITS, "must both be None, or neither")
class HalfNone(Lookup):
    def recalled_bits(self, errors):
        return None


@plant(BITS, "bits is -16.0; it must be positive")
class NegativeBits(Lookup):
    @property
    def bits(self):
        return -16.0


@plant(BITS, r"recalled_bits\(0\) is 8.0, bits is 16.0")
class LosesBits(Lookup):
    def recalled_bits(self, errors):
        return super().recalled_bits(errors) / 2


@plant(BITS, "facts is 0; it must be positive, or None")
class NoFacts(Lookup):
    facts = 0


@plant(tasks.tokens_have_spellings, r"spell\(1\) and spell\(0\) are both 'token'")
class OneSpelling(Lookup):
    def spell(self, token):
        return "token"


@plant(tasks.tokens_have_spellings, r"spell\(0\) is 'token 0': empty, or with a space")
class SpellsWithSpaces(Lookup):
    def spell(self, token):
        return f"token {token}"


@plant(BITS, "recalled_bits is negative")
class BelowNothing(Lookup):
    def recalled_bits(self, errors):
        return self.bits * (1 - 2 * errors)


@plant(BITS, "recalled_bits rises with errors")
class Rising(Lookup):
    """The entropy formula beyond its range: it comes up again where errors exceed 1 - 1/V."""

    def recalled_bits(self, errors):
        return self.bits * (1 - 2 * errors).abs()


@plant(BITS, "changes the shape")
class OneNumber(Lookup):
    def recalled_bits(self, errors):
        return super().recalled_bits(errors).mean()


@plant(tasks.sizes_keep_the_vocabulary, "sizes has 'facts', which is no setting: num_facts")
class UnknownSize(Lookup):
    @property
    def sizes(self):
        return {"facts": (1, 2)}


@plant(tasks.sizes_keep_the_vocabulary, r"sizes\['num_facts'\] is empty")
class EmptySizes(Lookup):
    @property
    def sizes(self):
        return {"num_facts": ()}


class GrowingVocabulary(Lookup):
    def __init__(self, *, num_facts: int = 4) -> None:
        super().__init__(num_facts=num_facts)
        self.vocab_size = self.num_values + num_facts


plant(tasks.sizes_keep_the_vocabulary, r"resize\(num_facts=1\) changes vocab_size from 20 to 17")(GrowingVocabulary)
plant(tasks.contexts_scale, r"at_context\(12\) changes vocab_size from 20 to 24")(GrowingVocabulary)


@plant(tasks.sizes_keep_the_vocabulary, r"resize\(num_facts=1\) gives a task with num_facts=4")
class NeverResized(Lookup):
    def resize(self, **sizes):
        return self


@plant(tasks.sizes_keep_the_vocabulary, r"disagree on .* answers after resize\(num_facts=1\)")
class OracleForManyFacts(Lookup):
    def solve(self, tokens, positions):
        return super().solve(tokens, positions) + (self.num_facts < 2)


@plant(tasks.contexts_scale, r"at_context\(12\) has length 6; expected above 6")
class FixedContext(Lookup):
    def at_context(self, context):
        return self


@plant(tasks.contexts_scale, r"at_context\(12\) has length 14")
class TooLong(Lookup):
    def at_context(self, context):
        return self.replace(num_facts=context)


@plant(tasks.contexts_scale, r"solve and targets disagree on .* answers at_context\(12\)")
class OracleForOneSize(Lookup):
    def solve(self, tokens, positions):
        return super().solve(tokens, positions.clamp(max=4))


@pytest.mark.parametrize(("check", "cls", "match"), PLANTS)
def test_a_planted_bug_is_found_and_named(check, cls, match):
    with pytest.raises(AssertionError, match=match):
        check(Subject(cls))


def test_a_task_without_bugs_passes():
    results = [run_check(check, Subject(Lookup)) for check in checks_for("task")]
    assert [r for r in results if not r.passed] == []


def test_a_task_whose_bits_are_unknown_passes():
    class Unknown(Lookup):
        bits = None

        def recalled_bits(self, errors):
            return None

    assert run_check(tasks.recalled_bits_are_consistent, Subject(Unknown)).passed


def test_every_check_of_a_task_has_a_planted_bug():
    assert {case.values[0] for case in PLANTS} == set(checks_for("task"))
