"""Every mixer against attention by sequence length: time, memory, and where the two cross.

    python benchmarks/mixer_lengths.py [--threads 1] [--lengths 64 ... 8192] [--rounds 3] [--out docs/mixer_lengths]

Width 128, every mixer at its defaults, float32, on the CPU; forward and backward with the gradients of the input and of
every parameter. A call has 8192 tokens, cut into 8192 / T sequences of T tokens, so that short sequences do not measure
the start of operations; what is reported is a call's time divided by its sequences. All mixers take turns in one
process; times are medians over the rounds, the ratio to attention is the median of the ratios within a round. With one
thread CPU time is taken, which others on the machine disturb least; with more, the time on the clock.
Memory, of one sequence: `held` is what the forward pass keeps for the backward pass, inputs and parameters left out;
`peak` is the most that forward and backward had allocated at once, gradients included, as PyTorch's allocator reports.
A recurrent mixer is one whose state does not grow. `block_sparse_attention` computes sequences with masks of T^2
elements and is measured up to T=2048 only.
Written: OUT.csv, and OUT.png with a panel for every mixer.
"""

import argparse
import csv
import math
import os
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read when torch is imported; profiles announce themselves otherwise
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch.profiler import ProfilerActivity, profile

from hybrids.model.measure import held_bytes
from hybrids.registry import get, names
from hybrids.training.process import keep_freed_memory, set_threads

D_MODEL, TOKENS = 128, 8192
LONGEST = {"block_sparse_attention": 2048}
AIM, AIM_LENGTH = 3.0, 1024
"""Of every recurrent mixer: at most so many times the time of attention at this length."""

Clock = Callable[[], float]


class Row(NamedTuple):
    """One mixer at one length; milliseconds and bytes of one sequence."""

    mixer: str
    is_recurrent: bool
    length: int
    milliseconds: float
    ratio: float
    """Time over that of attention."""
    held_bytes: int
    peak_bytes: int


def build_mixers(chosen: Iterable[str]) -> dict[str, Any]:
    torch.manual_seed(0)
    return {name: get("mixer", name).cls(D_MODEL) for name in chosen}


def run(mixer: Any, x: torch.Tensor) -> None:
    """Forward and backward."""
    y = mixer(x)[0]
    torch.autograd.grad(y, [x, *mixer.parameters()], torch.ones_like(y))


def time_round(mixers: dict[str, Any], x: torch.Tensor, clock: Clock) -> dict[str, float]:
    """Milliseconds of one sequence, every mixer once."""
    taken = {}
    for name, mixer in mixers.items():
        start = clock()
        run(mixer, x)
        taken[name] = 1e3 * (clock() - start) / len(x)
    return taken


def peak_bytes(mixer: Any, x: torch.Tensor) -> int:
    """The most bytes allocated at once by forward and backward, what was there before not counted."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run(mixer, x)
    now = peak = 0
    assert recorded.profiler is not None and recorded.profiler.kineto_results is not None
    events: list[Any] = recorded.profiler.kineto_results.events()
    for event in events:
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


def measure(mixers: dict[str, Any], length: int, rounds: int, clock: Clock) -> list[Row]:
    """All mixers at one length."""
    mixers = {name: mixer for name, mixer in mixers.items() if length <= LONGEST.get(name, length)}
    x = torch.randn(max(1, TOKENS // length), length, D_MODEL, requires_grad=True)
    taken = [time_round(mixers, x, clock) for _ in range(rounds + 1)][1:]
    one = x[:1].detach().requires_grad_()
    return [
        Row(
            name,
            mixer.state_elements(2 * length) == mixer.state_elements(length),
            length,
            statistics.median(each[name] for each in taken),
            statistics.median(each[name] / each["attention"] for each in taken),
            held_bytes(lambda mixer=mixer: mixer(one), [one, *mixer.parameters()]),
            peak_bytes(mixer, one),
        )
        for name, mixer in mixers.items()
    ]


def print_rows(rows: list[Row]) -> None:
    for row in rows:
        per_token = f"{1e3 * row.milliseconds / row.length:13.2f}{row.ratio:9.2f}"
        memory = "".join(f"{size / row.length / 1024:13.1f}" for size in (row.held_bytes, row.peak_bytes))
        print(f"{row.mixer:24}{row.length:6}{row.milliseconds:11.2f}{per_token}{memory}", flush=True)


def crossing(rows: list[Row]) -> float | None:
    """Length from which on a mixer (its rows, ascending) is faster than attention, on straight lines in the logs.

    None where it is not faster at the longest length; 0 where it is faster at all.
    """
    slower = [i for i, row in enumerate(rows) if row.ratio > 1]
    if not slower:
        return 0
    last = slower[-1]
    if last == len(rows) - 1:
        return None
    (x0, y0), (x1, y1) = ((math.log(row.length), math.log(row.ratio)) for row in rows[last : last + 2])
    return math.exp(x0 + (x1 - x0) * y0 / (y0 - y1))


def describe_crossing(rows: list[Row]) -> str:
    at = crossing(rows)
    if at is None:
        return f"slower up to T={rows[-1].length}"
    return f"faster from T={round(at)}" if at else f"faster from T={rows[0].length} or less"


def by_mixer(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows of every mixer, ascending in length."""
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.mixer, row.length)):
        groups.setdefault(row.mixer, []).append(row)
    return groups


def slope(rows: list[Row]) -> float:
    """Of log time against log length over the last two doublings: 1 is linear, 2 quadratic."""
    first, last = rows[max(0, len(rows) - 3)], rows[-1]
    if first is last:
        return math.nan
    return math.log(last.milliseconds / first.milliseconds) / math.log(last.length / first.length)


def print_summary(rows: list[Row]) -> None:
    print("\nmixer                    slope at the end   against attention")
    for name, group in by_mixer(rows).items():
        print(f"{name:24}{slope(group):17.2f}   {'' if name == 'attention' else describe_crossing(group)}")
    aimed = [row for row in rows if row.length == AIM_LENGTH and row.is_recurrent]
    if not aimed:
        return
    worst = max(aimed, key=lambda row: row.ratio)
    verdict = "pass" if worst.ratio <= AIM else "FAIL"
    print(
        f"\n{verdict}: each recurrent mixer at most {AIM:g}x attention of the same width per token at T={AIM_LENGTH}; "
        f"the slowest of {len(aimed)}, {worst.mixer}, takes {worst.ratio:.2f}x"
    )


def write_csv(rows: list[Row], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["mixer", "recurrent", "T", "ms_per_sequence", "ratio_to_attention", "held_bytes", "peak_bytes"])
        for group in by_mixer(rows).values():
            table.writerows((*row[:3], f"{row.milliseconds:.4g}", f"{row.ratio:.4g}", *row[5:]) for row in group)


def draw(rows: list[Row], path: Path) -> None:
    """A panel for every mixer, attention in each of them."""
    groups = by_mixer(rows)
    attention = groups.pop("attention")
    columns = min(5, len(groups))
    lines = -(-len(groups) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.4 * lines + 0.6), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(groups) :]:
        axes.axis("off")
    for axes, (name, group) in zip(panels.flat, groups.items(), strict=False):
        draw_panel(axes, name, group, attention)
    figure.supxlabel("tokens of a sequence, T")
    figure.supylabel("ms per sequence, forward and backward")
    figure.suptitle(f"grey: attention; width {D_MODEL}, float32, CPU; circle: where they cross", fontsize=10)
    figure.savefig(path, dpi=130)


def draw_panel(axes: Axes, name: str, group: list[Row], attention: list[Row]) -> None:
    colour = "tab:blue" if group[0].is_recurrent else "tab:orange"
    axes.loglog(*curve(attention), color="0.6", marker=".", markersize=4)
    axes.loglog(*curve(group), color=colour, marker=".", markersize=5)
    at = crossing(group)
    if at:
        lengths, times = np.log(curve(attention))
        axes.plot(at, np.exp(np.interp(np.log(at), lengths, times)), "o", markersize=9, mfc="none", mec="black")
    axes.set_title(name, fontsize=9, color=colour)
    axes.text(0.04, 0.93, describe_crossing(group), transform=axes.transAxes, va="top", fontsize=7)
    axes.grid(alpha=0.3)


def curve(group: list[Row]) -> tuple[list[int], list[float]]:
    return [row.length for row in group], [row.milliseconds for row in group]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--lengths", type=int, nargs="+", default=[2**i for i in range(6, 14)], help="T")
    parser.add_argument("--mixers", nargs="+", default=names("mixer"), help="beside attention; default: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default="docs/mixer_lengths", help="path of the table and the figure, without ending")
    args = parser.parse_args()
    keep_freed_memory()
    clock = time.process_time if set_threads(args.threads) == 1 else time.perf_counter
    mixers = build_mixers(dict.fromkeys(["attention", *args.mixers]))
    print("mixer                        T  ms/sequence     us/token  / attn.  held KiB/tok  peak KiB/tok")
    rows: list[Row] = []
    for length in sorted(args.lengths):
        rows += (new := measure(mixers, length, args.rounds, clock))
        print_rows(new)
    print_summary(rows)
    write_csv(rows, Path(f"{args.out}.csv"))
    draw(rows, Path(f"{args.out}.png"))


if __name__ == "__main__":
    main()
