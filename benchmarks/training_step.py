"""One training step of `hybrids` on MQAR, against the same model done plainly and against zoology's.

    python benchmarks/training_step.py [--threads 2] [--rounds 15] [--default-memory]
    ZOOLOGY=<checkout> python benchmarks/training_step.py

Two attention layers of one head, width 64, no channel mixer, vocabulary 8192, batch 64, float32, on the CPU.
All sides run in one process with the same threads and the same memory settings, in turns, so that a busy
machine slows all of them. Figures are medians over the rounds; a ratio is the median of the ratios within a
round. A step is forward, loss, backward and optimiser. With one thread its CPU time is taken, which others on
the machine disturb least; with more, the time on the clock, which means nothing unless the cores are free.

ours        also makes its batch, tells which answers are right, and clips the gradient
no batch    ours, on a batch made before, as zoology's are
plain       our model on that batch: logits at every position, clipping, AdamW without fused and foreach
zoology     its LanguageModel with MHA, its loss, its optimiser, as in its Trainer; it does not clip
undropped   zoology without its dropout (0.1 on embeddings and attention), which ours does not have

zoology: https://github.com/HazyResearch/zoology at dbcb60d. Its next commit, d88d6f5, makes the embeddings on
`cuda` whatever the machine. At dbcb60d learned positions still do that, so the sides here have none; ours has
rotary ones. It needs einops, numpy, pandas, pydantic, tqdm, wandb, and a torchvision that fits the torch.
"""

import argparse
import importlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from hybrids.model.block import Choice, Letter
from hybrids.model.model import Model
from hybrids.pattern import Pattern
from hybrids.registry import get
from hybrids.task import Batch, Split, Task
from hybrids.training.optim import build_optimizer
from hybrids.training.process import keep_freed_memory, set_threads
from hybrids.training.settings import OptimSettings

SIZES = ((64, 4), (256, 64))
VOCAB_SIZE, D_MODEL, NUM_LAYERS, BATCH_SIZE = 8192, 64, 2, 64
DROPOUT = 0.1
"""Of embeddings and attention, in zoology's published settings."""

Step = Callable[[], None]


def build_task(length: int, num_pairs: int) -> Task:
    """MQAR as in zoology: random fillers, queries that crowd behind the context."""
    return get("task", "mqar").cls(vocab_size=VOCAB_SIZE, length=length, num_pairs=num_pairs)


def build_model() -> Model:
    attention = Letter(Choice(get("mixer", "attention").cls, {"num_heads": 1}), None)
    return Model(VOCAB_SIZE, D_MODEL, Pattern.parse("A" * NUM_LAYERS), {"A": attention})


def batches(task: Task) -> Iterator[Batch]:
    """The batches of a run, one after another."""
    for step in count():
        yield task.sample(torch.arange(BATCH_SIZE) + step * BATCH_SIZE, seed=0, split=Split.TRAIN)


def our_step(source: Iterator[Batch]) -> Step:
    """What `hybrids train` does in a step, with a batch from `source`."""
    model, settings = build_model(), OptimSettings()
    optimizer = build_optimizer(model, settings)

    def step() -> None:
        loss, _ = model.answer(next(source))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
        optimizer.step()

    return step


def plain_step(batch: Batch) -> Step:
    """The same model and loss with logits at every position and an optimiser that loops over parameters."""
    model = build_model()
    optimizer = torch.optim.AdamW(model.parameters(), fused=False, foreach=False)
    labels = labels_everywhere(batch)

    def step() -> None:
        x, _ = model.backbone(model.embedding(batch.tokens))
        loss = F.cross_entropy(model.head(x).flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def labels_everywhere(batch: Batch) -> torch.Tensor:
    """Targets at their positions and -100, which F.cross_entropy ignores, elsewhere."""
    labels = torch.full_like(batch.tokens, -100)
    return labels.scatter_(1, batch.positions, batch.targets.masked_fill(~batch.valid, -100))


def zoology_step(length: int, num_pairs: int, dropout: float) -> Step:
    """The lines of zoology's `Trainer.train_epoch` that compute, on data that zoology generated."""
    model = zoology_model(dropout).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    segment = importlib.import_module("zoology.data.multiquery_ar").MQARConfig(
        vocab_size=VOCAB_SIZE, num_examples=BATCH_SIZE, input_seq_len=length, num_kv_pairs=num_pairs
    )
    data = segment.build(seed=0)
    inputs, labels = data.inputs, data.labels

    def step() -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs).flatten(0, 1), labels.flatten())
        loss.backward()
        optimizer.step()

    return step


def zoology_model(dropout: float) -> nn.Module:
    """Two MHA layers without positions and without a state mixer, as in the settings of its figure 2."""
    config = importlib.import_module("zoology.config")
    settings: dict[str, Any] = {
        "d_model": D_MODEL,
        "n_layers": NUM_LAYERS,
        "vocab_size": VOCAB_SIZE,
        "max_position_embeddings": 0,
        "embed_dropout": dropout,
        "sequence_mixer": {
            "name": "zoology.mixers.attention.MHA",
            "kwargs": {"num_heads": 1, "dropout": dropout},
        },
        "state_mixer": {"name": "torch.nn.Identity"},
    }
    return importlib.import_module("zoology.model").LanguageModel(config.ModelConfig(**settings))


def build_steps(length: int, num_pairs: int, *, with_zoology: bool) -> dict[str, Step]:
    """The sides to compare, by name; `ours` first."""
    torch.manual_seed(0)
    task = build_task(length, num_pairs)
    batch = next(batches(task))
    steps = {
        "ours": our_step(batches(task)),
        "no batch": our_step(iter(lambda: batch, None)),
        "plain": plain_step(batch),
    }
    if with_zoology:
        steps["zoology"] = zoology_step(length, num_pairs, DROPOUT)
        steps["undropped"] = zoology_step(length, num_pairs, 0.0)
    return steps


def time_in_turns(
    steps: dict[str, Step], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds by `clock` of each step in each round, after two rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 2):
        for name, step in steps.items():
            start = clock()
            step()
            if turn >= 2:
                seconds[name].append(clock() - start)
    return seconds


def report(title: str, seconds: dict[str, list[float]]) -> None:
    """Median milliseconds per step, and how many times longer than ours."""
    print(f"\n{title}")
    for name, values in seconds.items():
        ratio = statistics.median(theirs / ours for theirs, ours in zip(values, seconds["ours"], strict=True))
        print(f"  {name:<10}{1e3 * statistics.median(values):9.1f} ms{ratio:8.2f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=None, help="threads of every side (default: torch's)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--default-memory", action="store_true", help="leave the C library's settings alone")
    args = parser.parse_args()
    kept, threads = not args.default_memory and keep_freed_memory(), set_threads(args.threads)
    print(f"torch {torch.__version__}, {threads} threads, freed memory {'kept' if kept else 'returned'}")
    checkout = os.environ.get("ZOOLOGY")
    if checkout is None:
        print("zoology is left out: set ZOOLOGY to a checkout of it (see --help)")
    else:
        sys.path.insert(0, checkout)
    clock = time.process_time if threads == 1 else time.perf_counter
    for length, num_pairs in SIZES:
        steps = build_steps(length, num_pairs, with_zoology=checkout is not None)
        report(f"MQAR, {length} tokens, {num_pairs} pairs", time_in_turns(steps, args.rounds, clock))


if __name__ == "__main__":
    main()
