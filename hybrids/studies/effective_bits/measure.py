"""Effective bits of a trained run: what it recalls through a state rounded to ever fewer bits."""

from hybrids.errors import UserError
from hybrids.model.backbone import Backbone
from hybrids.studies.effective_bits.rounded import Rounded
from hybrids.studies.effective_bits.settings import RoundingSettings
from hybrids.training.evaluate import model_in_use
from hybrids.training.process import keep_freed_memory, set_threads
from hybrids.training.progress import tracked
from hybrids.training.record import RunFolder
from hybrids.training.run import Run
from hybrids.training.settings import TrainerSettings
from hybrids.triangle.recall import effective_bits, measure_recall


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
    seed, num, size = run.data.seed, settings.num_examples, settings.batch_size
    levels = sorted(set(settings.levels), reverse=True)
    with model_in_use(run, folder, task) as model:
        stored = measure_recall(model, task, seed=seed, num_examples=num, batch_size=size)
        curve = effective_bits(
            model, task, seed=seed, num_examples=num, batch_size=size, levels=tracked(levels, "rounding")
        )
    return Rounded(stored, tuple(curve), task.length, settings.num_examples)
