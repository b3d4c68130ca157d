"""The commands as a user meets them: bad input is one sentence, and nothing half-written stays behind."""

import csv
import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib.image
import pytest
from hydra.core.global_hydra import GlobalHydra

from hybrids import cli, registry, training
from hybrids.report.heatmap import draw_heatmap

ROOT = Path(__file__).parent.parent


class Reply:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def complaint(self):
        """The only line on stderr, of a command that failed."""
        assert self.code == 1
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")


@pytest.fixture
def hybrids(monkeypatch, capfd, tmp_path):
    """Run the console command in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "describe_code", lambda: {"commit": "the same"})  # someone may edit while we test

    def run(*arguments):
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["hybrids", *arguments])
        capfd.readouterr()
        code = cli.main()
        assert sys.argv == ["hybrids", *arguments]
        return Reply(code, *capfd.readouterr())

    return run


@pytest.fixture
def train(hybrids, tiny):
    def run(*arguments):
        given = {argument.partition("=")[0] for argument in arguments}
        return hybrids("train", *(text for text in tiny if text.partition("=")[0] not in given), *arguments)

    return run


def run_folder():
    (folder,) = (path.parent for path in Path("runs").glob("*/config.yaml"))
    return folder


def interrupt(folder):
    """Leave a finished run as a kill before its last line would have."""
    (folder / "result.json").unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


# Bad input


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            "pattern=LLXA",
            "the letter X, which stands for nothing; bound letters: A, L, M, S; bind it with +mixer@mixers.X",
        ),
        (
            "pattern=LLx",
            "pattern 'LLx', column 4: the count after x is missing; write a number of at least 1, as in LLx3",
        ),
        ("pattern=Ax0", "pattern 'Ax0', column 3: the count 0 must be at least 1"),
        ("pattern=L+", "pattern 'L+', column 2: '+' needs a letter A-Z on each side, as in L+A"),
        ("pattern=lla", "pattern 'lla', column 1: 'l' is lower case; letters are upper case, A-Z; did you mean 'LLA'?"),
        ("pattern=[LA]", "pattern '[LA]', column 1: '[' cannot stand here; allowed: letters A-Z, '.' between segments"),
        ("pattern=", "pattern '': no pattern is given; write one such as LLLA or LLLAx6.AA"),
        ("pattern=null", "pattern 'null': no pattern is given; write one such as LLLA or LLLAx6.AA"),
        ("mixers.A.num_heads=3", "mixers.A: num_heads=3 does not divide d_model=16; allowed: 1, 2, 4, 8, 16, or any"),
        ("mixers.L.num_heads=3", "mixers.L: num_heads=3"),
        ("backend=flaa", "backend='flaa' is unknown; did you mean 'fla'?"),
        ("backend=cpp", "backend=cpp: no letter of pattern=LLLA has it; allowed: auto, fla, mamba_ssm, torch"),
        ("mixers.L.backend=fla", "mixers.L: backend=fla cannot run delta_rule: "),
        ("mixers.A.backend=torch", "unknown setting 'mixers.A.backend'"),
        ("task.num_pairs=5", "num_pairs=5 do not fit into length=16: at most 4 do, or use length=20 or more"),
        ("task.num_pairs=-1", "num_pairs=-1 must be at least 1"),
        ("task.length=-16", "length=-16 must be even and at least 4"),
        ("model.d_model=-16", "model.d_model=-16 must be at least 1"),
        ("trainer.max_steps=-1", "trainer.max_steps=-1 must be at least 1"),
        ("data.batch_size=0", "data.batch_size=0 must be at least 1"),
        ("mixers.A.rope_theta=-1", "mixers.A: rope_theta=-1.0 must be positive"),
        ("channel.expansion=nan", "channel mixer of L: expansion=nan must be positive"),
        (
            "trainer=ddp_cpu trainer.devices=5",
            "data.batch_size=12 is not divisible by 5 ranks; allowed: a multiple of 5",
        ),
        ("channel=none mixer@mixers.L=none", "layer L has neither a mixer nor a channel mixer"),
        (
            "mixer@mixers.L=linear_atention",
            "unknown mixer 'linear_atention'; did you mean 'linear_attention'? allowed: ",
        ),
        ("+unknown=1", "unknown setting 'unknown'; allowed: pattern, mixers, "),
        ("task=null", "task=null is not allowed"),
        ("pattern=L{A", "pattern 'L{A', column 2: '{' cannot stand here"),
        ("-m pattern=LA optim.lr=1e-3,fast", "optim.lr=fast is not a number"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(train, arguments, sentence):
    reply = train(*arguments.split())
    assert sentence in reply.complaint()
    assert not any("mqar" in path.name for path in Path().rglob("*"))


def test_the_environment_is_left_as_it_was(train, monkeypatch):
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    train("pattern=LLXA")
    assert os.environ.get("HYDRA_FULL_ERROR", "0") == "0"


def test_the_traceback_is_there_for_who_wants_it(train, monkeypatch):
    monkeypatch.setenv("HYBRIDS_TRACEBACK", "1")
    with pytest.raises(ValueError, match="the letter X"):
        train("pattern=LLXA")


def test_a_defect_is_not_hidden(train, monkeypatch):
    def broken(run):
        raise ZeroDivisionError

    monkeypatch.setattr("hybrids.cli.runs.train", broken)
    with pytest.raises(ZeroDivisionError):
        train()


def test_a_program_of_its_own_gives_one_line_too(tiny, tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", *tiny, "pattern=LLXA"], capture_output=True, text=True, cwd=tmp_path
    )
    assert "letter X" in Reply(done.returncode, done.stdout, done.stderr).complaint()
    assert (done.stdout, list(tmp_path.iterdir())) == ("", [])


# Disks


def test_runs_below_a_file_are_refused(train):
    Path("file").write_text("mine")
    assert "cannot use file/" in train("runs_dir=file").complaint()
    assert "runs_dir=<folder> keeps runs in another place" in train("runs_dir=file/below").complaint()
    assert Path("file").read_text() == "mine"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_disk_that_takes_nothing_leaves_nothing(train, monkeypatch, code):
    def refuse(path, text, *args, **kwargs):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "write_text", refuse)
    assert os.strerror(code) in train().complaint()
    assert list(Path("runs").iterdir()) == []


def test_a_disk_that_fills_up_costs_no_more_than_the_steps_since_the_last_checkpoint(train, monkeypatch):
    import lightning.fabric.plugins.io.torch_io as io

    save, saved = io._atomic_save, []

    def fill_up(checkpoint, filepath):
        if saved:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(filepath))
        saved.append(filepath)
        save(checkpoint, filepath)

    monkeypatch.setattr(io, "_atomic_save", fill_up)
    assert "No space left on device" in train().complaint()
    assert [path.name for path in (run_folder() / "checkpoints").iterdir()] == ["step=00000004.ckpt"]
    assert not (run_folder() / "result.json").exists()
    monkeypatch.setattr(io, "_atomic_save", save)
    again = train()
    assert again.code == 0
    assert "it continues from step=00000004.ckpt" in again.out


# Runs


def test_a_run_prints_its_table_and_again_is_a_no_op(train):
    first = train("pattern=LA")
    assert first.code == 0
    for text in (
        "test accuracy",
        "num_pairs=2",
        "parameters",
        "bits",
        "FLOPs",
        "8 steps, 96 examples",
        "runs/mqar-LA-",
    ):
        assert text in first.out
    before = {path: path.stat().st_mtime_ns for path in run_folder().rglob("*")}
    again = train("pattern=LAx1")
    assert again.code == 0
    assert "has finished; nothing is done (rerun=true repeats it)" in again.out
    assert {path: path.stat().st_mtime_ns for path in run_folder().rglob("*")} == before


def test_one_truncated_checkpoint_is_said_and_the_one_before_is_used(train):
    train("pattern=L")
    unbroken = json.loads((run_folder() / "result.json").read_text())
    interrupt(run_folder())
    truncate(run_folder() / "checkpoints" / "step=00000008.ckpt")
    with pytest.warns(UserWarning, match=r"step=00000008.ckpt is damaged .*; continuing from .*step=00000004.ckpt"):
        reply = train("pattern=L")
    assert reply.code == 0
    assert json.loads((run_folder() / "result.json").read_text())["test"] == unbroken["test"]


def test_truncated_checkpoints_alone_are_an_error(train, hybrids):
    train("pattern=L")
    interrupt(run_folder())
    for path in (run_folder() / "checkpoints").iterdir():
        truncate(path)
    sentence = "none is left to continue from, rerun=true starts afresh"
    assert sentence in train("pattern=L").complaint()
    assert "step=00000008.ckpt is damaged" in hybrids("eval", f"run={run_folder()}").complaint()
    assert not (run_folder() / "eval").exists()
    assert train("pattern=L", "rerun=true").code == 0


# Evaluation


def read_grid(folder):
    with (folder / "eval" / "grid.csv").open(newline="") as file:
        return {(int(row["length"]), int(row["num_pairs"])): row for row in csv.DictReader(file)}


def test_evaluation_covers_the_grid_and_agrees_with_the_test_of_the_run(train, hybrids):
    train("pattern=LA", "trainer.max_steps=6")  # ends between two validations
    result = json.loads((run_folder() / "result.json").read_text())
    reply = hybrids("eval", f"run={run_folder()}", "num_examples=24", "batch_size=12")
    assert (reply.code, reply.err) == (0, "")
    grid = read_grid(run_folder())
    lengths, pairs = (8, 16, 32, 64, 128), (1, 2, 4, 8, 16)
    assert set(grid) == {(length, num) for length in lengths for num in pairs}
    assert {size for size, row in grid.items() if not row["accuracy"]} == {(n, p) for n, p in grid if 4 * p > n}
    assert "do not fit into length=8" in grid[8, 4]["reason"]
    assert float(grid[16, 2]["accuracy"]) == pytest.approx(result["test"]["accuracy"])
    assert float(grid[16, 2]["loss"]) == pytest.approx(result["test"]["loss"], rel=1e-5)
    assert "6 of 25 combinations do not fit" in reply.out
    picture = matplotlib.image.imread(run_folder() / "eval" / "grid.png")
    assert min(picture.shape[:2]) > 300


def test_an_interrupted_run_is_evaluated_at_the_sizes_asked_for(train, hybrids):
    train("pattern=LA")
    interrupt(run_folder())
    reply = hybrids("eval", f"run={run_folder()}", "sizes.num_pairs=[1,3]", "sizes.length=20", "num_examples=12")
    assert "has not finished; evaluating step=00000008.ckpt" in reply.out
    assert list(read_grid(run_folder())) == [(20, 1), (20, 3)]


def test_the_training_point_is_marked_in_the_picture(tmp_path, monkeypatch):
    import matplotlib.figure

    from hybrids.evaluate import GridCell

    figures = []
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda figure, *args, **kwargs: figures.append(figure))
    cells = [GridCell({"length": n, "num_pairs": p}, 0.5, 0.5, 1.0) for n in (8, 16, 32) for p in (1, 2)]
    draw_heatmap(cells, {"length": 16, "num_pairs": 2}, tmp_path / "x.png", title="t")
    (frame,) = (p for p in figures[0].axes[0].patches if not p.get_fill())
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((0.5, 0.5), 1, 1)
    assert [label.get_text() for label in figures[0].axes[0].get_xticklabels()] == ["8", "16", "32"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "run is not set; give the folder of a run: run=runs/<id>"),
        (["run=nope"], "run=nope does not exist; runs nearby: made"),
        (["run=."], "run=. is not the folder of a run: it has no config.yaml"),
        (["run=runs", "bogus=1"], "unknown setting 'bogus'; allowed: run, sizes, "),
        (["run=made"], "run=made has no checkpoint yet; train it for at least 4 steps"),
        (["run=made", "num_examples=-1"], "num_examples=-1 must be at least 1"),
        (["run=made", "batch_size=0"], "batch_size=0 must be at least 1"),
        (["run=made", "accelerator=tpu"], "trainer.accelerator='tpu' is unknown; allowed: cpu, gpu"),
        (["run=made", "threads=0"], "threads=0; allowed: 1 or more"),
        (["run=made", "sizes.pairs=[4]"], "sizes.pairs is no size of this task; did you mean 'num_pairs'? allowed: le"),
        (["run=made", "sizes.num_pairs=[]"], "sizes.num_pairs=[] is empty"),
        (["run=made", "sizes.num_pairs=many"], "num_pairs must be a list"),
    ],
)
def test_bad_evaluations_are_one_sentence(hybrids, make_run, arguments, sentence):
    run = make_run()
    run.folder.create(run.config)
    run.folder.path.rename("made")
    assert hybrids("eval", *arguments).complaint().startswith(sentence)
    assert not (Path("made") / "eval").exists()


def test_a_grid_that_does_not_fit_at_all_is_an_error(train, hybrids):
    train("pattern=L")
    said = hybrids("eval", f"run={run_folder()}", "sizes.num_pairs=[400]").complaint()
    assert said.startswith("no combination of these sizes fits; the first: num_pairs=400 do not fit")


# Sweeps


def read_summary():
    (path,) = Path("runs/sweeps").glob("*/summary.csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sweep_is_one_table_and_again_nothing(train):
    reply = train("-m", "pattern=L,A", "task.num_pairs=1,2")
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
    again = train("-m", "pattern=L,A", "task.num_pairs=1,2")
    assert again.out.count("has finished; nothing is done") == 4
    assert {path: path.stat().st_mtime_ns for path in Path("runs").glob("*/result.json")} == results


def test_a_cell_that_fails_does_not_stop_the_others(train):
    reply = train("-m", "task.num_pairs=1,9,2", "pattern=L")
    assert reply.code == 1
    rows = read_summary()
    assert [row["accuracy"] == "failed" for row in rows] == [False, True, False]
    assert rows[1]["run"].startswith("num_pairs=9 do not fit into length=16: at most 4 do")
    assert "sweep cell 1 failed: num_pairs=9 do not fit" in reply.err
    assert "Traceback" not in reply.err
    assert len(list(Path("runs").glob("*/result.json"))) == 2


def test_a_defect_in_a_cell_shows_its_traceback(train, monkeypatch):
    def broken(run):
        raise ZeroDivisionError("by chance")

    monkeypatch.setattr("hybrids.sweep.train", broken)
    reply = train("-m", "pattern=L,A")
    assert reply.code == 1
    assert reply.err.count("Traceback") == 2
    assert [row["run"] for row in read_summary()] == ["by chance", "by chance"]


def test_a_failed_cell_leaves_no_wandb_log_open_for_the_next(train, monkeypatch):
    finished = []
    stand_in = SimpleNamespace(run="of the cell", finish=lambda exit_code: finished.append(exit_code))
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    train("-m", "pattern=L,LX")
    assert finished == [1]


def test_a_cell_on_several_devices_is_a_process_of_its_own(train, monkeypatch):
    started = []

    def start(command, check):
        started.append(command)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(subprocess, "run", start)
    reply = train("-m", "pattern=L,A", "trainer=ddp_cpu")
    assert [command[:4] for command in started] == [[sys.executable, "-m", "hybrids.cli", "train"]] * 2
    assert "pattern=A" in started[1] and "trainer=ddp_cpu" in started[1]
    assert reply.code == 1
    assert all("exit code 3" in row["run"] for row in read_summary())


# The other commands


def test_without_a_command_the_help_is_shown(hybrids):
    reply = hybrids()
    assert reply.code != 0
    for command in ("train", "eval", "plugins", "patterns", "check"):
        assert f"\n    {command} " in reply.out


@pytest.mark.parametrize("arguments", [["--help"], ["patterns", "--help"], ["check", "-h"]])
def test_help(hybrids, capfd, arguments):
    with pytest.raises(SystemExit) as end:
        hybrids(*arguments)
    assert end.value.code == 0
    assert "usage: hybrids" in capfd.readouterr().out


@pytest.mark.parametrize("program", ["train", "eval"])
def test_help_of_the_programs_shows_the_settings(hybrids, program):
    reply = hybrids(program, "--help")
    assert reply.code == 0
    assert f"hybrids {program} " in reply.out
    assert "HYBRIDS_TRACEBACK=1" in reply.out
    assert {"train": "pattern: LLLA", "eval": "num_examples: 512"}[program] in reply.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["evl"],
            "unknown command 'evl'; did you mean 'eval'? allowed: train, eval, state, triangle, ",
        ),
        (
            ["bogus"],
            "unknown command 'bogus'; allowed: train, eval, state, triangle, ",
        ),
        (["check", "attention"], "'attention' names no plugin; write mixer=<name>, channel=<name>, task=<name>"),
        (
            ["check", "mixr=attention"],
            "unknown plugin kind 'mixr'; did you mean 'mixer'? allowed: mixer, channel, task",
        ),
        (["check", "mixer=atention"], "unknown mixer 'atention'; did you mean 'attention'? allowed: attention, "),
        (
            ["patterns", "llla"],
            "pattern 'llla', column 1: 'l' is lower case; letters are upper case, A-Z; did you mean",
        ),
        (["patterns", "--from", "megatorn", "M*"], "unknown notation 'megatorn'; "),
        (["patterns", "--from", "megatron", "M?"], "megatron"),
    ],
)
def test_bad_commands_are_one_sentence(hybrids, arguments, sentence):
    assert hybrids(*arguments).complaint().startswith(sentence)


def test_plugins_are_listed_with_their_origin(hybrids):
    reply = hybrids("plugins")
    assert reply.code == 0
    for entry in registry.entries():
        assert any(entry.name in line and entry.origin in line for line in reply.out.splitlines())


def test_broken_plugins_are_listed_with_the_reason(hybrids, monkeypatch):
    broken = {"strange.mixer": registry.Failure("strange.mixer", ImportError("no luck"))}
    monkeypatch.setattr(registry, "_failures", broken)
    reply = hybrids("plugins")
    assert reply.code == 1
    assert reply.err == "cannot be imported: strange.mixer: ImportError: no luck\n"
    assert "gated_delta_net" in reply.out


def test_a_pattern_is_shown_layer_by_layer_and_converted(hybrids):
    reply = hybrids("patterns", "LLLAx2")
    assert reply.code == 0
    letters = [
        line.split("│")[2].strip()
        for line in reply.out.splitlines()
        if line.split("│")[1:2] and line.split("│")[1].strip().isdigit()
    ]
    assert "".join(letters) == "LLLALLLA"
    assert "MMM*MMM*" in reply.out
    back = hybrids("patterns", "--from", "megatron", "MMM*MMM*")
    assert "pattern LLLAx2" in back.out


def test_checks_of_a_plugin_are_listed(hybrids, monkeypatch):
    reply = hybrids("check", "channel=mlp")
    assert reply.code == 0
    assert "settings_are_a_schema" in reply.out and "passed" in reply.out
    monkeypatch.setattr(registry.get("channel", "mlp").cls, "step_flops", lambda self: 1)
    failed = hybrids("check", "channel=mlp")
    assert failed.code == 1
    assert "FLOP" in failed.out or "cost" in failed.out
