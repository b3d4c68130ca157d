"""Many models in one call: the loss of a whole model under torch.func."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

from hybrids import registry
from hybrids.model.block import Choice, Letter
from hybrids.model.model import Model
from hybrids.pattern import Pattern
from hybrids.task import Split

MIXERS = ["gated_delta_net", "mamba", "gla", "short_conv"]


class Loss(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch):
        return self.model.answer(batch)[0]


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # softmax attention: one after the other
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_gradients_of_stacked_models_are_those_of_each(tie_embeddings: bool) -> None:
    """Of a pattern with an attention layer, kinds of recurrences, and a channel mixer."""
    task = registry.get("task", "mqar").cls(vocab_size=32, length=20, num_pairs=2)
    channel = Choice(registry.get("channel", "swiglu").cls, {})
    letters = {
        name: Letter(Choice(registry.get("mixer", mixer).cls, {}), channel)
        for name, mixer in zip("GMKS", MIXERS, strict=True)
    }
    letters["A"] = Letter(Choice(registry.get("mixer", "attention").cls, {}), None)
    models = []
    for seed in range(2):
        torch.manual_seed(seed)
        models.append(Loss(Model(32, 16, Pattern.parse("GMKSA"), letters, tie_embeddings=tie_embeddings)).double())
    batch = task.sample(torch.arange(3), seed=0, split=Split.TRAIN)
    params, buffers = stack_module_state(models)

    def loss(params, buffers):
        return functional_call(models[0], (params, buffers), (batch,))

    got = vmap(grad(loss))(params, buffers)
    for i, model in enumerate(models):
        model(batch).backward()
        for name, p in model.named_parameters():
            torch.testing.assert_close(got[name][i], p.grad, msg=name)
