"""Every check of what a task states finds the bug that was planted for it, and nothing in a task without bugs."""

from typing import ClassVar

import pytest
import torch
from planting import planting
from sound_task import BATCH_CHECKS, Changed, Lookup

from hybrids.checks import Subject, checks_for, run_check, tasks

PLANTS, plant = planting()


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


@plant(tasks.facts_slice_counts_facts, "facts_slice is 'num_pairs'; slices are num_facts")
class NoSuchFactsSlice(Lookup):
    facts_slice = "num_pairs"


@plant(tasks.facts_slice_counts_facts, r"slices\['num_facts'\] takes values \[3\], facts is 4")
class CountsOneFactLess(Changed):
    facts_slice = "num_facts"

    def change(self, batch, index):
        return batch._replace(slices={"num_facts": batch.slices["num_facts"] - 1})


@plant(tasks.facts_slice_counts_facts, r"slices\['num_facts'\] has a value per answer; facts are of an example")
class CountsFactsOfAnswers(Changed):
    facts_slice = "num_facts"

    def change(self, batch, index):
        return batch._replace(slices={"num_facts": batch.slices["num_facts"][:, None].expand(-1, 2)})


CHOICES = tasks.choices_are_words_of_settings


@plant(CHOICES, "choices has 'order', which is no setting: num_facts")
class ChoiceOfNothing(Lookup):
    choices: ClassVar = {"order": ("up", "down")}


class Ordered(Lookup):
    """Takes any order, and goes up if it is not down."""

    choices: ClassVar = {"order": ("up", "down")}

    def __init__(self, *, num_facts: int = 4, order: str = "up") -> None:
        super().__init__(num_facts=num_facts)
        self.order = order


plant(CHOICES, "order='\\?' is accepted, choices\\['order'\\] is up, down")(Ordered)


@plant(CHOICES, "order is 'up' by default, choices\\['order'\\] is left, right")
class OtherChoices(Ordered):
    choices: ClassVar = {"order": ("left", "right")}


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


@plant(tasks.sizes_keep_the_vocabulary, r"resize\(num_facts=1\) raises ValueError\('too few'\); .* are a UserError")
class RefusesWithADefect(Lookup):
    def resize(self, **sizes):
        raise ValueError("too few")


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
    """Those of its batches have theirs in test_task_batch_checks.py."""
    assert {case.values[0] for case in PLANTS} == set(checks_for("task")) - BATCH_CHECKS
