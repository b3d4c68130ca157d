"""AdamW with decay where it belongs, and a learning rate that warms up and then follows a cosine, per step."""

import math

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from hybrids.training.settings import OptimSettings


def build_optimizer(model: nn.Module, settings: OptimSettings) -> AdamW:
    """Fused AdamW over the two groups of `param_groups`."""
    return AdamW(
        param_groups(model, settings.weight_decay),
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        fused=True,
    )


def param_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups: matrices, which decay, and all else, which does not.

    Spared are vectors and scalars (norms, biases, gates) and every parameter that a mixer marks `undecayed`
    (dt, A, gates): decay towards 0 would change what they mean.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in parameters if p.ndim >= 2 and not getattr(p, "no_weight_decay", False)]
    chosen = {id(p) for p in decayed}
    spared = [p for p in parameters if id(p) not in chosen]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]


def build_schedule(optimizer: AdamW, settings: OptimSettings, max_steps: int) -> LambdaLR:
    """Factor on the learning rate as a function of the step: linear warm-up, then cosine to `min_lr_ratio`."""

    def factor(step: int) -> float:
        if step < settings.warmup_steps:
            return (step + 1) / settings.warmup_steps
        if settings.schedule == "constant":
            return 1.0
        progress = min(1.0, (step - settings.warmup_steps) / max(1, max_steps - settings.warmup_steps))
        return settings.min_lr_ratio + (1 - settings.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)
