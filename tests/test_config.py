"""Schemas from signatures, presets, what composition refuses, and which values make a run another run."""

import inspect
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from hybrids import registry
from hybrids.config import open_run, schema_of, spell_overrides, store_schemas
from hybrids.explain import USER_ERRORS, explain
from hybrids.optim import OptimSettings
from hybrids.record import RunFolder

CONF = Path(__file__).parent.parent / "conf"
EVERY_GROUP = ("arch", "trainer", "logger", "debug", "experiment")


@pytest.fixture
def complaint(make_run):
    """The sentence that a user reads about these overrides."""

    def complain(*overrides):
        with pytest.raises(USER_ERRORS) as caught:
            make_run(*spell_overrides(overrides))
        return explain(caught.value)

    return complain


_usual: list[str] = []


@pytest.fixture
def usual_id(make_run):
    """Id of the tiny run without overrides."""
    if not _usual:
        _usual.append(make_run().id)
    return _usual[0]


def name_of_mixer(run, letter):
    mixer = run.letters[letter].mixer
    return None if mixer is None else registry.name_of(mixer.cls)


def name_of_channel(run, letter):
    channel = run.letters[letter].channel
    return None if channel is None else registry.name_of(channel.cls)


# Schemas


@pytest.mark.parametrize("entry", registry.entries(), ids=lambda entry: f"{entry.kind}={entry.name}")
def test_the_schema_of_a_plugin_is_its_signature(entry):
    keywords = [p for p in inspect.signature(entry.cls).parameters.values() if p.kind is p.KEYWORD_ONLY]
    hints = get_type_hints(entry.cls.__init__)
    schema = schema_of(entry.cls)
    assert [(f.name, f.type) for f in fields(schema)] == [("name", str), *((p.name, hints[p.name]) for p in keywords)]
    assert vars(schema()) == {"name": entry.name, **{p.name: p.default for p in keywords}}


def test_the_options_of_a_plugin_group_are_the_registry(make_run):
    make_run()
    with initialize_config_module("hybrids_conf", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        for kind in registry.KINDS:
            none = [] if kind == "task" else ["none"]
            assert loader.get_group_options(kind) == sorted([*registry.names(kind), *none])


@pytest.mark.parametrize(
    ("annotation", "default", "reason"),
    [
        ("Literal['a', 'b']", "'a'", "Literal"),
        ("int", "inspect.Parameter.empty", "setting 'size' has no default"),
        (None, "3", "setting 'size' has no annotation"),
        ("NoSuchType", "3", "NoSuchType"),
    ],
)
def test_a_plugin_that_no_configuration_can_hold_is_rejected_alone(monkeypatch, annotation, default, reason):
    for name in ("_entries", "_rejected"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))
    start = "=3" if default == "3" else ("" if "empty" in default else f"={default}")
    code = (
        f"class Odd:\n def __init__(self, d_model: int, *, size{f': {annotation}' if annotation else ''}{start}): ..."
    )
    scope = {"Literal": __import__("typing").Literal, "__name__": __name__}
    exec(compile("from __future__ import annotations\n" + code, "odd", "exec"), scope)
    registry.register("channel", "odd", source="a test")(scope["Odd"])
    store_schemas()
    with pytest.raises(ValueError, match=f"channel 'odd' cannot be used: .*{reason}"):
        registry.get("channel", "odd")
    assert "swiglu" in registry.names("channel")


def test_list_defaults_are_not_shared(monkeypatch):
    class Lists:
        def __init__(self, *, sizes: list[int] = [1, 2]) -> None: ...  # noqa: B006

    monkeypatch.setattr(
        registry, "_entries", {**registry._entries, ("task", "lists"): registry.Entry("task", "lists", Lists, "")}
    )
    first, second = schema_of(Lists)(), schema_of(Lists)()
    first.sizes.append(3)
    assert second.sizes == [1, 2]


# Presets


@pytest.mark.parametrize(
    "preset", [f"{group}={path.stem}" for group in EVERY_GROUP for path in sorted((CONF / group).glob("*.yaml"))]
)
def test_every_preset_composes(make_run, preset):
    run = make_run(preset)
    assert len(run.pattern) >= 1
    assert set(run.pattern.letters) <= set(run.letters)


@pytest.mark.parametrize(
    ("arch", "pattern", "linear", "mamba"),
    [
        ("hybrid", "LLLA", "gated_delta_net", "mamba2"),
        ("transformer", "AA", "gated_delta_net", "mamba2"),
        ("linear", "LL", "linear_attention", "mamba2"),
        ("gated_delta_net", "LL", "gated_delta_net", "mamba2"),
        ("mamba", "MM", "gated_delta_net", "mamba"),
        ("mamba2", "MM", "gated_delta_net", "mamba2"),
    ],
)
def test_architectures_are_what_their_names_say(make_run, arch, pattern, linear, mamba):
    run = make_run(f"arch={arch}")
    assert run.pattern.compact() == pattern
    letters = {"A": "attention", "S": "sliding_attention", "L": linear, "M": mamba}
    assert {letter: name_of_mixer(run, letter) for letter in run.letters} == letters


@pytest.mark.parametrize(
    ("logger", "wandb", "tensorboard"),
    [("csv", False, False), ("wandb", True, False), ("tensorboard", False, True)],
)
def test_loggers(make_run, logger, wandb, tensorboard):
    run = make_run(f"logger={logger}")
    assert (run.logger.wandb, run.logger.tensorboard) == (wandb, tensorboard)


def test_an_override_beats_the_preset(make_run):
    run = make_run("debug=limit", "trainer.max_steps=3", "arch=transformer", "pattern=AAA")
    assert (run.trainer.max_steps, run.pattern.compact()) == (3, "AAA")


# Letters


def test_a_letter_is_bound_with_its_own_settings(make_run):
    run = make_run("mixer@mixers.L=linear_attention", "mixers.L.num_heads=4")
    assert name_of_mixer(run, "L") == "linear_attention"
    assert run.letters["L"].mixer.settings["num_heads"] == 4


def test_a_new_letter_is_added_with_a_plus(make_run):
    run = make_run("+mixer@mixers.R=linear_attention", "pattern=LR")
    assert name_of_mixer(run, "R") == "linear_attention"
    assert name_of_channel(run, "R") == "swiglu"


def test_a_letter_without_mixer_is_a_free_standing_channel_layer(make_run):
    run = make_run("+mixer@mixers.F=none", "pattern=LF", "channel@channels.L=none")
    assert (name_of_mixer(run, "F"), name_of_channel(run, "F")) == (None, "swiglu")
    assert (name_of_mixer(run, "L"), name_of_channel(run, "L")) == ("gated_delta_net", None)


@pytest.mark.parametrize("spelling", ["channel=mlp", "channel@channel=mlp"])
def test_the_channel_mixer_of_all_letters(make_run, spelling):
    run = make_run(*spell_overrides([spelling]), "channel.expansion=2", "channel@channels.A=swiglu")
    expected = {letter: "swiglu" if letter == "A" else "mlp" for letter in "ASLM"}
    assert {letter: name_of_channel(run, letter) for letter in run.letters} == expected
    assert run.letters["L"].channel.settings["expansion"] == 2


# What is refused


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("lr=1", "unknown setting 'lr'; did you mean 'optim.lr'?"),
        ("seeed=1", "unknown setting 'seeed'; did you mean 'seed'? allowed: pattern, "),
        ("+unknown=1", "unknown setting 'unknown'; allowed: pattern, mixers, "),
        ("++optim.momentum=1", "unknown setting 'optim.momentum'; allowed: lr, weight_decay, "),
        ("model.d_modle=4", "unknown setting 'model.d_modle'; did you mean 'd_model'? allowed: d_model, "),
        ("mixers.L.num_head=4", "unknown setting 'mixers.L.num_head'; did you mean 'num_heads'? allowed: num_heads, "),
        ("+mixers.L.num_head=4", "unknown setting 'mixers.L.num_head'; did you mean 'num_heads'? allowed: num_heads, "),
        ("task.num_pair=4", "unknown setting 'task.num_pair'; did you mean 'num_pairs'? allowed: vocab_size, "),
        ("optim.lr=fast", "optim.lr=fast is not a number"),
        ("model.d_model=1.5", "model.d_model=1.5 is not a whole number"),
        ("++mixers.L.num_heads=two", "mixers.L.num_heads=two is not a whole number"),
        ("rerun=maybe", "rerun=maybe is not true or false"),
        ("seed=null", "seed=null is not allowed; leave seed out for its default"),
        ("optim=adam", "optim=adam is not allowed: optim has no options, but settings: optim.lr, "),
        ("mixers=3", "mixers is a group of settings, not one value"),
        ("task.segments=5", "task.segments must be a list"),
        (
            "arch=hybird",
            "unknown arch 'hybird'; did you mean 'hybrid'? allowed: based, command_a, falcon_h1, ",
        ),
        ("mixer@mixers.L=linear_atention", "unknown mixer 'linear_atention'; did you mean 'linear_attention'? allowed"),
        ("channel=swigul", "unknown channel 'swigul'; did you mean 'swiglu'? allowed: mlp, swiglu, none"),
        ("task=mqr", "unknown task 'mqr'; did you mean 'mqar'? allowed: "),
        ("logger=wnadb", "unknown logger 'wnadb'; did you mean 'wandb'? allowed: csv, tensorboard, wandb"),
        ("experiment=first", "unknown experiment 'first'; allowed: mqar_mixture"),
        ("task=null", "task=null is not allowed: name an option"),
        ("mixer=attention", "mixer needs a letter; write mixer@mixers.L=<mixer>"),
        ("mixers.L=attention", "mixers.L=attention names no mixer; write mixer@mixers.L=<mixer>, allowed: attention, "),
        ("mixers.X.window=2", "the letter X is not bound; bound: A, L, M, S; bind it with +mixer@mixers.X=<mixer>"),
        ("mixer@mixers.X=attention", "the letter X is not bound; bind it with +mixer@mixers.X=<mixer>"),
        (
            "channel@channels.R=none",
            "channels.R is set, but the letter R is not bound; bound: A, L, M, S; bind it with +",
        ),
        ("+mixer@mixers.LL=attention", "mixers.LL: 'LL' is no letter of a pattern; allowed: one of A-Z"),
        ("+mixer@mixers.m=attention", "mixers.m: 'm' is no letter of a pattern; allowed: one of A-Z"),
        ("+mixer@mixers.L=attention", "mixer@mixers.L is chosen already; to choose another, leave the + out"),
        ("seed=-1", "seed=-1 must lie between 0 and 4294967295"),
        ("seed=4294967296", "seed=4294967296 must lie between 0 and 4294967295"),
        ("data.batch_size=-1", "data.batch_size=-1 must be at least 1"),
        ("trainer.strategy=fast", "trainer.strategy='fast' is unknown; allowed: auto, ddp"),
        ("trainer.precision=16", "trainer.precision='16' is unknown; allowed: 32-true, bf16-mixed"),
        ("trainer.accelerator=tpu", "trainer.accelerator='tpu' is unknown; allowed: cpu, gpu"),
        ("trainer.profiler=slow", "trainer.profiler='slow' is unknown; allowed: null, simple, advanced, pytorch"),
        ("logger.wandb_mode=on", "logger.wandb_mode"),
        ("logger.wandb_timeout=0", "logger.wandb_timeout=0 must be at least 1"),
        ("pattern=[LA]", "pattern '[LA]', column 1: '[' cannot stand here"),
        ("pattern=true", "pattern 'true', column 1: 't' is lower case"),
        ("pattern=12", "pattern '12', column 1: a number may stand only after x"),
        ("pattern=null", "pattern 'null': no pattern is given; write one such as LLLA"),
        ("pattern=", "pattern '': no pattern is given; write one such as LLLA"),
        ("pattern=L{A", "pattern 'L{A', column 2: '{' cannot stand here"),
        ("pattern=LA,LL", "pattern 'LA,LL', column 3: ',' cannot stand here"),
        ("seed=1,2", "seed=1,2 gives several values; add -m to sweep over them"),
        ("logger.group=a{b", "logger.group=a{b cannot be read (mismatched input '{' expecting <EOF>); quote the value"),
        ("word", "'word' is not an argument; write key=value"),
    ],
)
def test_what_a_user_gets_wrong_is_one_sentence(complaint, override, sentence):
    said = complaint(override)
    assert said.startswith(sentence)
    assert "\n" not in said


def test_a_sweep_without_m_says_so(complaint):
    assert complaint("pattern=LA,LL").endswith("to sweep over several patterns, add -m")


def test_the_machine_is_checked_when_training_starts_not_when_a_run_is_opened(make_run, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    run = make_run("trainer=gpu")
    with pytest.raises(ValueError, match=r"trainer\.accelerator=gpu with devices=1: this machine has 0 usable"):
        run.trainer.check_devices()


# Identity


def test_a_run_read_back_from_its_folder_is_the_same_run(make_run):
    run = make_run("pattern=LF.L+A", "+mixer@mixers.F=none", "task.segments=[[16,2,3],[8,1,1]]", "optim.lr=1e-3")
    run.folder.create(run.config)
    again, folder = open_run(run.folder.path)
    assert again.identity == run.identity
    assert again.id == run.id
    assert again.config == run.config
    assert folder.path == run.folder.path


@pytest.mark.parametrize(
    "override",
    [
        "logger=wandb",
        "logger.project=other",
        "data.num_workers=2",
        "trainer=ddp_cpu",
        "trainer.threads=2",
        "trainer.log_every=3",
        "trainer.profiler=simple",
        "trainer.progress_bar=true",
        "rerun=true",
        "mixers.A.num_heads=2",  # its default
        "mixers.S.window=8",  # a letter that the pattern does not use
        "+mixer@mixers.R=linear_attention",
        "mixer@mixers.S=linear_attention",
        "pattern=LLLAx1",
    ],
)
def test_what_cannot_change_a_number_does_not_change_the_id(make_run, usual_id, override):
    assert make_run(override).id == usual_id


def test_a_default_that_is_written_out_does_not_change_the_id(make_run, usual_id):
    assert make_run(f"optim.lr={OptimSettings().lr}").id == usual_id


def test_the_folder_of_runs_is_not_part_of_the_id(make_run, usual_id):
    assert make_run("runs_dir=elsewhere").id == usual_id


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "data.seed=1",
        "data.batch_size=6",
        "trainer.precision=bf16-mixed",
        "trainer.compile=true",
        "trainer.max_steps=9",
        "pattern=LLA",
        "pattern=LLL+A",
        "pattern=LLL:A",
        "optim.lr=0.001",
        "mixers.A.num_heads=1",
        "mixer@mixers.L=linear_attention",
        "channel=mlp",
        "channel@channels.A=none",
        "task.power=1",
        "model.tie_embeddings=false",
    ],
)
def test_what_can_change_a_number_changes_the_id(make_run, usual_id, override):
    assert make_run(override).id != usual_id


def test_spellings_of_one_stack_are_one_run(make_run):
    ids = {make_run(f"pattern={text}").id for text in ("LLLAx2", "LLLALLLA", "Lx3.A.Lx3.A", "LLLA.LLLA")}
    assert len(ids) == 1


def test_defaults_do_not_enter_the_identity(make_run):
    identity = make_run().identity
    assert identity["optim"] == {}
    assert identity["letters"]["A"] == {"mixer": {"name": "attention"}, "channel": {"name": "swiglu"}}
    assert identity["task"] == {"name": "mqar", "vocab_size": 64, "length": 16, "num_pairs": 2}


def test_the_id_is_a_plain_folder_name(make_run):
    for text in ("L:A", "L+A", "Lx3.A", "LASx999.LLAx77.AASSx55.LSLAx33"):
        name = make_run(f"pattern={text}").id
        assert not set(name) & set(":/\\ *?'\"<>|&;$"), name
        assert len(name) < 64


# Folders that are no runs


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
        ("", "holds no settings"),
        ("pattern: LLXA\nbogus: 1\ntask: {name: mqar}", "cannot be used: unknown setting 'bogus'"),
        ("pattern: LA\ntask: {name: gone}", "cannot be used: unknown task 'gone'"),
        ("pattern: LA\ntask: {name: mqar, length: long}", "cannot be used: task.length=long is not a whole number"),
        ("pattern: LA", "cannot be used: task=null names no task; write task=<task>, allowed: "),
    ],
)
def test_a_damaged_configuration_is_named(tmp_path, text, reason):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=f"config.yaml .*{reason}"):
        open_run(tmp_path)


@pytest.mark.parametrize("text", ["", "{", '{"version": 99}'])
def test_a_damaged_result_is_named(tmp_path, text):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(ValueError, match=r"result.json (is damaged|has version 99; this hybrids reads version)"):
        RunFolder(tmp_path).read_result()
