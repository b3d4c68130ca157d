"""Token embedding, backbone, final norm and head; the head is applied only where an answer is read."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hybrids.errors import UserError, check_number
from hybrids.model.backbone import Backbone
from hybrids.model.block import Letter
from hybrids.ops.linear_cross_entropy import linear_cross_entropy
from hybrids.ops.rms_norm import RMSNorm
from hybrids.pattern import Pattern
from hybrids.task import Batch
from hybrids.types import Cache


class Model(nn.Module):
    """A language model over `vocab_size` tokens.

    With tied embeddings (the default) the head is the embedding matrix, drawn with standard deviation D^-0.5, and
    what enters the backbone is multiplied by D^0.5 (arXiv:1706.03762, section 3.4): tokens then enter the residual
    stream at the size of what the layers add to it, and first logits are about 1. With the usual 0.02 and no factor
    LLLA took over 1,000 steps on MQAR instead of 350. Nothing here re-initialises the parameters of a mixer.
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        pattern: Pattern,
        letters: Mapping[str, Letter],
        *,
        tie_embeddings: bool = True,
    ) -> None:
        super().__init__()
        check_number("model.d_model", d_model, 1)
        self.embedding = nn.Embedding(vocab_size, d_model)
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)
        self.backbone = Backbone(d_model, pattern, letters)
        self.norm = RMSNorm(d_model)
        self.head = nn.Linear(d_model, vocab_size, bias=False)
        nn.init.normal_(self.head.weight, std=d_model**-0.5)
        if tie_embeddings:
            self.head.weight = self.embedding.weight

    def forward(
        self, tokens: Int[Tensor, "B T"], cache: Cache | None = None, *, positions: Int[Tensor, "B P"] | None = None
    ) -> tuple[Float[Tensor, "B P V"], Cache]:
        """Logits of the next token at `positions` (default: at the last one), and the cache after all tokens."""
        if isinstance(tokens, Batch) or isinstance(cache, Batch):
            raise UserError(
                "a model reads tokens: model(batch.tokens, positions=batch.positions); model.answer(batch) gives the "
                "loss and which answers are right"
            )
        x, new_cache = self.backbone(self.embed(tokens), cache)
        x = x[:, -1:] if positions is None else gather_positions(x, positions)
        return self.head(self.norm(x)), new_cache

    def embed(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """What enters the backbone."""
        return self.embedding(tokens) * self.embedding.embedding_dim**0.5

    def answer(
        self, batch: Batch, backbone: Callable[..., Any] | None = None
    ) -> tuple[Float[Tensor, ""], Bool[Tensor, "B P"]]:
        """Mean cross-entropy (nats) over the valid answers of a batch, and which answers are right.

        `backbone` is another form of the model's own, such as the compiled one.
        """
        x, _ = (self.backbone if backbone is None else backbone)(self.embed(batch.tokens))
        x = self.norm(gather_positions(x, batch.positions))
        loss, correct = linear_cross_entropy(
            x.flatten(0, 1), self.head.weight, batch.targets.flatten(), batch.valid.flatten()
        )
        return loss, correct.view_as(batch.valid)


def gather_positions(x: Float[Tensor, "B T D"], positions: Int[Tensor, "B P"]) -> Float[Tensor, "B P D"]:
    """Vectors of `x` at `positions`."""
    rows = positions + torch.arange(len(x), device=x.device)[:, None] * x.shape[1]
    return x.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, positions.shape)
