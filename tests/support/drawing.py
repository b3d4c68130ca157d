"""Examples of a task, as many as a test asks for."""

import torch

from hybrids.task import Batch, Split, Task


def draw_examples(cls: type[Task], count: int = 64, split: Split = Split.TRAIN, first: int = 0, **kwargs) -> Batch:
    return cls(**kwargs).sample(torch.arange(first, first + count), seed=0, split=split)
