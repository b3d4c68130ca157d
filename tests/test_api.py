"""`import hybrids as hy`: the page on it runs, wrong calls explain themselves, and the import alone costs nothing."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hybrids as hy
from hybrids.errors import UserError
from hybrids.model.measure import measure_step

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "python.md").read_text()
EMA = ROOT / "tests" / "examples" / "ema.py"
TINY = ("task.vocab_size=64", "task.length=16", "task.num_pairs=2")


def run_program(program, folder):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=folder)


def test_every_block_of_the_page_runs(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    shutil.copy(EMA, tmp_path)
    done = run_program("\n".join(["import torch; torch.set_num_threads(1)", *blocks]), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Efficiency 0." in done.stdout and len(list(tmp_path.glob("runs/*/result.json"))) == 1


def test_the_import_alone_imports_nothing(tmp_path):
    done = run_program("import hybrids, sys; print(sorted(n for n in sys.modules if 'hybrids' in n))", tmp_path)
    assert "torch" not in done.stdout and done.stdout.count("hybrids.") == 0
    assert hy.__version__ and "build" in dir(hy)
    with pytest.raises(AttributeError, match="it has build, decode, load"):
        hy.bild  # noqa: B018


@pytest.fixture(scope="module")
def built():
    return hy.build("LA", *TINY, d_model=16, seed=3)


def test_a_stack_is_that_of_a_run(built, make_run):
    model, task = built
    assert (task.length, model.backbone.d_model) == (16, 16)
    again, _ = hy.build("LA", *TINY, d_model=16, seed=3)
    other, _ = hy.build("LA", *TINY, d_model=16, seed=4)
    weights = [m.embedding.weight for m in (model, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_a_batch_is_that_of_the_split(built):
    _, task = built
    batch = hy.sample(task, 4)
    assert torch.equal(hy.sample(task, 2, first=2).tokens, batch.tokens[2:])
    assert not torch.equal(hy.sample(task, 4, split="test").tokens, batch.tokens)


def test_sizes_are_measured(built):
    model, _ = built
    found, cost = hy.measure(model, 64), measure_step(model.backbone, 16, 64)
    assert (found.state_bits, found.step_flops, found.step_bytes) == (cost.state_bits, cost.flops, cost.bytes_read)
    assert 0 < found.compactness < found.efficiency < 1


def test_a_run_is_trained_opened_and_listed(tmp_path):
    small = ("data.num_val_examples=8", "data.num_test_examples=8", "data.num_recall_examples=4", "trainer.max_steps=2")
    quiet = ("trainer.progress_bar=false", "data.batch_size=8", "data.eval_batch_size=8")
    run = hy.train("LA", *TINY, *small, *quiet, d_model=16, runs_dir=tmp_path)
    opened = hy.load(run.path)
    assert opened.result is not None and opened.result["steps"] == 2
    batch = hy.sample(opened.task, 8, split="test")
    assert opened.model.answer(batch)[1].double().mean() == pytest.approx(opened.result["test"]["accuracy"])
    assert opened.metrics[-1]["test/accuracy"] == opened.result["test"]["accuracy"]
    (row,) = hy.runs(tmp_path)
    assert (row["path"], row["pattern"], row["steps"]) == (str(run.path), "LA", 2)
    assert row["efficiency"] == opened.result["triangle"][0]["efficiency"]


def test_plugins_are_given_as_files(tmp_path, own_plugins):
    file = tmp_path / "ema.py"
    shutil.copy(EMA, file)
    small = ("data.num_val_examples=8", "data.num_test_examples=8", "data.num_recall_examples=4", "trainer.max_steps=2")
    quiet = ("trainer.progress_bar=false", "data.batch_size=8", "data.eval_batch_size=8")
    chosen = ("+mixer@mixers.E=ema", *TINY, *small, *quiet)
    with pytest.raises(UserError, match="unknown mixer 'ema'"):
        hy.build("EA", *chosen)
    run = hy.train("EA", *chosen, d_model=16, runs_dir=tmp_path, plugins=file)
    file.write_text(file.read_text() + "HORIZON = 3\n")
    changed, _ = hy.build("EA", *chosen, d_model=16, plugins=[file])  # as from a notebook that goes on
    former = type(run.model.backbone.blocks[0].mixers[0])
    assert type(changed.backbone.blocks[0].mixers[0]).__module__ != former.__module__
    with pytest.raises(UserError, match=r"needs|has another content"):
        hy.load(run.path)
    shutil.copy(EMA, file)
    assert hy.load(run.path, plugins=[str(file)]).model.backbone.pattern == run.model.backbone.pattern


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: hy.build("LLXA"), "pattern=LLXA uses the letter X"),
        (lambda: hy.build("LA", task="mqr"), "unknown task 'mqr'; did you mean 'mqar'"),
        (lambda: hy.build("LA", "task.num_pair=4"), "unknown setting 'task.num_pair'"),
        (lambda: hy.build("LA", 5), "5 is no setting; write it as on the command line"),
        (lambda: hy.build("LA", plugins="nowhere.py"), "plugins=nowhere.py does not exist"),
        (lambda: hy.build("LA", "plugins=a.py", plugins="b.py"), "plugins= is given twice; write plugins=b.py,a.py"),
        (lambda: hy.load("nowhere", plugins=["nowhere.py"]), "plugins=nowhere.py does not exist"),
        (lambda: hy.build("LA", d_model=0), "model.d_model=0 must be at least 1"),
        (lambda: hy.load("nowhere"), "run=nowhere does not exist"),
        (lambda: hy.runs("nowhere"), "nowhere is not a folder"),
        (lambda: hy.sample(hy.build("LA")[1], split="tests"), "split='tests' is unknown; did you mean 'test'"),
        (lambda: hy.decode(*hy.build("LA")), "task mqar is not decoded"),
        (lambda: hy.measure(hy.build("LA")[0], 0), "context=0 must be at least 1"),
    ],
)
def test_a_wrong_call_explains_itself(call, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        call()
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("call", ["model(batch)", "model(batch.tokens, batch)"])
def test_a_batch_is_not_taken_for_tokens(call, tmp_path):
    """In a process of its own: in tests the shape checks complain before."""
    program = f"import hybrids as hy; model, task = hy.build('LA'); batch = hy.sample(task, 2); {call}"
    assert (
        "a model reads tokens: model(batch.tokens, positions=batch.positions)" in run_program(program, tmp_path).stderr
    )
