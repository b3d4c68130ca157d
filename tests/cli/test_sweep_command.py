"""`hybrids train -m`: one table of all cells, whichever of them fail."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hybrids.errors import UserError
from hybrids.training.lit import LitModel
from hybrids.training.stop import run_and_pass_signals

SHORT = ("trainer.max_steps=2", "trainer.val_every=2")


def read_summary():
    (path,) = Path("runs/sweeps").glob("*/summary.csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sweep_is_one_table_and_again_nothing(train):
    sweep = ("-m", "pattern=L,A", "task.num_pairs=1,2", *SHORT)
    reply = train(*sweep)
    assert reply.code == 0
    rows = read_summary()
    cells = [f"pattern={p} task.num_pairs={n}" for p in "LA" for n in (1, 2)]
    assert [row["cell"] for row in rows] == cells
    assert all(any(cell in line and "runs/mqar-" in line for line in reply.out.splitlines()) for cell in cells)
    for row in rows:
        result = json.loads((Path(row["run"]) / "result.json").read_text())
        assert float(row["accuracy"]) == pytest.approx(result["test"]["accuracy"], abs=1e-4)
        assert int(row["state bits"]) == result["state_bits"]
    results = {path: path.stat().st_mtime_ns for path in Path("runs").glob("*/result.json")}
    assert len(results) == 4
    again = train(*sweep)
    assert again.out.count("has finished; nothing is done") == 4
    assert {path: path.stat().st_mtime_ns for path in Path("runs").glob("*/result.json")} == results


def test_a_cell_that_fails_does_not_stop_the_others(train):
    reply = train("-m", "task.num_pairs=9,1", "pattern=A", *SHORT)
    assert reply.code == 1
    rows = read_summary()
    assert [row["accuracy"] == "failed" for row in rows] == [True, False]
    assert rows[0]["run"].startswith("num_pairs=9 do not fit into length=16: at most 4 do")
    assert "sweep cell 0 failed: num_pairs=9 do not fit" in reply.err
    assert "Traceback" not in reply.err
    assert len(list(Path("runs").glob("*/result.json"))) == 1


def test_a_defect_in_a_cell_shows_its_traceback(train, monkeypatch):
    def broken(run):
        raise ZeroDivisionError("by chance")

    monkeypatch.setattr("hybrids.cli.sweep.train", broken)
    reply = train("-m", "pattern=L,A")
    assert reply.code == 1
    assert reply.err.count("Traceback") == 2
    assert [row["run"] for row in read_summary()] == ["by chance", "by chance"]


def test_cells_in_folders_that_are_no_numbers_are_in_the_table(train, monkeypatch):
    def refuse(run):
        raise UserError("by chance")

    monkeypatch.setattr("hybrids.cli.sweep.train", refuse)
    train("-m", "pattern=L,A", "hydra.sweep.subdir=cells/no${hydra.job.num}")
    assert sorted(row["cell"] for row in read_summary()) == ["pattern=A", "pattern=L"]


def test_a_failed_cell_leaves_no_wandb_log_open_for_the_next(train, monkeypatch):
    finished = []
    stand_in = SimpleNamespace(run="of the cell", finish=lambda exit_code: finished.append(exit_code))
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    train("-m", "pattern=L,LX")
    assert finished == [1]


def test_a_cell_on_several_devices_is_a_process_of_its_own(train, processes):
    reply = train("-m", "pattern=L,A", "trainer=ddp_cpu")
    assert [command[:4] for command in processes] == [[sys.executable, "-m", "hybrids.cli", "train"]] * 2
    assert "pattern=A" in processes[1] and "trainer=ddp_cpu" in processes[1]
    assert reply.code == 1
    assert all("exit code 3" in row["run"] for row in read_summary())


def test_a_process_of_a_sweep_imports_nothing_from_the_working_folder(train, processes):
    train("-m", "pattern=L", "trainer=ddp_cpu")
    Path("csv.py").write_text("raise SystemExit('a file of the user was executed')")
    assert processes[0][1] == "-m"  # looks into the working folder first, as -c does
    started = subprocess.Popen([processes[0][0], "-c", "import csv"], stderr=subprocess.PIPE, text=True)
    assert started.communicate()[1] == "" and started.returncode == 0


DIVERGES = ("optim.lr=1e30", "optim.warmup_steps=0", *SHORT)


def test_a_run_that_diverges_has_an_exit_code_of_its_own(train):
    """A researcher's script tells it from a run that failed (1) and from one that was stopped (128 + signal)."""
    assert train("pattern=A", *DIVERGES).code == 4
    assert train("pattern=A", *DIVERGES).code == 4  # finished, nothing is done


def test_a_sweep_tells_which_cells_diverged(train):
    reply = train("-m", "pattern=A", "optim.lr=1e-3,1e30", *DIVERGES[1:])
    assert reply.code == 4
    assert [row["accuracy"] == "diverged" for row in read_summary()] == [False, True]


def test_a_signal_ends_a_sweep_and_keeps_the_cells_that_have_finished(train, monkeypatch):
    original, calls = LitModel.training_step, [0]

    def step(self, batch, batch_idx):
        calls[0] += 1
        if calls[0] == 3:  # in the first step of the second cell
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(LitModel, "training_step", step)
    reply = train("-m", "pattern=A,L,LL", *SHORT)
    assert reply.code == 143 and calls[0] == 3
    assert reply.err.count("was stopped by SIGTERM after step 1; the same command goes on from there") == 1
    assert len(read_summary()) == 1 and len(list(Path("runs").glob("*/result.json"))) == 1


def test_a_signal_is_passed_to_the_process_of_a_cell(tmp_path):
    """Else the cell would go on alone, with nobody to wait for it."""
    asked = f"import os, signal, time; os.kill({os.getpid()}, signal.SIGTERM); time.sleep(60)"
    with pytest.raises(SystemExit) as ended:
        run_and_pass_signals([sys.executable, "-c", asked])
    assert ended.value.code == 143
