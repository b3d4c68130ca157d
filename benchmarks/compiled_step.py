"""What `trainer.compile=true` brings: a training step with a compiled backbone against the same one without.

    python benchmarks/compiled_step.py [--threads 2] [--rounds 15] [--patterns L LLLA] [<setting>=<value> ...]

The demo's model and data (MQAR, 64 tokens, batch 64, width 64) unless settings of `hybrids train` say otherwise. Both
sides run in one process, in turns; the ratio is the median of the ratios within a round. Compiling is timed on its
own, with an empty cache of the compiler, and earned back after the printed number of steps, if at all.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import count

import torch
from torch import nn

from hybrids.config.compose import compose
from hybrids.config.schema import store_schemas
from hybrids.task import Split
from hybrids.training.optim import build_optimizer
from hybrids.training.process import keep_freed_memory, set_threads
from hybrids.training.run import Run
from hybrids.training.train import build_model

PATTERNS = ("A", "L", "M", "LLLA")
CACHE = "TORCHINDUCTOR_CACHE_DIR"

Step = Callable[[], None]


def make_step(run: Run, *, is_compiled: bool) -> Step:
    """What a run does in a step."""
    task = run.task.build()
    model = build_model(run, task)
    optimizer = build_optimizer(model, run.optim)
    backbone = torch.compile(model.backbone.forward) if is_compiled else None
    numbers = count()

    def step() -> None:
        ids = torch.arange(run.data.batch_size) + next(numbers) * run.data.batch_size
        loss, _ = model.answer(task.sample(ids, seed=0, split=Split.TRAIN), backbone)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), run.optim.grad_clip)
        optimizer.step()

    return step


def seconds(step: Step) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=None, help="threads of both sides (default: torch's)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--patterns", nargs="+", default=PATTERNS)
    parser.add_argument("settings", nargs="*", metavar="<setting>=<value>")
    args = parser.parse_args()
    keep_freed_memory()
    store_schemas()
    print(f"torch {torch.__version__}, {set_threads(args.threads)} threads")
    print("pattern      plain ms  compiled ms  ratio  compiling s  earned back after")
    for pattern in args.patterns:
        run = compose([f"pattern={pattern}", *args.settings])
        plain, compiled = (make_step(run, is_compiled=is_compiled) for is_compiled in (False, True))
        seconds(plain)
        with tempfile.TemporaryDirectory() as folder:
            os.environ[CACHE] = folder
            compiling = seconds(compiled)
        times = [(seconds(plain), seconds(compiled)) for _ in range(args.rounds + 2)][2:]
        theirs, ours = (statistics.median(side) for side in zip(*times, strict=True))
        ratio = statistics.median(mine / other for mine, other in times)
        back = f"{compiling / (theirs - ours):,.0f} steps" if ratio > 1 else "never"
        print(f"{pattern:<10}{1e3 * theirs:11.1f}{1e3 * ours:13.1f}{ratio:7.2f}{compiling:13.1f}  {back}", flush=True)


if __name__ == "__main__":
    main()
