"""Making a batch of MQAR examples, against zoology's generator.

    python benchmarks/mqar_generation.py [--threads 2] [--rounds 9]
    ZOOLOGY=<checkout> python benchmarks/mqar_generation.py

Vocabulary 8192, on the CPU; both sides make the same number of examples at once, a batch of 64 (as ours does in
training, each step) and a segment of 4096 (zoology makes its data once, in segments). Both run in one process with
the same threads, in turns, so that a busy machine slows both; times are medians over the rounds, and the ratio is
the median of the ratios within a round. The milliseconds of ours for a batch, over those of `training_step.py`,
are the share of a training step.

zoology: https://github.com/HazyResearch/zoology, commit d88d6f5. Its module needs numpy and pydantic; its
`zoology.utils`, which generation does not use and which needs wandb and pandas, is left out.
"""

import argparse
import importlib
import os
import statistics
import sys
import time
from collections.abc import Callable
from itertools import product
from types import ModuleType

import torch

from hybrids.task import Split
from hybrids.training.process import keep_freed_memory, set_threads
from hybrids_plugins.tasks.mqar import MultiQueryAssociativeRecall

VOCAB_SIZE = 8192
NUM_EXAMPLES = (64, 4096)
SIZES = ((64, 4), (256, 64))
TARGET_RATIO = 20


def ours(length: int, num_pairs: int, examples: int) -> Callable[[int], object]:
    """Makes batch number `round`."""
    task = MultiQueryAssociativeRecall(vocab_size=VOCAB_SIZE, length=length, num_pairs=num_pairs)
    index = torch.arange(examples)
    return lambda round: task.sample(index + round * examples, seed=0, split=Split.TRAIN)


def zoologys(checkout: str, length: int, num_pairs: int, examples: int) -> Callable[[int], object]:
    """Makes one segment, with `round` as its seed."""
    if checkout not in sys.path:
        sys.path.insert(0, checkout)
    unused = ModuleType("zoology.utils")
    unused.__dict__["import_from_str"] = None
    sys.modules.setdefault("zoology.utils", unused)
    generate = importlib.import_module("zoology.data.multiquery_ar").multiquery_ar
    return lambda round: generate(
        vocab_size=VOCAB_SIZE, num_examples=examples, input_seq_len=length, num_kv_pairs=num_pairs, seed=round
    )


def seconds(make: Callable[[int], object], round: int, repeats: int) -> float:
    """Time of one call, the median of `repeats`."""
    times = []
    for i in range(repeats):
        start = time.perf_counter()
        make(round * repeats + i)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description="MQAR generation, ours and zoology's.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    set_threads(args.threads)
    keep_freed_memory()  # as in training; for both sides
    checkout = os.environ.get("ZOOLOGY")
    if not checkout:
        print("ZOOLOGY is not set: measuring ours only. For the ratio:")
        print("  git clone https://github.com/HazyResearch/zoology && export ZOOLOGY=$PWD/zoology")
    print(f"vocabulary {VOCAB_SIZE}, {args.threads} threads, torch {torch.__version__}")
    for (length, num_pairs), examples in product(SIZES, NUM_EXAMPLES):
        make = ours(length, num_pairs, examples)
        theirs = zoologys(checkout, length, num_pairs, examples) if checkout else None
        seconds(make, 0, 5)
        report(f"length {length:4}, pairs {num_pairs:3}, {examples:4} examples", make, theirs, args.rounds)


def report(name: str, make: Callable, theirs: Callable | None, rounds: int) -> None:
    """Print one size: rounds of ours, of zoology's, and again."""
    own, other = [], []
    for round in range(1, rounds + 1):
        own.append(seconds(make, round, 5))
        if theirs:
            other.append(seconds(theirs, round, 1))
    line = f"{name}: ours {statistics.median(own) * 1e3:7.3f} ms"
    if theirs:
        ratio = statistics.median(b / a for a, b in zip(own, other, strict=True))
        line += f", zoology {statistics.median(other) * 1e3:7.2f} ms, ratio {ratio:5.1f} (target {TARGET_RATIO})"
    print(line)


if __name__ == "__main__":
    main()
