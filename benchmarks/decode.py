"""One decode step: its cost against the tokens seen, and a cache against running the prefix again.

    python benchmarks/decode.py [--d-model 256] [--contexts 64 256 1024 4096] [--patterns LL GG SS GGGA AA]

First table: milliseconds of one step of the backbone for one sequence after n tokens, and the slope of log time against
log n, from the first context to the last: 0 is flat, 1 is in proportion. Beside it the same slope for the operations
counted, which no machine disturbs. All contexts are timed in turns; times are medians.
Second table: tokens per second of `generate` against running the whole prefix again for each token, from prompts of
512 tokens, one and several at once; in turns, too. With one thread CPU time is taken, which others on the machine
disturb least; with more, the time on the clock.
Letters: A attention, S a sliding window of 64, L linear attention, G gated delta rule.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from hybrids.model.backbone import Backbone
from hybrids.model.block import Choice, Letter
from hybrids.model.generate import generate
from hybrids.model.measure import count_flops, prefill
from hybrids.model.model import Model
from hybrids.pattern import Pattern
from hybrids.registry import get
from hybrids.training.process import keep_freed_memory, set_threads

VOCAB, PROMPT, NEW = 1024, 512, 32
ROUNDS = 60
RERUNS = 3
"""Tokens that each round makes by running the prefix again."""

MIXERS = {"A": "attention", "S": "sliding_attention", "L": "linear_attention", "G": "gated_delta_net"}


def make_model(pattern: str, d_model: int) -> Model:
    torch.manual_seed(0)
    channel = Choice(get("channel", "swiglu").cls)
    letters = {letter: Letter(Choice(get("mixer", name).cls), channel) for letter, name in MIXERS.items()}
    return Model(VOCAB, d_model, Pattern.parse(pattern), letters).eval()


def milliseconds(step: Callable[[], object]) -> float:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    step()
    return 1e3 * (clock() - start)


def slope(values: list[float], contexts: list[int]) -> float:
    """Of log value against log context, first to last."""
    return math.log(values[-1] / values[0]) / math.log(contexts[-1] / contexts[0])


def time_steps(backbone: Backbone, contexts: list[int]) -> tuple[list[float], list[int]]:
    """Median milliseconds and counted operations of one step after each context."""
    caches = [prefill(backbone, backbone.d_model, n) for n in contexts]
    x = torch.randn(1, 1, backbone.d_model)
    steps = [lambda cache=cache: backbone(x, cache) for cache in caches]
    taken = [[milliseconds(step) for step in steps] for _ in range(ROUNDS + 3)][3:]
    return [statistics.median(column) for column in zip(*taken, strict=True)], [count_flops(step) for step in steps]


def run_again(model: Model, prompt: Tensor) -> None:
    tokens = prompt
    for _ in range(RERUNS):
        logits, _ = model(tokens)
        tokens = torch.cat([tokens, logits[:, -1].argmax(-1, keepdim=True)], dim=1)


def compare_with_rerun(model: Model, batch: int, rounds: int) -> tuple[float, float]:
    """Tokens per second with a cache, the prompt's prefill left out, and without one."""
    prompt = torch.randint(VOCAB, (batch, PROMPT), generator=torch.Generator().manual_seed(0))
    given = prompt.tolist()
    cached, again = [], []
    for _ in range(rounds + 1):
        whole = milliseconds(lambda: generate(model, given, max_new_tokens=NEW + 1))
        first = milliseconds(lambda: generate(model, given, max_new_tokens=1))
        cached.append((whole - first) / NEW)
        again.append(milliseconds(lambda: run_again(model, prompt)) / RERUNS)
    return 1e3 * batch / statistics.median(cached[1:]), 1e3 * batch / statistics.median(again[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d-model", type=int, default=256)
    parser.add_argument("--contexts", type=int, nargs="+", default=[64, 256, 1024, 4096], help="tokens seen, ascending")
    parser.add_argument("--patterns", nargs="+", default=["LL", "GG", "SS", "GGGA", "AA"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="prompts at once")
    parser.add_argument("--rounds", type=int, default=5, help="of the comparison with running again")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    keep_freed_memory()
    set_threads(args.threads)
    models = {pattern: make_model(pattern, args.d_model) for pattern in args.patterns}
    with torch.no_grad():
        print(f"ms of a step after n tokens, d_model {args.d_model}, batch 1")
        print("pattern  " + "".join(f"{f'n={n}':>10}" for n in args.contexts) + "   slope of time  of operations")
        for pattern, model in models.items():
            times, flops = time_steps(model.backbone, args.contexts)
            slopes = f"{slope(times, args.contexts):16.3f}{slope([float(f) for f in flops], args.contexts):15.3f}"
            print(f"{pattern:9}" + "".join(f"{t:10.3f}" for t in times) + slopes, flush=True)
        print(f"\ntokens/s from {PROMPT} tokens on, d_model {args.d_model}")
        print("pattern  batch      cached   run again   ratio")
        for pattern, model in models.items():
            for batch in args.batches:
                cached, again = compare_with_rerun(model, batch, args.rounds)
                print(f"{pattern:9}{batch:5}{cached:12.1f}{again:12.1f}{cached / again:8.1f}", flush=True)


if __name__ == "__main__":
    main()
