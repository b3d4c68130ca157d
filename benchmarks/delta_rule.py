"""The gated delta rule, forward and backward, against transformers' chunked PyTorch function.

    python benchmarks/delta_rule.py [--threads 2] [--times 64 256 1024 4096] [--chunk-size 32]

Batch 8, 2 heads of width 64, float32, on the CPU. Both sides run in one process with the same threads and the
same memory settings, in turns, so that a busy machine slows both. Times are medians over the rounds, the ratio
is the median of the ratios within a round. With one thread CPU time is taken, which others on the machine
disturb least; with more, the time on the clock, which means nothing unless the cores are free.
`held` is what the forward pass keeps for the backward pass, the inputs included.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule

from hybrids.model.measure import held_bytes
from hybrids.ops.delta_rule import delta_rule
from hybrids.training.process import keep_freed_memory, set_threads

BATCH, HEADS, WIDTH = 8, 2, 64
ROUND_TOKENS = 40_000
"""Tokens of one sequence over all rounds of a size: long sequences need fewer rounds."""

Forward = Callable[[list[Tensor]], Tensor]


def make_inputs(length: int) -> list[Tensor]:
    """q, k, v, beta, log_decay."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(BATCH, length, HEADS, WIDTH) for _ in range(3))
    beta, log_decay = torch.rand(BATCH, length, HEADS), -0.1 * torch.rand(BATCH, length, HEADS)
    return [x.requires_grad_() for x in (q, F.normalize(k, dim=-1), v, beta, log_decay)]


def theirs(inputs: list[Tensor]) -> Tensor:
    q, k, v, beta, log_decay = inputs
    return torch_chunk_gated_delta_rule(q, k, v, g=log_decay, beta=beta)[0]


def milliseconds(forward: Forward, inputs: list[Tensor], seed: Tensor, clock: Callable[[], float]) -> float:
    start = clock()
    torch.autograd.grad(forward(inputs), inputs, seed)
    return 1e3 * (clock() - start)


def compare(sides: dict[str, Forward], length: int, clock: Callable[[], float]) -> str:
    """One row of the table."""
    inputs = make_inputs(length)
    seed = torch.randn_like(inputs[2])
    rounds = max(5, min(60, ROUND_TOKENS // length))
    taken = [[milliseconds(forward, inputs, seed, clock) for forward in sides.values()] for _ in range(rounds + 2)][2:]
    ours, other = (statistics.median(column) for column in zip(*taken, strict=True))
    ratio = statistics.median(b / a for a, b in taken)
    held = [held_bytes(lambda forward=forward: forward(inputs)) / 2**20 for forward in sides.values()]
    return f"{length:6d} {ours:9.2f} {other:13.2f} {ratio:6.2f} {held[0]:9.1f} {held[1]:13.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--times", type=int, nargs="+", default=[64, 256, 1024, 4096], help="sequence lengths")
    parser.add_argument("--chunk-size", type=int, default=32)
    args = parser.parse_args()
    keep_freed_memory()
    clock = time.process_time if set_threads(args.threads) == 1 else time.perf_counter
    sides = {"ours": lambda x: delta_rule(*x, chunk_size=args.chunk_size)[0], "transformers": theirs}
    print("     T   ours ms  transformers ms  ratio  held MB  transformers MB")
    for length in args.times:
        print(compare(sides, length, clock), flush=True)


if __name__ == "__main__":
    main()
