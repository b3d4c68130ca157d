"""How likely each value of a random expression is, exactly; laws are probabilities of 0 ... p - 1 in float64."""

import itertools
from collections.abc import Callable, Iterator
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor


@lru_cache(maxsize=32)
def flat_laws(modulus: int, most_terms: int, *, num_operators: int, is_usual: bool) -> Float[Tensor, "N p"]:
    """Of 1 ... most_terms numbers."""
    laws = (_multiply_first if is_usual else _left_to_right)(modulus, 1 / 3 if num_operators == 3 else 0.0)
    return torch.stack(list(itertools.islice(laws, most_terms)))


def _left_to_right(modulus: int, share: float) -> Iterator[Float[Tensor, " p"]]:
    """A Markov chain of the value so far, with a `share` of multiplications: an addition makes it uniform."""
    uniform = torch.full((modulus,), 1 / modulus, dtype=torch.float64)
    times, law = _multiplication(modulus), uniform
    while True:
        yield law
        law = share * (law @ times) + (1 - share) * uniform


def _multiply_first(modulus: int, share: float) -> Iterator[Float[Tensor, " p"]]:
    """A Markov chain of the sum of the finished products and the product so far [sum, product].

    An addition finishes the product, and begins one with a uniform number.
    """
    uniform = torch.full((modulus,), 1 / modulus, dtype=torch.float64)
    times, joint = _multiplication(modulus), torch.zeros(modulus, modulus, dtype=torch.float64)
    joint[0] = uniform
    while True:
        law = _add(joint)
        yield law
        joint = share * (joint @ times) + (1 - share) * law[:, None] * uniform


@lru_cache(maxsize=32)
def bracketed_laws(modulus: int, most_tokens: int, *, num_operators: int) -> Float[Tensor, "N p"]:
    """Of expressions of 1 ... most_tokens tokens, from those of the shorter expressions that they are made of."""
    uniform = torch.full((modulus,), 1 / modulus, dtype=torch.float64)
    operations: list[Callable[[Tensor, Tensor], Tensor]] = [torch.add, torch.sub, torch.mul]
    numbers = torch.arange(modulus)
    results = [operation(numbers[:, None], numbers) % modulus for operation in operations[:num_operators]]
    laws = uniform.repeat(max(most_tokens, 4), 1)
    for length in range(5, most_tokens + 1):
        parts = laws[: length - 4]  # of 1 ... length - 4 tokens; the other part has length - 3 less
        joint = parts.T @ parts.flip(0) / len(parts)
        law = torch.zeros_like(uniform)
        for result in results:
            law.index_add_(0, result.flatten(), joint.flatten() / num_operators)
        laws[length - 1] = law
    return laws[:most_tokens]


def _multiplication(modulus: int) -> Float[Tensor, "p p"]:
    """Probabilities of x times a uniform number, by x."""
    numbers = torch.arange(modulus)
    products = numbers[:, None] * numbers % modulus
    return torch.zeros(modulus, modulus, dtype=torch.float64).scatter_add_(
        1, products, torch.full((modulus, modulus), 1 / modulus, dtype=torch.float64)
    )


def _add(joint: Float[Tensor, "p p"]) -> Float[Tensor, " p"]:
    """The law of a sum, from the joint one of its parts."""
    numbers = torch.arange(len(joint))
    sums = (numbers[:, None] + numbers) % len(joint)
    return torch.zeros(len(joint), dtype=torch.float64).index_add_(0, sums.flatten(), joint.flatten())
