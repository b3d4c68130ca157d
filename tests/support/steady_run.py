"""A run of a second, and what it ends with however often it was interrupted."""

import json
from pathlib import Path
from typing import NamedTuple

from hybrids.training.metrics import read_metrics

RUN = (
    *("train", "pattern=LA", "model.d_model=16", "task.vocab_size=64", "task.length=16", "task.num_pairs=2"),
    *("data.batch_size=12", "data.eval_batch_size=12", "data.num_val_examples=24", "data.num_test_examples=24"),
    *("data.num_recall_examples=24", "trainer.max_steps=6", "trainer.val_every=2", "trainer.log_every=2"),
    *("trainer.target=null", "trainer.progress_bar=false", "logger=csv"),
)
"""A run of a second with three checkpoints, of which two are kept."""
TIMES = ("seconds", "code", "hardware", "digest")
"""What differs from one time to the next."""


class End(NamedTuple):
    """What a finished run leaves: the files in its folder, its result without times, its metrics."""

    files: list[str]
    result: dict
    metrics: dict


def end_of(place):
    """What the only run in a folder has left."""
    (folder,) = (path.parent for path in Path(place, "runs").glob("*/result.json"))
    result = json.loads((folder / "result.json").read_text())
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    steady = {name: value for name, value in result.items() if name not in TIMES}
    return End(files, steady, read_metrics(folder / "metrics.csv"))
