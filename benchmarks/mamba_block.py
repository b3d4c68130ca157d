"""One Mamba block, forward and backward, against mambapy and transformers' path without kernels.

    MAMBAPY=mamba.py python benchmarks/mamba_block.py [--threads 1] [--rounds 15] [--slow-rounds 1]

d_model 128, d_state 16, batch 8, 256 tokens, float32, on the CPU; gradients of the input and of every parameter.
MAMBAPY names a checkout of github.com/alxndrTL/mamba.py; without one that side is left out. All sides run in one
process with the same weights' shapes, threads and memory settings, in turns, so that a busy machine slows all.
Times are medians over the rounds, a ratio is the median of the ratios within a round; transformers, a hundred times
as long, is in the first `--slow-rounds` only. With one thread CPU time is taken, which others on the machine
disturb least; with more, the time on the clock, which means nothing unless the cores are free.
`held` is what the forward pass keeps for the backward pass, parameters and input included.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers.models.mamba.configuration_mamba import MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

from hybrids.training.process import keep_freed_memory, set_threads
from hybrids_plugins.mixers.mamba import Mamba

BATCH, TIME, WIDTH, STATES = 8, 256, 128, 16

Side = tuple[nn.Module, Callable[[Tensor], Tensor]]


def our_side(backend: str) -> Side:
    block = Mamba(WIDTH, d_state=STATES)
    block.choose_backends(backend, device="cpu", dtype=torch.float32)
    return block, lambda x: block(x)[0]


def mambapy_side(folder: str) -> Side:
    sys.path.append(folder)
    from mambapy.mamba import MambaBlock, MambaConfig  # pyright: ignore[reportMissingImports]

    block = MambaBlock(MambaConfig(d_model=WIDTH, n_layers=1, d_state=STATES))
    return block, block


def transformers_side() -> Side:
    config = MambaConfig(hidden_size=WIDTH, state_size=STATES, num_hidden_layers=1, use_mambapy=False)
    block = MambaMixer(config, layer_idx=0)
    return block, block


def make_sides() -> dict[str, Side]:
    """By name; "ours" first, the slow one last."""
    torch.manual_seed(0)
    sides = {"ours": our_side("auto"), "ours, torch": our_side("torch")}
    if "MAMBAPY" in os.environ:
        sides["mambapy"] = mambapy_side(os.environ["MAMBAPY"])
    return sides | {"transformers": transformers_side()}


def milliseconds(side: Side, x: Tensor, seed: Tensor, clock: Callable[[], float]) -> float:
    module, forward = side
    start = clock()
    torch.autograd.grad(forward(x), [x, *module.parameters()], seed)
    return 1e3 * (clock() - start)


def held_megabytes(side: Side, x: Tensor) -> float:
    """Storage of all tensors that autograd saves."""
    storages: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        output = side[1](x)
    assert output.requires_grad
    return sum(storages.values()) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--slow-rounds", type=int, default=1)
    args = parser.parse_args()
    keep_freed_memory()
    clock = time.process_time if set_threads(args.threads) == 1 else time.perf_counter
    sides, x = make_sides(), torch.randn(BATCH, TIME, WIDTH, requires_grad=True)
    taken: dict[str, list[float]] = {name: [] for name in sides}
    seed = torch.randn(BATCH, TIME, WIDTH)
    for i in range(-2, args.rounds):  # two rounds to warm up
        for name, side in sides.items():
            if name != "transformers" or 0 <= i < args.slow_rounds:
                taken[name].append(milliseconds(side, x, seed, clock))
    print(f"{'':14s} {'ms':>9s} {'times ours':>11s} {'held MB':>9s}")
    for name, column in taken.items():
        column = column if name == "transformers" else column[2:]
        ratios = [a / b for a, b in zip(column, taken["ours"][2:], strict=False)]
        if column:
            held = held_megabytes(sides[name], x)
            print(f"{name:14s} {statistics.median(column):9.1f} {statistics.median(ratios):11.2f} {held:9.1f}")


if __name__ == "__main__":
    main()
