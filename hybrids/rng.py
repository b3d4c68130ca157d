"""Stateless random numbers: functions of (seed, stream, index, purpose, position), alike on every device.

Algorithm. SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014), whose
n-th output from the state s is mix(s + n*G), n from 1, so that any output is reached directly:

    row(index)           = mix(digest("seed/stream") + (index + 1) * G)
    output(purpose, n)   = mix(row + digest(purpose) + n * G)

`digest` is 64 bits of BLAKE2b, computed on the host. Two rows share a part of their outputs when their states
fall into each other's range, which for N rows of n outputs happens with probability below N*N*n / 2**64.

Only integer operations that wrap at 64 bits are used, and two exact ones on float64 (conversion of integers
below 2**53, and one correctly rounded division), none of which depends on the device.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybrids.errors import check_number

GOLDEN = 0x9E3779B97F4A7C15 - 2**64
MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
MIX_2 = 0x94D049BB133111EB - 2**64
LOW_32 = 2**32 - 1

MAX_HIGH = 2**24
"""Largest range of `integers` and `distinct`; above it the bias of `integers` would be worth measuring."""

MAX_FAILURE = 2.0**-64
"""Largest probability that the draws made for `distinct` hold too few different values."""

TABLE_SHARE = 64
"""Repeats are found with a table of the range if it is at most this many times the draws; else by sorting them."""

CELL_BITS, REST_BITS, SCALE_BITS = 10, 22, 44
"""Logarithm table, as powers of two: cells per octave, steps inside a cell, result units per octave."""


@dataclass(frozen=True, eq=False)
class Draws:
    """Random numbers of a batch of examples, one row each; rows, purposes, streams and seeds are independent.

    Row b of every result depends on (seed, stream, index[b], purpose) alone, never on the other rows. The
    purpose is any text that says what the numbers are for; asking twice under one purpose gives the same
    numbers. No method waits for the device or has a shape that depends on data. Cost: about 13 operations for
    each two words, on tensors of half their number.

        draws = Draws.of(index, seed=0, stream=split)
        keys = draws.distinct("keys", 8, 4095)
    """

    rows: Int[Tensor, " B"]
    """State of each row."""

    @classmethod
    def of(cls, index: Int[Tensor, " B"], *, seed: int, stream: int) -> "Draws":
        """Rows `index` of a stream (a split, for example); any integers."""
        steps = (index.to(torch.int64) + 1) * GOLDEN
        return cls(_mix(steps.add_(digest(f"{int(seed)}/{int(stream)}"))))

    def bits(self, purpose: str, num: int) -> Int[Tensor, "B num"]:
        """Uniform 32-bit words. The first words do not depend on `num`."""
        outputs = splitmix64(self.rows + digest(purpose), (num + 1) // 2)
        return outputs.view(torch.int32)[:, :num].to(torch.int64).bitwise_and_(LOW_32)

    def integers(self, purpose: str, num: int, high: int) -> Int[Tensor, "B num"]:
        """Uniform in [0, high), high <= 2**24: bits*high >> 32, each probability off by less than 2**-32."""
        check_number("high", high, 1, MAX_HIGH)
        return self.bits(purpose, num).mul_(high).bitwise_right_shift_(32)

    def uniform(self, purpose: str, num: int) -> Float[Tensor, "B num"]:
        """Multiples of 2**-24, uniform in [0, 1), as float32."""
        return self.bits(purpose, num).bitwise_right_shift_(8).to(torch.float32).mul_(2.0**-24)

    def distinct(self, purpose: str, num: int, high: int) -> Int[Tensor, "B num"]:
        """`num` different integers of [0, high) in uniformly random order; `num = high` is a permutation.

        The first `num` different values among enough draws with replacement. Renaming the integers renames
        the result, so it is exactly uniform when the draws are; they are off as `integers` is. The draws do
        not suffice with probability below 2**-64, and then the row is 0, 1, 2, ...: never a duplicate. Where
        that would take more than high/2 draws, the range is sorted by (64 - log2 high) random bits instead,
        and two integers are ordered by size where these agree. Another `num` may give other integers.
        """
        check_number("high", high, 1, MAX_HIGH)
        check_number("num", num, 0, high)
        count = _draws_needed(num, high)
        if 2 * count > high:
            return _smallest(splitmix64(self.rows + digest(purpose), high), num)
        return first_distinct(self.integers(purpose, count, high), num, high)

    def weighted_distinct(self, purpose: str, num: int, weights: Float[Tensor, "*B S"]) -> Int[Tensor, "B num"]:
        """`num` different positions of `weights`, drawn one after another in proportion to what is left.

        The law of NumPy's `choice(S, num, replace=False, p=...)`: an exponential race (Efraimidis and
        Spirakis, 2006), in which position i arrives at Exp(1) / weights[i] and the first `num` win. Weights
        are not negative and need not sum to 1; positions of weight 0 come last. Build weights on the host: a
        device's own `pow` would not be reproducible. The distribution function of Exp(1) is off by less than
        2e-7, so the probability of any result is off by less than 4e-7 times S. The first winners do not
        depend on `num`.
        """
        size = weights.shape[-1]
        check_number("num", num, 0, size)
        arrival = exponentials(self.bits(purpose, size)).to(torch.float64) / weights
        return _smallest(arrival.view(torch.int64), num)


def splitmix64(state: Int[Tensor, " B"], num: int) -> Int[Tensor, "B num"]:
    """The first `num` outputs of SplitMix64 from each state, as signed 64-bit integers."""
    steps = torch.arange(1, num + 1, device=state.device).mul_(GOLDEN)
    outputs = torch.empty(len(state), num, dtype=torch.int64, device=state.device)
    return _mix(torch.add(state[:, None], steps, out=outputs))


@lru_cache(maxsize=4096)
def digest(text: str) -> int:
    """64 bits of BLAKE2b of a text, as a signed integer."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def first_distinct(draws: Int[Tensor, "B K"], num: int, high: int) -> Int[Tensor, "B num"]:
    """The first `num` different values of each row of draws from [0, high), or 0, 1, ... in a row with too few."""
    count = draws.shape[1]
    if num <= 1:
        return draws[:, :num]
    is_new = _first_by_table(draws, high) if high <= TABLE_SHARE * count else _first_by_sort(draws)
    rank = is_new.cumsum(1)
    found = draws.new_empty(len(draws), count + 1).scatter_(1, rank * is_new, draws)  # repeats go to column 0
    return torch.where(rank[:, -1:] >= num, found[:, 1 : num + 1], torch.arange(num, device=draws.device))


def _first_by_table(draws: Int[Tensor, "B K"], high: int) -> Int[Tensor, "B K"]:
    """1 where a value occurs for the first time in its row; memory for all values of all rows."""
    numbers = torch.arange(draws.shape[1], dtype=torch.int32, device=draws.device).expand_as(draws)
    first = torch.empty(len(draws), high, dtype=torch.int32, device=draws.device)
    first.scatter_(1, draws, draws.shape[1])  # only what is read: filling the whole table would cost more
    first.scatter_reduce_(1, draws, numbers, "amin")
    return (first.gather(1, draws) == numbers).to(torch.int64)


def _first_by_sort(draws: Int[Tensor, "B K"]) -> Int[Tensor, "B K"]:
    """1 where a value occurs for the first time in its row; memory for the draws."""
    bits = draws.shape[1].bit_length()
    ordered = ((draws << bits) | torch.arange(draws.shape[1], device=draws.device)).sort(dim=1).values
    value, number = ordered >> bits, ordered & ((1 << bits) - 1)
    differs = (value[:, 1:] != value[:, :-1]).to(torch.int64)
    return torch.ones_like(draws).scatter_(1, number[:, 1:], differs)


def exponentials(words: Int[Tensor, "B N"]) -> Int[Tensor, "B N"]:
    """-log2((w + 1/2) / 2**32) as a positive integer, in units of 2**-44, from 32-bit words w.

    The table is exact at 1024 points of each octave; linear interpolation adds at most 1.8e-7.
    """
    table = _log2_table(words.device)
    # The bits of a float64, exponent then mantissa, are the cell and the rest inside it.
    pattern = (words * 2 + 1).to(torch.float64).view(torch.int64)
    cell = ((pattern >> (52 - CELL_BITS)) - (1023 << CELL_BITS)).flatten()
    rest = (pattern >> (52 - CELL_BITS - REST_BITS)) & ((1 << REST_BITS) - 1)
    # index_select, because plain indexing splits even this little work over threads.
    start, end = (table.index_select(0, border).view_as(words) for border in (cell, cell + 1))
    return start + (((end - start) * rest) >> REST_BITS)


def _mix(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """Finaliser of SplitMix64, in place; int64 shifts keep the sign, so it is masked off."""
    shifted = torch.empty_like(x)
    for shift, factor in ((30, MIX_1), (27, MIX_2), (31, None)):
        torch.bitwise_right_shift(x, shift, out=shifted)
        x.bitwise_xor_(shifted.bitwise_and_((1 << (64 - shift)) - 1))
        if factor is not None:
            x.mul_(factor)
    return x


def _smallest(order: Int[Tensor, "B N"], num: int) -> Int[Tensor, "B num"]:
    """Columns of the `num` smallest entries, ascending; ties, in the bits above the column, go by column."""
    size = order.shape[1]
    mask = (1 << (size - 1).bit_length()) - 1
    packed = (order & ~mask) | torch.arange(size, device=order.device)
    return packed.topk(num, dim=1, largest=False).values.bitwise_and_(mask)


@lru_cache(maxsize=4096)
def _draws_needed(num: int, high: int) -> int:
    """Draws from [0, high) that hold `num` different values save with probability MAX_FAILURE.

    Until `num` values are found each draw is new with probability above p = 1 - (num - 1)/high, so the
    failure is at most P(Binomial(count, p) < num), which Chernoff's inequality bounds.
    """
    p, wanted, count = 1 - (num - 1) / high, num - 1, num
    if wanted < 1:
        return num
    while True:
        share = wanted / count
        divergence = share * math.log(share / p) + (1 - share) * math.log((1 - share) / (1 - p))
        if share < p and count * divergence > -math.log(MAX_FAILURE):
            return count
        count += 1 + count // 64


@lru_cache(maxsize=16)
def _log2_table(device: torch.device) -> Int[Tensor, " C"]:
    """33 - log2(x) in units of 2**-SCALE_BITS at the cell borders of [1, 2**33], by exact arithmetic."""
    mantissas = [_log2_of_mantissa(cell) for cell in range(1 << CELL_BITS)]
    octaves = [(33 - octave) << SCALE_BITS for octave in range(33)]
    return torch.tensor([octave - mantissa for octave in octaves for mantissa in mantissas] + [0], device=device)


def _log2_of_mantissa(cell: int) -> int:
    """log2(1 + cell / 2**CELL_BITS) in units of 2**-SCALE_BITS, rounded down: a binary digit per squaring."""
    precision, result = 96, 0
    x = (cell << (precision - CELL_BITS)) + (1 << precision)
    for _ in range(SCALE_BITS):
        x = x * x >> precision
        digit = x >> (precision + 1)
        x, result = x >> digit, 2 * result + digit
    return result
