"""The Mamba-2 block, forward and backward, against transformers' PyTorch path with the same weights.

    python benchmarks/mamba2_block.py [--threads 1] [--times 256 1024] [--states 64 128] [--head-dim 32]

d_model 128, batch 8, float32, on the CPU. Both sides run in one process with the same threads and the same memory
settings, in turns, so that a busy machine slows both. Times are medians over the rounds, the ratio is the median of
the ratios within a round. With one thread CPU time is taken, which others on the machine disturb least; with more,
the time on the clock, which means nothing unless the cores are free. transformers runs at chunks of 64 and of 256
steps, its default; the ratio is to the faster one of a round. `off by` is the largest difference of the outputs.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.models.mamba2.configuration_mamba2 import Mamba2Config
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from hybrids.registry import get
from hybrids.training.process import keep_freed_memory, set_threads

BATCH, D_MODEL = 8, 128
TARGET_RATIO = 1.3

Clock = Callable[[], float]


def build_sides(d_state: int, head_dim: int) -> dict[str, Any]:
    """Ours, and theirs by chunk size, with the same weights."""
    torch.manual_seed(0)
    ours = get("mixer", "mamba2").cls(D_MODEL, d_state=d_state, head_dim=head_dim)
    return {"ours": ours} | {f"transformers {size}": build_theirs(ours, size) for size in (64, 256)}


def build_theirs(ours: Any, chunk_size: int) -> Any:
    config = Mamba2Config(
        hidden_size=D_MODEL,
        num_heads=ours.num_heads,
        head_dim=ours.head_dim,
        state_size=ours.d_state,
        n_groups=1,
        num_hidden_layers=1,
        chunk_size=chunk_size,
    )
    theirs = Mamba2Mixer(config, layer_idx=0)
    weights = {name: value for name, value in ours.state_dict().items() if not name.startswith("conv_")}
    weights |= {"conv1d.weight": ours.conv_weight.unsqueeze(1), "conv1d.bias": ours.conv_bias}
    theirs.load_state_dict(weights)
    return theirs


def output(side: Any, x: Tensor) -> Tensor:
    y = side(x)
    return y[0] if isinstance(y, tuple) else y


def milliseconds(side: Any, x: Tensor, seed: Tensor, clock: Clock) -> float:
    """Forward and backward, gradients of the input and of every parameter."""
    start = clock()
    torch.autograd.grad(output(side, x), [x, *side.parameters()], seed)
    return 1e3 * (clock() - start)


def compare(sides: dict[str, Any], length: int, rounds: int, clock: Clock) -> str:
    """Milliseconds of each side, the ratio, and how far the outputs are apart."""
    x = torch.randn(BATCH, length, D_MODEL, requires_grad=True)
    seed = torch.randn(BATCH, length, D_MODEL)
    with torch.no_grad():
        ours, *others = (output(side, x) for side in sides.values())
    apart = max((ours - other).abs().max().item() for other in others)
    taken = [[milliseconds(side, x, seed, clock) for side in sides.values()] for _ in range(rounds + 2)][2:]
    medians = [statistics.median(column) for column in zip(*taken, strict=True)]
    ratio = statistics.median(min(theirs) / ours for ours, *theirs in taken)
    return "".join(f"{value:18.2f}" for value in medians) + f"{ratio:8.2f} (target {TARGET_RATIO}){apart:10.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--times", type=int, nargs="+", default=[256, 1024], help="sequence lengths")
    parser.add_argument("--states", type=int, nargs="+", default=[64, 128], help="state widths")
    parser.add_argument("--head-dim", type=int, default=64, help="64 as in the authors' code")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    keep_freed_memory()
    clock = time.process_time if set_threads(args.threads) == 1 else time.perf_counter
    print("d_state     T        ours ms  transformers 64  transformers 256     ratio               off by")
    for d_state in args.states:
        sides = build_sides(d_state, args.head_dim)
        for length in args.times:
            print(f"{d_state:7d}{length:6d}{compare(sides, length, args.rounds, clock)}", flush=True)


if __name__ == "__main__":
    main()
