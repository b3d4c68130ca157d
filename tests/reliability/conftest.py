"""A process to fork commands from, and what a run ends with that nothing has disturbed."""

import pytest
from forked_commands import Forks
from steady_run import RUN, end_of


@pytest.fixture(scope="session")
def forks():
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def unbroken(forks, tmp_path_factory):
    """How the run ends in one go, and the numbers of the changes of files that are worth a hit."""
    place = tmp_path_factory.mktemp("unbroken")
    ended = forks.run(place, *RUN)
    assert ended.code == 0, ended.err
    return end_of(place), _telling(ended.changes)


@pytest.fixture(scope="session")
def finished(forks, tmp_path_factory):
    """Folder in which the run has finished."""
    place = tmp_path_factory.mktemp("finished")
    ended = forks.run(place, *RUN)
    assert ended.code == 0, ended.err
    return place


def _telling(changes):
    """Every change, but of the rows written to one file in a go only the first and the last."""
    is_write = [change.startswith("write ") for change in changes] + [False]
    return [i for i in range(len(changes)) if not (is_write[i - 1] and is_write[i] and is_write[i + 1])]


@pytest.fixture
def count(record_property):
    """Tell the table in docs/reliability.md how many cases a test has tried."""
    return lambda cases: record_property("cases", cases)
