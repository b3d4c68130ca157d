"""The table of a run in the terminal."""

from report_runs import scores, write_run

from hybrids.report.terminal.tables import print_result
from hybrids.training.record import RunFolder


def test_a_finished_run_that_diverged_can_be_shown_again(tmp_path, capsys):
    """result.json has null for a score that is not a number."""
    diverged = write_run(tmp_path, "LA", test=scores(None, k8=0.25, k16=None))
    result = RunFolder(diverged).read_result()
    assert result is not None
    print_result(result, str(diverged))
    out = capsys.readouterr().out
    assert "nan  (chance 0.01)" in out and "0.2500" in out and "num_pairs=16" in out
