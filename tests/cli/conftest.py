"""Runs that commands are tried on."""

import pytest

from hybrids.training.train import train

BASE = (
    *("pattern=L", "model.d_model=16", "optim.lr=0.02"),
    *("task.vocab_size=12", "task.length=16", "task.num_pairs=2", "task.distinct_values=false"),
    *("data.num_val_examples=64", "data.num_test_examples=64", "data.num_recall_examples=128"),
    *("logger=csv", "trainer.target=null", "trainer.progress_bar=false"),
)
"""A task that one layer learns in 150 steps."""


@pytest.fixture(scope="module")
def train_runs(make_run_in, tmp_path_factory):
    """Train such runs, each with changes of its own and in a folder of its own name; the folder that holds them."""

    def make(**runs):
        folder = tmp_path_factory.mktemp("trained")
        for name, changes in runs.items():
            run = make_run_in(folder, *changes, base=BASE)
            train(run)
            run.folder.path.rename(folder / name)
        return folder

    return make
