"""A task without a bug, for one to be planted in, and the checks that look at its batches."""

import torch

from hybrids.checks import tasks
from hybrids.checks.settings import settings_are_a_schema
from hybrids.errors import UserError
from hybrids.rng import Draws
from hybrids.task import Batch, Task


class Lookup(Task):
    """Values, then the index of one of them, then a token of padding: a task without bugs."""

    facts_slice = "num_facts"
    num_targets = 2
    num_values = 16
    vocab_size = 16 + 32

    def __init__(self, *, num_facts: int = 4) -> None:
        if num_facts not in range(1, 33):
            raise UserError(f"num_facts={num_facts} must be from 1 to 32")
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


BATCH_CHECKS = {
    settings_are_a_schema,
    tasks.declarations_are_plausible,
    tasks.batches_have_declared_shapes,
    tasks.numbers_are_in_range,
    tasks.examples_depend_on_their_index_alone,
    tasks.splits_seeds_and_indices_differ,
}
"""The checks of a task that need no more than its settings and what it draws; bugs for the others are planted apart."""
