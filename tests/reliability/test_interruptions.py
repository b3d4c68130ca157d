"""A run that is killed, stopped or out of disk at any moment goes on to the end of an unbroken one.

The same numbers to the last bit, the same rows, two checkpoints, nothing half-written, no lock that stays.
"""

import pytest
from forked_commands import Hit
from steady_run import RUN, end_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SHARES = 4
"""Each test takes a share of the moments, so that several processes can work on one kind."""
PHASES = (
    ("hybrids.training.train:build_model", 0),
    ("hybrids.training.record:RunFolder.create", 0),
    ("hybrids.training.lit:LitModel.training_step", 0),
    ("hybrids.training.lit:LitModel.training_step", 3),
    ("hybrids.training.lit:LitModel.configure_gradient_clipping", 2),
    ("hybrids.training.lit:LitModel.validation_step", 1),
    ("hybrids.training.lit:LitModel.on_validation_epoch_end", 1),
    ("hybrids.training.saving:SaveCheckpoints.save", 1),
    ("hybrids.training.lit:LitModel.test_step", 1),
    ("hybrids.training.train:find_overlap", 0),
    ("hybrids.training.train:place_in_triangle", 0),
    ("hybrids.training.record:RunFolder.write_result", 0),
    ("hybrids.cli.runs:print_result", 0),
)


def what_differs(forks, place, unbroken):
    """How a run that is started again ends in another way than an unbroken one; None: it does not."""
    again = forks.run(place, *RUN)
    if again.code != 0:
        return again.err[-1000:]
    end = end_of(place)
    return differences(end, unbroken) or None


def differences(end, unbroken):
    """What of the files, the result and the metrics is another: the names alone."""
    changed = [name for name in {**end.result, **unbroken.result} if end.result.get(name) != unbroken.result.get(name)]
    steps = {
        name: (ours, theirs)
        for name in {**end.metrics, **unbroken.metrics}
        if (ours := end.metrics.get(name)) != (theirs := unbroken.metrics.get(name))
    }
    files = set(end.files) ^ set(unbroken.files)
    return [*sorted(files), *changed, *list(steps.items())[:3]]


def ends_after(forks, place, end, moments, action):
    """How each hit command ended, after those runs that it kept from the end of an unbroken one were told."""
    hits = {at: forks.run(place / str(at), *RUN, hit=Hit(action, at)) for at in moments}
    wrong = {f"{at} {hit.changes[-1]}": what_differs(forks, place / str(at), end) for at, hit in hits.items()}
    assert not {moment: problem for moment, problem in wrong.items() if problem}
    return list(hits.values())


@pytest.mark.parametrize("share", range(SHARES))
def test_a_kill_before_any_change_of_a_file(forks, unbroken, tmp_path, share, count):
    end, moments = unbroken
    killed = ends_after(forks, tmp_path, end, moments[share::SHARES], "kill")
    assert {one.code for one in killed} == {-9}
    count(len(killed))


@pytest.mark.parametrize("share", range(SHARES))
def test_kills_one_after_the_other(forks, unbroken, tmp_path, share, count):
    """Each start is killed a little later in its own life; what they leave behind does not add up."""
    end, moments = unbroken
    kills = moments[share :: 3 * SHARES]
    for at in kills:
        assert forks.run(tmp_path, *RUN, hit=Hit("kill", at)).code in (-9, 0)
    assert what_differs(forks, tmp_path, end) is None
    count(len(kills))


@pytest.mark.parametrize("share", range(SHARES))
def test_a_disk_that_is_full_from_any_change_on(forks, unbroken, tmp_path, share, count):
    end, moments = unbroken
    ended = ends_after(forks, tmp_path, end, moments[share::SHARES], "full")
    assert all("No space left on device" in one.in_one_line() for one in ended if one.code != 0)
    count(len(ended))


@pytest.mark.parametrize("action", ["term", "int"])
@pytest.mark.parametrize(("call", "at"), PHASES)
def test_a_signal_in_every_phase(forks, unbroken, tmp_path, action, call, at, count):
    ended = forks.run(tmp_path, *RUN, hit=Hit(action, at, call))
    assert ended.code != "still running"
    if action == "term" and ended.code > 0:
        assert "Traceback" not in ended.err
    assert what_differs(forks, tmp_path, unbroken[0]) is None
    count(1)
