"""What an interrupted run is compared with."""

import pytest

from hybrids.training.train import train


@pytest.fixture(scope="session")
def unbroken(make_run_in, tmp_path_factory):
    """A tiny run of two layers that nothing has interrupted."""
    run = make_run_in(tmp_path_factory.mktemp("unbroken"), "pattern=LA")
    train(run)
    return run
