"""Effective bits of a trained run: what it recalls through a state rounded to ever fewer bits."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from hybrids.errors import UserError, check_number
from hybrids.model.backbone import Backbone
from hybrids.training.evaluate import load_model, make_trainer
from hybrids.training.process import keep_freed_memory, matmul_precision, set_threads
from hybrids.training.record import RunFolder
from hybrids.training.run import Run, TrainerSettings
from hybrids.training.train import log_backends
from hybrids.triangle.intervals import Estimate
from hybrids.triangle.quantise import BITS, METHOD
from hybrids.triangle.recall import EffectiveBits, Recall, effective_bits, measure_recall, smallest_sufficient

KEPT = 0.99
"""Share of the recalled bits that a rounded state must keep to be enough."""

MOST_BITS = 24
"""Of one element: rounding is computed in float32, which tells no more levels apart."""

OUTDATED = "to evenly spaced levels, as earlier hybrids did, which needs more bits where states take few values"
"""What is said of a state that was rounded by the first method."""


@dataclass(frozen=True)
class Rounded:
    """Recall of one run at the context of training, through its state as stored and as rounded."""

    stored: Recall
    curve: tuple[EffectiveBits, ...]
    """Most bits first."""
    context: int
    num_examples: int
    method: int = METHOD
    """Of rounding, as numbered in `hybrids.triangle.quantise`."""

    @property
    def is_learned(self) -> bool:
        """Whether anything was recalled beyond doubt; what keeps 99 % of nothing says nothing."""
        return self.stored.recalled.surely > 0

    @property
    def smallest(self) -> EffectiveBits | None:
        """The smallest rounded state that keeps `KEPT`; None where none does, or nothing was recalled."""
        if not self.is_learned:
            return None
        return smallest_sufficient(self.curve, self.stored.recalled.bits, kept=KEPT)

    @property
    def is_outdated(self) -> bool:
        """Whether it was rounded by the first method."""
        return self.method != METHOD

    @property
    def is_at_most(self) -> bool:
        """Whether the fewest bits tried are enough, so that fewer might be."""
        fewest = min(entry.bits for entry in self.curve)
        return self.smallest is not None and self.smallest.bits == fewest > 1

    @property
    def utilisation(self) -> float | None:
        """Recalled bits over effective bits, both through the smallest state that is enough."""
        return None if self.smallest is None else self.smallest.recalled.bits / self.smallest.total

    @property
    def bits_stored(self) -> float:
        """Of one element, on average."""
        return self.stored.state_bits / self.stored.state_elements

    @property
    def states(self) -> Iterator[tuple[str, float, int, Estimate]]:
        """Name, bits per element, bits in all and recall of every state, the stored one first."""
        yield "stored", self.bits_stored, self.stored.state_bits, self.stored.recalled
        for entry in self.curve:
            yield "rounded", float(entry.bits), entry.total, entry.recalled

    def share_kept(self, recalled: Estimate) -> float | None:
        """Of the bits recalled through the state as stored."""
        return recalled.bits / self.stored.recalled.bits if self.is_learned else None

    @property
    def alarms(self) -> list[str]:
        """A sentence for every state through which more was recalled, beyond doubt, than it holds."""
        return [
            f"surely more than {found.surely:,.1f} bits recalled through {total:,} bits ({bits:g} per element)"
            for _, bits, total, found in self.states
            if found.surely > total
        ]


@dataclass(kw_only=True)
class RoundingSettings:
    """How to measure: `levels` are bits per element to try, `backend` is as in `evaluate_grid`."""

    levels: list[int] = field(default_factory=lambda: list(BITS))
    num_examples: int = 512
    batch_size: int = 64
    accelerator: str = "cpu"
    backend: str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if not self.levels or not all(1 <= bits <= MOST_BITS for bits in self.levels):
            what = f"each is a number of bits per element, 1 to {MOST_BITS}; give at least one"
            raise UserError(f"levels={','.join(map(str, self.levels))}: {what}")
        for name, least in (("num_examples", 2), ("batch_size", 1)):
            check_number(name, getattr(self, name), least)


def measure_rounded(run: Run, folder: RunFolder, settings: RoundingSettings) -> Rounded:
    """Recall of the last good checkpoint on the first test examples; the levels of rounding come from validation ones.

    UserError for a run without checkpoint or without state, a task without bits, and a device that is not there.
    """
    TrainerSettings(accelerator=settings.accelerator).check_devices()
    run = run.on(settings.accelerator, settings.backend)
    keep_freed_memory()
    set_threads(settings.threads)
    task = run.task.build()
    if Backbone(run.model.d_model, run.pattern, run.letters).state_elements(task.length) == 0:
        raise UserError(f"pattern={run.pattern.compact()} carries no state, so there are no bits of it to count")
    lit = load_model(run, folder, task).eval()
    log_backends(run)
    trainer = make_trainer(run)
    lit.to(trainer.strategy.root_device)
    seed, num, size = run.data.seed, settings.num_examples, settings.batch_size
    levels = sorted(set(settings.levels), reverse=True)
    with matmul_precision(tf32=run.trainer.tf32), trainer.precision_plugin.forward_context():  # as it is in use
        stored = measure_recall(lit.model, task, seed=seed, num_examples=num, batch_size=size)
        curve = effective_bits(lit.model, task, seed=seed, num_examples=num, batch_size=size, levels=levels)
    return Rounded(stored, tuple(curve), task.length, settings.num_examples)
