"""`hybrids eval`: the grid it covers, what it writes and what it refuses."""

import csv
import json
import shutil
import zipfile
from pathlib import Path

import matplotlib.image
import pytest
import torch
from commands import interrupt, run_folder

from hybrids.report.terminal.heatmap import draw_heatmap
from hybrids.training.grid import GridCell
from hybrids.training.train import train


@pytest.fixture(scope="module")
def trained(make_run_in, tmp_path_factory):
    """A folder of one run, which has ended between two validations."""
    run = make_run_in(tmp_path_factory.mktemp("trained") / "runs", "pattern=LA", "trainer.max_steps=6")
    train(run)
    return run.folder.path.parent


@pytest.fixture
def folder(hybrids, trained):
    """A copy of the run, in the folder of the test."""
    shutil.copytree(trained, "runs")
    return run_folder()


def read_grid(folder):
    with (folder / "eval" / "grid.csv").open(newline="") as file:
        return {(int(row["length"]), int(row["num_pairs"])): row for row in csv.DictReader(file)}


def test_evaluation_covers_the_grid_and_agrees_with_the_test_of_the_run(hybrids, folder):
    result = json.loads((folder / "result.json").read_text())
    reply = hybrids("eval", f"run={folder}", "num_examples=24", "batch_size=12")
    assert (reply.code, reply.err) == (0, "")
    grid = read_grid(folder)
    lengths, pairs = (8, 16, 32, 64, 128), (1, 2, 4, 8, 16)
    assert set(grid) == {(length, num) for length in lengths for num in pairs}
    assert {size for size, row in grid.items() if not row["accuracy"]} == {(n, p) for n, p in grid if 4 * p > n}
    assert "do not fit into length=8" in grid[8, 4]["reason"]
    assert float(grid[16, 2]["accuracy"]) == pytest.approx(result["test"]["accuracy"])
    assert float(grid[16, 2]["loss"]) == pytest.approx(result["test"]["loss"], rel=1e-5)
    assert "6 of 25 combinations do not fit" in reply.out
    picture = matplotlib.image.imread(folder / "eval" / "grid.png")
    assert min(picture.shape[:2]) > 300


def test_an_interrupted_run_is_evaluated_at_the_sizes_asked_for(hybrids, folder):
    interrupt(folder)
    reply = hybrids("eval", f"run={folder}", "sizes.num_pairs=[1,3]", "sizes.length=20", "num_examples=12")
    assert "has not finished; evaluating step=00000006.ckpt" in reply.out
    assert list(read_grid(folder)) == [(20, 1), (20, 3)]


def test_the_training_point_is_marked_in_the_picture(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("hybrids.report.terminal.heatmap.save_picture", lambda figure, *_, **__: figures.append(figure))
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
        (["run=runs", "bogus=1"], "unknown setting 'bogus'; allowed: sizes, num_examples, "),
        (["run=made"], "run=made has no checkpoint yet; train it for at least 4 steps"),
        (["run=made", "num_examples=-1"], "num_examples=-1 must be at least 1"),
        (["run=made", "batch_size=0"], "batch_size=0 must be at least 1"),
        (
            ["run=made", "accelerator=tpu"],
            "trainer.accelerator='tpu' is unknown; did you mean 'gpu'?",
        ),
        (["run=made", "threads=0"], "threads=0; allowed: 1 or more"),
        (["run=made", "sizes.pairs=[4]"], "sizes.pairs is no size of this task; did you mean 'num_pairs'? allowed: le"),
        (["run=made", "sizes.num_pairs=[]"], "sizes.num_pairs=[] is empty"),
        (["run=made", "sizes.num_pairs=many"], "num_pairs must be a list"),
    ],
)
def test_bad_evaluations_are_one_sentence(hybrids, trained, arguments, sentence):
    (config,) = trained.glob("*/config.yaml")
    Path("made").mkdir()
    shutil.copy(config, "made")
    assert hybrids("eval", *arguments).complaint().startswith(sentence)
    assert not (Path("made") / "eval").exists()


def test_a_run_whose_checkpoints_are_all_damaged_is_not_evaluated(hybrids, folder):
    for path in (folder / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1000])
    assert "step=00000006.ckpt is damaged" in hybrids("eval", f"run={folder}").complaint()
    assert not (folder / "eval").exists()


def test_a_grid_that_does_not_fit_at_all_is_an_error(hybrids, folder):
    said = hybrids("eval", f"run={folder}", "sizes.num_pairs=[400]").complaint()
    assert said.startswith("no combination of these sizes fits; the first: num_pairs=400 do not fit")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("a: ${oc.env:HYBRIDS_SECRET}", "cannot be used: a holds ${...}, which is replaced nowhere but on a command"),
        ("a: {b: [1, 'x${oc.decode:${oc.env:HYBRIDS_SECRET}}']}", "cannot be used: a.b.1 holds ${...}"),
        ("a: ${hydra:runtime.cwd}", "cannot be used: a holds ${...}"),
        ("seed: ${oc.env:HYBRIDS_SECRET}", "is damaged: the key seed stands in it twice"),
        ("a: &a [*a]", "is damaged: an alias in it stands for a group that is not complete"),
        ("a: " + "[" * 3000 + "]" * 3000, "is damaged: it is nested deeper than 50 levels"),
        ("a: ???", "cannot be used: unknown setting 'a'"),
    ],
    ids=["environment", "decoded", "hydra", "twice", "alias", "deep", "missing"],
)
def test_settings_of_a_stranger_are_not_resolved(hybrids, trained, monkeypatch, line, sentence):
    monkeypatch.setenv("HYBRIDS_SECRET", "hunter2")
    (config,) = trained.glob("*/config.yaml")
    Path("made").mkdir()
    Path("made/config.yaml").write_text(f"{config.read_text()}{line}\n")
    for command in (("eval", "run=made"), ("bits", "made")):
        said = hybrids(*command).complaint()
        assert said.startswith(f"made/config.yaml {sentence}") and "hunter2" not in said


def test_a_checkpoint_of_another_model_is_one_sentence(hybrids, folder):
    (folder / "result.json").unlink()
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("d_model: 16", "d_model: 1000000"))
    said = hybrids("eval", f"run={folder}").complaint()
    assert "step=00000006.ckpt is of another run: model.d_model is 16 there and 1000000 here; or config.yaml" in said
    config.write_text(
        config.read_text().replace("d_model: 1000000", "d_model: 16").replace("pattern: LA", "pattern: LL")
    )
    assert "is of another run: pattern is " in hybrids("eval", f"run={folder}").complaint()
    for path in (folder / "checkpoints").iterdir():
        torch.save({"weights": 1}, path)
    assert "does not say of which run it is" in hybrids("eval", f"run={folder}").complaint()


def test_a_checkpoint_that_unpacks_to_more_than_its_size_is_not_unpacked(hybrids, folder):
    for path in (folder / "checkpoints").iterdir():
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("bomb/data.pkl", b"0" * 10**7)
    assert "is damaged (it would unpack to more than its size)" in hybrids("eval", f"run={folder}").complaint()


def test_where_nothing_can_be_kept_the_scores_are_printed(hybrids, folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "eval").symlink_to(elsewhere)
    reply = hybrids("eval", f"run={folder}", "num_examples=12", "sizes.num_pairs=[1]", "sizes.length=[16]")
    assert reply.code == 0 and "evaluation of" in reply.out and "table and picture" not in reply.out
    assert reply.err == f"{folder / 'eval'} is a link, and nothing is written through one: " + (
        "the scores are printed and not kept\n"
    )
    assert list(elsewhere.iterdir()) == []


def test_a_name_with_a_formula_or_an_escape_sequence_is_drawn_as_it_is_spelt(hybrids, folder):
    odd = folder.rename("runs/$\\frac$ \x1b[31m\u202e\u4e00 <b>")
    reply = hybrids("eval", f"run='{odd}'", "num_examples=12", "sizes.num_pairs=[1]", "sizes.length=[16]")
    assert (reply.code, reply.err) == (0, "")
    assert min(matplotlib.image.imread(odd / "eval" / "grid.png").shape[:2]) > 100
