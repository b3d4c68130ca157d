"""What is measured on a model beside its scores: sizes, what it writes, where it stands in the triangle."""

from lightning.pytorch import Trainer

from hybrids.model.decode import measure_decoding
from hybrids.model.measure import measure_step
from hybrids.model.model import Model
from hybrids.task import DecodedTask, Split, Task
from hybrids.training.data import measure_overlap
from hybrids.training.lit import LitModel
from hybrids.training.record import Sizes
from hybrids.training.settings import DataSettings
from hybrids.triangle.place import Place, measure_places


def measure_sizes(model: Model, context: int) -> Sizes:
    """Parameters of a model, and what its backbone carries and costs after `context` tokens, measured."""
    cost = measure_step(model.backbone, model.backbone.d_model, context)
    backbone = sum(p.numel() for p in model.backbone.parameters())
    total = sum(p.numel() for p in model.parameters())
    return Sizes(
        parameters={"total": total, "backbone": backbone, "embedding": total - backbone - model.norm.weight.numel()},
        context=context,
        state_elements=cost.state_elements,
        state_bits=cost.state_bits,
        step_flops=cost.flops,
        step_bytes=cost.bytes_read,
        head_flops=2 * model.head.weight.numel(),
    )


def decode_first(lit: LitModel, task: Task, settings: DataSettings, trainer: Trainer) -> dict[str, float]:
    """Scores of decoding the first test examples, where the model was trained or tested; empty if none are to be."""
    if not isinstance(task, DecodedTask) or settings.num_decoded_examples == 0:
        return {}
    lit.to(trainer.strategy.root_device)  # Lightning leaves a model that it has tested on the CPU
    with trainer.precision_plugin.forward_context():  # kernels were chosen for that precision
        scores = measure_decoding(
            lit.model,
            task,
            settings.num_decoded_examples,
            seed=settings.seed,
            split=Split.TEST,
            batch_size=settings.eval_batch_size,
        )
    for logger in trainer.loggers:
        logger.log_metrics({f"decoded/{name}": value for name, value in scores.items()}, step=trainer.global_step)
    return scores


def place_in_triangle(lit: LitModel, task: Task, settings: DataSettings, trainer: Trainer) -> list[Place]:
    """Efficiency, Compactness and Recall at 1, 2 and 4 times the length of the task, on the first test examples."""
    lit.to(trainer.strategy.root_device)
    with trainer.precision_plugin.forward_context():  # so that the state is stored as it is in use
        places = measure_places(
            lit.model,
            task,
            seed=settings.seed,
            num_examples=settings.num_recall_examples,
            batch_size=settings.eval_batch_size,
        )
    for logger in trainer.loggers:
        logger.log_metrics(_flat(places), step=trainer.global_step)
    return places


def _flat(places: list[Place]) -> dict[str, float]:
    """`triangle/<context>/<measure>`: one number each, as logs want them."""
    numbers = (
        (place["context"], name, value) for place in places for name, value in place.items() if name != "context"
    )
    return {f"triangle/{n}/{name}": float(value) for n, name, value in numbers if isinstance(value, bool | int | float)}


def find_overlap(
    task: Task, settings: DataSettings, *, num_train: int = 20_000, first_train: int = 0
) -> dict[str, float]:
    """Measured on the first examples of each stream; generation on the host is too slow for many.

    Those of training begin at `first_train`, where they are of the sizes of the task.
    """
    if task.generated_on == "host":
        num_train = 1_000
    sizes = {Split.VAL: settings.num_val_examples, Split.TEST: settings.num_test_examples}
    return {
        split.name.lower(): measure_overlap(
            task, settings.seed, split, num_train=num_train, num_eval=num, first_train=first_train
        )
        for split, num in sizes.items()
    }
