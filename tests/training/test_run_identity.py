"""What makes a run another run, and a run that is read back from its folder."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from hybrids.config.build import build_run, open_run
from hybrids.errors import UserError
from hybrids.training.record import RunFolder
from hybrids.training.settings import OptimSettings


@pytest.fixture(scope="module")
def usual(make_run_in, tmp_path_factory):
    """The tiny run without overrides."""
    return make_run_in(tmp_path_factory.mktemp("runs"))


def changed(run, **settings):
    """The run with other values in its configuration."""
    config = OmegaConf.create(run.config)
    for name, value in settings.items():
        OmegaConf.update(config, name, value, merge=False)
    return build_run(config)


def test_a_run_read_back_from_its_folder_is_the_same_run(make_run):
    run = make_run("pattern=LF.L+A", "+mixer@mixers.F=none", "task.segments=[[16,2,3],[8,1,1]]", "optim.lr=1e-3")
    run.folder.create(run.config)
    again, folder = open_run(run.folder.path)
    assert again.identity == run.identity
    assert again.id == run.id
    assert again.config == run.config
    assert folder.path == run.folder.path


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(
            (
                "logger=wandb",
                "logger.project=other",
                "data.num_workers=2",
                "trainer=ddp_cpu",
                "trainer.threads=2",
                "trainer.log_every=3",
                "trainer.profiler=simple",
                "trainer.progress_bar=true",
                "rerun=true",
                "runs_dir=elsewhere",
            ),
            id="where and how it runs",
        ),
        pytest.param(
            ("mixers.A.num_heads=2", f"optim.lr={OptimSettings().lr}", "pattern=LLLAx1"), id="defaults written out"
        ),
        pytest.param(("mixers.S.window=8", "+mixer@mixers.R=linear_attention"), id="letters that it does not use"),
        pytest.param(("mixer@mixers.S=linear_attention",), id="another mixer for such a letter"),
    ],
)
def test_what_cannot_change_a_number_does_not_change_the_id(make_run, usual, overrides):
    run = make_run(*overrides)
    assert run.config != usual.config
    assert run.identity == usual.identity
    assert run.id == usual.id


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 1),
        ("data.seed", 1),
        ("data.batch_size", 6),
        ("trainer.precision", "bf16-mixed"),
        ("trainer.compile", True),
        ("trainer.max_steps", 9),
        ("pattern", "LLA"),
        ("pattern", "LLL+A"),
        ("pattern", "LLL:A"),
        ("optim.lr", 0.001),
        ("mixers.A.num_heads", 1),
        ("mixers.L", {"name": "linear_attention"}),
        ("channel", {"name": "mlp"}),
        ("channels.A", {"name": "none"}),
        ("task.power", 1.0),
        ("model.tie_embeddings", False),
    ],
)
def test_what_can_change_a_number_changes_the_id(usual, name, value):
    assert changed(usual, **{name: value}).id != usual.id


def test_spellings_of_one_stack_are_one_run(usual):
    ids = {changed(usual, pattern=text).id for text in ("LLLAx2", "LLLALLLA", "Lx3.A.Lx3.A", "LLLA.LLLA")}
    assert len(ids) == 1


def test_defaults_do_not_enter_the_identity(usual):
    assert usual.identity["optim"] == {}
    assert usual.identity["letters"]["A"] == {"mixer": {"name": "attention"}, "channel": {"name": "swiglu"}}
    assert usual.identity["task"] == {"name": "mqar", "vocab_size": 64, "length": 16, "num_pairs": 2}


def test_the_id_is_a_plain_folder_name(usual):
    for text in ("L:A", "L+A", "Lx3.A", "LASx999.LLAx77.AASSx55.LSLAx33"):
        name = changed(usual, pattern=text).id
        assert not set(name) & set(":/\\ *?'\"<>|&;$"), name
        assert len(name) < 64


def test_a_folder_that_is_no_run_is_refused(tmp_path, make_run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run()
    run.folder.create(run.config)
    near = f"runs nearby: runs/{run.id}"
    for path in ("runs/nope", "nope", "runs", run.id):
        with pytest.raises(ValueError, match=f"^run={path} .*{near}$"):
            open_run(Path(path))


def test_where_there_are_no_runs_the_message_says_how_to_name_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=r"does not exist; there are no runs nearby; give the folder of a run: run=runs"
    ):
        open_run(tmp_path / "nope")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pattern: [", "is damaged"),
        ("", "is damaged: it is no group of names and values"),
        (b"\xff\xfe", "is damaged"),
        ("pattern: LLXA\nbogus: 1\ntask: {name: mqar}", "cannot be used: unknown setting 'bogus'"),
        ("pattern: LA\ntask: {name: gone}", "cannot be used: unknown task 'gone'"),
        ("pattern: LA\ntask: {name: mqar, length: long}", "cannot be used: task.length=long is not a whole number"),
        ("pattern: LA", "cannot be used: task=null names no task; write task=<task>, allowed: "),
    ],
)
def test_a_damaged_configuration_is_named(tmp_path, text, reason):
    (tmp_path / "config.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=f"config.yaml .*{reason}"):
        open_run(tmp_path)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b'{"version": 99}'])
def test_a_damaged_result_is_named(tmp_path, text):
    (tmp_path / "result.json").write_bytes(text)
    with pytest.raises(UserError, match=r"result.json (is damaged|has version 99; this hybrids reads version)"):
        RunFolder(tmp_path).read_result()
