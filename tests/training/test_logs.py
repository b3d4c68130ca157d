"""Numbers of a run: a file that is only ever appended to, TensorBoard, and what others say of themselves."""

import logging
import time
import warnings

import pytest

from hybrids.errors import UserError
from hybrids.training import progress
from hybrids.training.logs import MetricsFile
from hybrids.training.metrics import drop_metrics, read_metrics
from hybrids.training.process import silence_foreign_messages
from hybrids.training.train import train


def test_rows_are_appended_and_the_last_one_holds(tmp_path):
    path = tmp_path / "metrics.csv"
    MetricsFile(path).log_metrics({"train/loss": 2.0, "epoch": 0}, step=1)
    before = path.read_bytes()
    again = MetricsFile(path)
    again.log_metrics({"train/loss": 1.5, "val/accuracy": 0.25}, step=1)
    again.log_metrics({"train/loss": 1.0}, step=2)
    assert path.read_bytes().startswith(before)
    assert path.read_text().splitlines()[:2] == ["step,metric,value", "1,train/loss,2.0"]
    assert read_metrics(path) == {"train/loss": {1: 1.5, 2: 1.0}, "val/accuracy": {1: 0.25}}


@pytest.mark.parametrize("cut", ["1,tr", "1,train/loss", "1,train/loss,", "1,train/loss,2.", "7"])
def test_a_row_that_was_cut_in_half_costs_only_itself(tmp_path, cut):
    """Of 2.345 a kill may leave 2., which is a number too."""
    path = tmp_path / "metrics.csv"
    path.write_text(f"step,metric,value\n0,train/loss,3.0\n{cut}")
    assert read_metrics(path) == {"train/loss": {0: 3.0}}
    drop_metrics(path, 2)
    MetricsFile(path).log_metrics({"train/loss": 2.0}, step=2)
    assert read_metrics(path) == {"train/loss": {0: 3.0, 2: 2.0}}


def test_rows_that_a_resumed_run_writes_again_are_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    log = MetricsFile(path)
    for step in range(4):
        log.log_metrics({"train/loss": float(step)}, step=step)
    whole = path.read_bytes()
    log.log_metrics({"test/accuracy": 0.5}, step=4)
    drop_metrics(path, 4)
    assert path.read_bytes() == whole
    drop_metrics(path, 0)
    assert path.read_text() == "step,metric,value\n"


def test_a_file_that_holds_its_rows_twice_holds_them_once_when_the_run_goes_on(tmp_path):
    path = tmp_path / "metrics.csv"
    MetricsFile(path).log_metrics({"train/loss": 2.0}, step=0)
    whole = path.read_bytes()
    path.write_bytes(whole * 2)
    drop_metrics(path, 1)
    assert path.read_bytes() == whole


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,metric,value\nfirst,train/loss,3.0\n")
    with pytest.raises(UserError, match=r"metrics\.csv is damaged: .*'first'"):
        read_metrics(path)


@pytest.mark.parametrize("cut", ["", "s", "step,met", "step,metric,value", "step,metric,value\r"])
def test_a_header_that_was_cut_in_half_is_written_again(tmp_path, cut):
    path = tmp_path / "metrics.csv"
    path.write_text(cut, newline="")
    drop_metrics(path, 0)
    MetricsFile(path).log_metrics({"a": 1.0}, step=0)
    assert path.read_bytes() == b"step,metric,value\r\n0,a,1.0\r\n"


def test_tensorboard_is_written_beside_the_metrics(make_run):
    run = make_run("pattern=A", "logger=tensorboard")
    train(run)
    assert len(list((run.folder.path / "tensorboard").glob("events.out.tfevents.*"))) == 1
    assert run.folder.metrics_file.is_file()
    assert not (run.folder.path / "wandb").exists()


def test_lightning_does_not_talk_about_itself(capfd, make_run):
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)
    with warnings.catch_warnings():
        silence_foreign_messages()
    train(make_run("pattern=A"))
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_off_a_terminal_the_progress_is_a_line_now_and_then_on_stderr(make_run, monkeypatch, capfd):
    monkeypatch.setattr(progress, "LINES_APART", 1e-3)
    train(make_run("pattern=A", "trainer.progress_bar=true", "trainer.max_steps=4", "trainer.log_every=2"))
    out, err = capfd.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("training: ")]
    assert [line.partition(",")[0] for line in lines] == [f"training: step {n} of 4" for n in (1, 2, 3, 4)]
    assert "s left, train/loss=" in lines[-1] and "training: " not in out


def test_a_run_that_goes_on_counts_from_where_it_was(make_run, monkeypatch, capfd):
    run = make_run("pattern=A", "trainer.progress_bar=true")
    train(run)
    run.folder.result_file.unlink()
    newest, *_ = run.folder.checkpoints()
    newest.unlink()
    monkeypatch.setattr(progress, "LINES_APART", 1e-3)
    capfd.readouterr()
    train(run)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("training: ")]
    assert [line.partition(",")[0] for line in lines] == [f"training: step {n} of 8" for n in (5, 6, 7, 8)]


def test_progress_is_told_on_a_terminal_and_elsewhere(monkeypatch, capfd):
    monkeypatch.setattr(progress, "LINES_APART", 0)
    assert list(progress.tracked([3, 4], "counting")) == [3, 4]
    assert capfd.readouterr().err == "counting: 1 of 2\ncounting: 2 of 2\n"
    monkeypatch.setattr(progress, "LINES_APART", 0.01)
    with progress.busy("thinking"):
        time.sleep(0.1)
    assert capfd.readouterr().err.startswith("thinking, for 0 s\n")
    with progress.busy("thinking", is_shown=False):
        time.sleep(0.05)
    assert capfd.readouterr().err == ""
