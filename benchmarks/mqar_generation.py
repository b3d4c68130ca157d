"""Making a batch of MQAR examples, against zoology's generator.

    python benchmarks/mqar_generation.py [--threads 2] [--rounds 9]
    ZOOLOGY=<checkout> python benchmarks/mqar_generation.py

Batches of 64, vocabulary 8192, on the CPU. Both generators run in one process with the same threads, in
turns, so that a busy machine slows both; the times are medians over the rounds, and the ratio is the median
of the ratios within a round. zoology makes a whole segment at once, so its time is the share of 64 examples
in a segment of 4096 (`--segment 64` is dearer for it per example). The milliseconds of ours, over those of
`training_step.py`, are the share of a training step.

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
from types import ModuleType

import torch

from hybrids.task import Split
from hybrids_plugins.tasks.mqar import MultiQueryAssociativeRecall

VOCAB_SIZE, BATCH_SIZE = 8192, 64
SIZES = ((64, 4), (256, 64))
TARGET_RATIO = 20


def ours(length: int, num_pairs: int) -> Callable[[int], object]:
    """Makes batch number `round`."""
    task = MultiQueryAssociativeRecall(vocab_size=VOCAB_SIZE, length=length, num_pairs=num_pairs)
    index = torch.arange(BATCH_SIZE)
    return lambda round: task.sample(index + round * BATCH_SIZE, seed=0, split=Split.TRAIN)


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
    parser.add_argument("--segment", type=int, default=4096, help="examples that zoology makes at once")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    checkout = os.environ.get("ZOOLOGY")
    if not checkout:
        print("ZOOLOGY is not set: measuring ours only. For the ratio:")
        print("  git clone https://github.com/HazyResearch/zoology && export ZOOLOGY=$PWD/zoology")
    print(f"batch {BATCH_SIZE}, vocabulary {VOCAB_SIZE}, {args.threads} threads, torch {torch.__version__}")
    for length, num_pairs in SIZES:
        make = ours(length, num_pairs)
        seconds(make, 0, 5)
        report(f"length {length:4}, pairs {num_pairs:3}", make, checkout, length, num_pairs, args)


def report(name: str, make: Callable, checkout: str | None, length: int, num_pairs: int, args: argparse.Namespace):
    """Print one size: rounds of ours, of zoology's, and again."""
    theirs = zoologys(checkout, length, num_pairs, args.segment) if checkout else None
    own, other = [], []
    for round in range(1, args.rounds + 1):
        own.append(seconds(make, round, 15))
        if theirs:
            other.append(seconds(theirs, round, 1) * BATCH_SIZE / args.segment)
    line = f"{name}: ours {statistics.median(own) * 1e3:7.3f} ms"
    if theirs:
        ratio = statistics.median(b / a for a, b in zip(own, other, strict=True))
        line += f", zoology {statistics.median(other) * 1e3:7.2f} ms, ratio {ratio:5.1f} (target {TARGET_RATIO})"
    print(line)


if __name__ == "__main__":
    main()
