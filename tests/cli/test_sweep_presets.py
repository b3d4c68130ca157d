"""sweep=trajectory and sweep=placement: which cells they have, in which W&B group, and what is refused."""

import csv
import json
import sys
from datetime import datetime
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.global_hydra import GlobalHydra

from hybrids import cli


@pytest.fixture
def cells(monkeypatch, capfd, tmp_path, tiny):
    """Run a sweep whose cells are not trained: exit code, the runs, what is printed and complained of."""
    monkeypatch.chdir(tmp_path)
    runs = []

    def train(run):
        runs.append(run)
        run.folder.create(run.config)
        scores = {"accuracy": 0.5, "exact_match": 0.5}
        sizes = {"steps": 8, "seconds": 1.0, "parameters": {"backbone": 1234}, "state_bits": 5678, "step_flops": 91}
        run.folder.write_result({"version": 1, "test": scores, "stopped": "max_steps", **sizes})

    monkeypatch.setattr("hybrids.cli.sweep.train", train)

    def sweep(*arguments):
        GlobalHydra.instance().clear()
        runs.clear()
        monkeypatch.setattr(sys, "argv", ["hybrids", "train", *tiny, *arguments])
        capfd.readouterr()
        code = cli.main()
        return code, list(runs), *capfd.readouterr()

    return sweep


def settings(run):
    task = run.task.build()
    return str(run.pattern), task.length, task.num_pairs


def test_a_trajectory_goes_from_recurrent_to_attention_at_several_contexts(cells):
    code, runs, _, _ = cells("-m", "sweep=trajectory")
    assert code == 0
    sizes = [(32, 4), (64, 8), (128, 16)]  # pairs in proportion to 2 of 16 tokens
    patterns = ("LLLL", "LLLA", "LALA", "AAAA")
    assert [settings(run) for run in runs] == [(pattern, *size) for pattern in patterns for size in sizes]
    assert len({run.logger.group for run in runs}) == 1
    assert {run.logger.job_type for run in runs} == {"trajectory"}
    assert all(run.config["logger"]["group"] == run.logger.group for run in runs)  # as config.yaml will say
    with next(Path("runs/sweeps").glob("*/summary.csv")).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["d_model"], row["parameters"], row["state bits"], row["step FLOPs"]) for row in rows} == {
        ("16", "1234", "5678", "91")
    }


def test_what_is_said_on_the_command_line_goes_before_the_preset(cells):
    """And the preset is a sweep without -m, too."""
    code, runs, _, _ = cells("sweep=trajectory", "pattern=LL,AA", "context=16", "logger.group=mine", "seed=1,2")
    assert code == 0
    assert [(*settings(run), run.seed) for run in runs] == [(p, 16, 2, s) for p in ("LL", "AA") for s in (1, 2)]
    assert {run.logger.group for run in runs} == {"mine"}


def test_patterns_of_different_depth_are_no_trajectory(cells):
    code, runs, out, err = cells("-m", "sweep=trajectory", "pattern=LL,LLLA")
    assert (code, runs, out) == (1, [], "")
    found = "LL has 2 layers, LLLA has 4 layers; add match=params match_to=LLLL"
    assert err == f"error: sweep=trajectory over patterns of different depth: {found}\n"
    assert not Path("runs").exists()


def test_a_match_makes_different_depths_comparable(cells):
    code, runs, out, _ = cells("-m", "sweep=trajectory", "pattern=LL,LLLL", "context=16", "match=params", "match_to=LL")
    assert code == 0
    assert runs[0].model.d_model == 16 > runs[1].model.d_model
    assert "LL at d_model=16" in runs[1].notes[0]
    assert "error" not in out


def test_a_placement_is_every_place_of_the_attention_layers(cells):
    code, runs, _, _ = cells("-m", "sweep=placement", "sweep.num_attention=2", "sweep.depth=4")
    assert code == 0
    expected = {"".join("A" if i in at else "L" for i in range(4)) for at in combinations(range(4), 2)}
    assert {str(run.pattern) for run in runs} == expected and len(runs) == 6
    assert {run.logger.job_type for run in runs} == {"placement"}


def test_other_letters_can_be_placed(cells):
    _, runs, _, _ = cells("-m", "sweep=placement", "sweep.depth=2", "sweep.attention=S", "sweep.others=M")
    assert [str(run.pattern) for run in runs] == ["MS", "SM"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sweep=placement", "sweep.num_attention=9"], "num_attention=9 does not fit into depth=4; allowed: 0 to 4"),
        (["sweep=placement", "sweep.attention=AA"], "attention=AA, others=L: they must be two different letters A-Z"),
        (["sweep=placment"], "unknown sweep 'placment'; did you mean 'placement'? allowed: placement, trajectory"),
        (["sweep=trajectory", "pattern=LL,LLx"], "pattern 'LLx', column 4: the count after x is missing"),
    ],
)
def test_sweeps_that_cannot_be_are_one_sentence(cells, arguments, sentence):
    code, runs, _, err = cells("-m", *arguments)
    assert (code, runs, len(err.splitlines())) == (1, [], 1)
    assert err.startswith(f"error: {sentence}")


def test_a_cell_in_a_process_of_its_own_is_no_sweep_again(cells, processes):
    cells("sweep=trajectory", "pattern=L,A", "context=16", "trainer=ddp_cpu")
    assert len(processes) == 2
    assert not [text for command in processes for text in command if text.startswith("sweep=")]
    assert all("logger.job_type=trajectory" in command for command in processes)


def test_two_sweeps_that_start_in_one_second_have_a_folder_each(cells, monkeypatch):
    at = datetime(2026, 11, 30, 12, 0, 0)
    monkeypatch.setattr("hydra.core.utils.datetime", SimpleNamespace(now=lambda: at))
    for letters in ("L,A", "S,A", "L,S"):
        assert cells("-m", f"pattern={letters}")[0] == 0
    names = ["2026-11-30_12-00-00", "2026-11-30_12-00-00-2", "2026-11-30_12-00-00-3"]
    assert sorted(path.name for path in Path("runs/sweeps").iterdir()) == names
    for name, letters in zip(names, ("LA", "SA", "LS"), strict=True):
        found = [json.loads(Path("runs", "sweeps", name, str(cell), "cell.json").read_text()) for cell in (0, 1)]
        assert [cell["overrides"][-1] for cell in found] == [f"pattern={letter}" for letter in letters]


def test_a_sweep_in_a_folder_that_its_user_names_is_repeated_there(cells):
    for _ in range(2):
        assert cells("-m", "pattern=L,A", "hydra.sweep.dir=runs/mine")[0] == 0
    assert [path.name for path in Path("runs").glob("mine*")] == ["mine"]
