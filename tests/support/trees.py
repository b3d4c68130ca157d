"""Modes of IsTree, its episodes, and what their tokens spell."""

import torch

from hybrids.task import Split
from hybrids_plugins.tasks.is_tree import IsTree

MODES = [
    {"mode": "vanilla"},
    {"mode": "vanilla", "idle": "longest"},
    {"mode": "vanilla", "idle": "example"},
    {"mode": "cot"},
    {"mode": "cot", "stop_early": False},
    {"mode": "cot", "idle": "longest"},
    {"mode": "cot", "idle": "example", "stop_early": False},
    {"mode": "retrieval"},
    {"mode": "retrieval", "root_record": True},
]


def name_of(mode):
    return " ".join(f"{key}={value}" for key, value in mode.items())


def episodes(count=20, seed=0, **kwargs):
    task = IsTree(**kwargs)
    return task, task.episodes(torch.arange(count), seed=seed, split=Split.TRAIN)


def spelled(task, tokens):
    return [task.spell(token) for token in tokens]
