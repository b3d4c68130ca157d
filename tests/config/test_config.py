"""What Hydra composes: presets, letters with their settings, and the sentence about what is refused."""

from pathlib import Path

import pytest

from hybrids import registry
from hybrids.config.compose import spell_overrides
from hybrids.config.explain import explain, user_errors

CONF = Path(__file__).parents[2] / "conf"
EVERY_GROUP = ("arch", "trainer", "logger", "debug", "experiment")


@pytest.fixture
def complaint(make_run):
    """The sentence that a user reads about these overrides."""

    def complain(*overrides):
        with pytest.raises(user_errors()) as caught:
            make_run(*spell_overrides(overrides))
        return explain(caught.value)

    return complain


def name_of_mixer(run, letter):
    mixer = run.letters[letter].mixer
    return None if mixer is None else registry.name_of(mixer.cls)


def name_of_channel(run, letter):
    channel = run.letters[letter].channel
    return None if channel is None else registry.name_of(channel.cls)


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


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("lr=1", "unknown setting 'lr'; did you mean 'optim.lr'?"),
        ("seeed=1", "unknown setting 'seeed'; did you mean 'seed'? allowed: pattern, "),
        ("+unknown=1", "unknown setting 'unknown'; allowed: pattern, mixers, "),
        ("++optim.momentum=1", "unknown setting 'optim.momentum'; allowed: lr, weight_decay, "),
        ("model.d_modle=4", "unknown setting 'model.d_modle'; did you mean 'd_model'? allowed: d_model, "),
        ("mixers.L.num_head=4", "unknown setting 'mixers.L.num_head'; did you mean 'num_heads'? allowed: num_heads, "),
        ("mixers.A.backend=torch", "unknown setting 'mixers.A.backend'; allowed: "),
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
        ("seed=-1", "seed=-1 must be from 0 to 4294967295"),
        ("seed=4294967296", "seed=4294967296 must be from 0 to 4294967295"),
        ("data.batch_size=-1", "data.batch_size=-1 must be at least 1"),
        ("trainer.strategy=fast", "trainer.strategy='fast' is unknown; allowed: auto, ddp"),
        ("trainer.precision=16", "trainer.precision='16' is unknown; allowed: 32-true, bf16-mixed"),
        ("trainer.accelerator=tpu", "trainer.accelerator='tpu' is unknown; did you mean 'gpu'? allowed: cpu, gpu"),
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
