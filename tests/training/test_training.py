"""A run from start to result: what it leaves, and that an interrupted one ends like an unbroken one."""

import functools
import json
import random

import jaxtyping
import pytest
import torch

from hybrids.training.lit import LitModel
from hybrids.training.metrics import read_metrics
from hybrids.training.record import RunFolder
from hybrids.training.train import build_model, train


@pytest.fixture
def make_run(make_run):
    """A tiny run of two layers: what holds for them holds for more."""
    return functools.partial(make_run, "pattern=LA")


class Killed(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture
def kill_at(monkeypatch):
    """Make the training step (or validation step) after so many calls raise, once."""

    def arrange(calls, method="training_step"):
        original = getattr(LitModel, method)
        left = [calls]

        def step(self, batch, batch_idx):
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return original(self, batch, batch_idx)

        monkeypatch.setattr(LitModel, method, step)

    return arrange


def last_weights(run):
    checkpoint, _ = run.folder.last_checkpoint()
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def assert_same_end(run, unbroken):
    mine, theirs = read_metrics(run.folder.metrics_file), read_metrics(unbroken.folder.metrics_file)
    assert mine == theirs
    weights = last_weights(unbroken)
    assert all(torch.equal(value, weights[name]) for name, value in last_weights(run).items())


def test_a_run_leaves_what_its_documentation_says(make_run):
    run = make_run()
    result = train(run)
    assert json.loads(run.folder.result_file.read_text()) == result
    assert result["steps"] == 8 and result["examples"] == 96 and result["stopped"] == "max_steps"
    assert {p.name for p in run.folder.checkpoints()} == {"step=00000004.ckpt", "step=00000008.ckpt"}
    assert run.folder.read_config()["pattern"] == "LA"
    metrics = read_metrics(run.folder.metrics_file)
    assert list(metrics["train/loss"]) == list(range(8))
    assert metrics["val/accuracy"][7] == pytest.approx(result["val"]["accuracy"])
    assert metrics["test/accuracy/num_pairs=2"][8] == pytest.approx(result["test"]["accuracy/num_pairs=2"])


def test_a_profile_is_printed(make_run, capsys):
    train(make_run("trainer.profiler=simple"))
    assert "run_training_batch" in capsys.readouterr().out


def test_a_finished_run_is_left_alone_and_rerun_keeps_the_old_one(make_run, capsys, kill_at):
    run = make_run()
    first = train(run)
    kill_at(1)
    assert train(run) == first
    assert "has finished; nothing is done" in capsys.readouterr().out
    with pytest.raises(Killed):
        train(make_run("rerun=true"))
    assert RunFolder(run.folder.path.with_name(f"{run.id}~1")).read_result() == first


def test_a_finished_run_made_by_other_code_is_reported(make_run):
    run = make_run()
    result = train(run)
    result["code"]["commit"] = "0" * 40
    run.folder.write_result(result)
    with pytest.warns(UserWarning, match="the code has changed since"):
        train(run)


@pytest.mark.parametrize("step", [2, 5, 6, 8])
def test_a_resumed_run_ends_bit_for_bit_like_an_unbroken_one(make_run, kill_at, unbroken, step):
    run = make_run()
    kill_at(step)
    with pytest.raises(Killed):
        train(run)
    assert run.folder.read_result() is None
    result, expected = train(run), unbroken.folder.read_result()
    assert_same_end(run, unbroken)
    assert result["val"] == expected["val"] and result["test"] == expected["test"]


def test_any_step_will_do_for_an_interruption(make_run, kill_at, tmp_path):
    settings = ["trainer.max_steps=12", "trainer.val_every=3", "data.num_train_examples=50"]
    unbroken = make_run(*settings, f"runs_dir={tmp_path / 'unbroken'}")
    train(unbroken)
    run = make_run(*settings)
    for _ in range(3):
        kill_at(random.Random(str(tmp_path)).randint(1, 5))
        with pytest.raises(Killed):
            train(run)
    train(run)
    assert_same_end(run, unbroken)


def test_a_run_killed_during_validation_validates_again(make_run, kill_at, unbroken):
    run = make_run()
    kill_at(4, "validation_step")  # the second validation, after step 8
    with pytest.raises(Killed):
        train(run)
    train(run)
    assert_same_end(run, unbroken)


def test_a_run_that_had_reached_its_target_does_not_train_on(make_run, kill_at, monkeypatch):
    run = make_run("trainer.target=1e-9", "task.vocab_size=8", "trainer.max_steps=400", "optim.lr=0.01")
    result = train(run)
    assert result["stopped"] == "target" and result["steps"] < 400
    run.folder.result_file.unlink()
    kill_at(1)
    assert train(run)["steps"] == result["steps"]


def test_a_diverged_run_ends_says_so_and_writes_valid_json(make_run):
    run = make_run("optim.lr=1e30", "optim.warmup_steps=0", "trainer.max_steps=40")
    result = train(run)
    assert result["stopped"] == "diverged" and result["steps"] < 40
    assert json.loads(run.folder.result_file.read_text())["val"]["loss"] is None


def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(make_run, unbroken):
    run = make_run()
    train(run)
    run.folder.result_file.unlink()  # as a kill before the last line would have left it
    newest = run.folder.checkpoints()[0]
    newest.write_bytes(newest.read_bytes()[:-200])
    with pytest.warns(UserWarning, match=r"step=00000008.ckpt is damaged.*continuing from .*step=00000004.ckpt"):
        train(run)
    assert_same_end(run, unbroken)


def test_a_run_without_a_good_checkpoint_is_an_error(make_run, kill_at):
    run = make_run()
    kill_at(6)
    with pytest.raises(Killed):
        train(run)
    for path in run.folder.checkpoints():
        path.write_bytes(b"PK")
    with pytest.raises(ValueError, match="none is left to continue from, rerun=true starts afresh"):
        train(run)
    assert train(make_run("rerun=true"))["steps"] == 8


def test_one_flipped_bit_is_damage(make_run):
    run = make_run()
    train(run)
    path = run.folder.checkpoints()[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    usable, problems = run.folder.last_checkpoint()
    assert usable == run.folder.checkpoints()[1]
    assert len(problems) == 1 and "is damaged" in problems[0]


def test_a_run_in_use_by_another_process_is_refused(make_run):
    run = make_run()
    run.folder.create(run.config)
    for overrides in ([], ["rerun=true"]):
        with run.folder.lock(), pytest.raises(ValueError, match="is being trained by another process"):
            train(make_run(*overrides))
    assert run.folder.config_file.exists()


def test_a_second_start_changes_nothing_in_the_folder_of_a_run_in_training(make_run):
    run = make_run()
    with run.folder.lock():
        run.folder.create(run.config)
        before = run.folder.config_file.read_bytes()
        with pytest.raises(ValueError, match="is being trained by another process"):
            train(make_run("logger.project=another"))
        assert run.folder.config_file.read_bytes() == before


@pytest.mark.parametrize("pattern", ["A", "L", "S", "L+A", "L:A", "LSAx2"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_every_kind_of_stack_trains(make_run, pattern, precision):
    result = train(make_run(f"pattern={pattern}", f"trainer.precision={precision}", "trainer.max_steps=2"))
    assert result["steps"] == 2
    assert result["val"]["loss"] < 6


def test_the_schedule_is_applied_each_step(make_run):
    run = make_run("optim.warmup_steps=4", "optim.lr=0.4", "optim.min_lr_ratio=0")
    train(run)
    rates = list(read_metrics(run.folder.metrics_file)["train/lr"].values())
    assert rates[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rates[4:] == pytest.approx([0.4, 0.4 * (1 + 0.5**0.5) / 2, 0.2, 0.4 * (1 - 0.5**0.5) / 2])


def test_the_weight_seed_decides_the_weights(make_run):
    first, again, other = (build_model(run, run.task.build()) for run in (make_run(), make_run(), make_run("seed=1")))
    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert any(not torch.equal(a, c) for a, _, c in pairs)


@pytest.mark.filterwarnings("ignore")  # torch 2.13's compiler sets off warnings of its own
def test_only_training_steps_go_through_the_compiled_backbone(make_run, monkeypatch):
    """A compiled backbone keeps the sizes of its batches, and would be compiled again for each context of a recall."""
    shapes, compiled = set(), torch.compile

    def compile_eagerly(function, **options):
        traced = compiled(function, backend="eager")  # in pieces, between the checks of shapes

        def call(x):
            shapes.add(tuple(x.shape))
            return traced(x)

        return call

    monkeypatch.setattr(torch, "compile", compile_eagerly)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the compiler cannot trace shape checks
    plain = train(make_run("trainer.max_steps=2", "trainer.val_every=2", "pattern=L"))
    result = train(make_run("trainer.max_steps=2", "trainer.val_every=2", "pattern=L", "trainer.compile=true"))
    assert shapes == {(12, 16, 16)}
    assert len(result["triangle"]) == 3 and result["step_flops"] == plain["step_flops"]
