"""The commands beside train and eval: help, plugins, patterns and checks; what none of them knows."""

import io

import pytest
from hydra.errors import HydraException

from hybrids import registry
from hybrids.cli import print_anywhere
from hybrids.config.explain import explain


def test_without_a_command_the_help_is_shown(hybrids):
    reply = hybrids()
    assert reply.code != 0
    for command in ("train", "eval", "plugins", "patterns", "check"):
        assert f"\n    {command} " in reply.out


@pytest.mark.parametrize("arguments", [["--help"], ["patterns", "--help"], ["check", "-h"]])
def test_help(hybrids, arguments):
    assert "usage: hybrids" in hybrids(*arguments).said()


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
        (["report", "runs", "--letter", "foo"], "--letter=foo is no letter of a pattern; allowed: one of A-Z"),
        (["report", ""], "the folder is empty; give a folder that holds runs"),
        (["bits", ""], "an argument is empty; give a folder, or a setting as key=value"),
        (["eval", "run=runs/x", "hydra.mode=MULTIRUN"], "-m sweeps over runs; only hybrids train does that"),
        (["train", "--pattern", "LLLA"], "unknown option '--pattern'; write pattern=<value>"),
        (["train", "runs_dir="], "runs_dir= is empty; give a folder"),
        (["eval", "run=runs/mqar-L~A-0123abcd"], "run=runs/mqar-L~A-0123abcd does not exist"),
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
    reply = hybrids("plugins", "--check")
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


@pytest.mark.parametrize(("launcher", "extra"), [("ray", "ray"), ("submitit_slurm", "slurm")])
def test_a_launcher_that_is_not_installed_names_its_extra(launcher, extra):
    listing = f"Could not find 'hydra/launcher/{launcher}'\n\nAvailable options in 'hydra/launcher':\n\tbasic"
    assert explain(HydraException(listing)).endswith(f"is not installed: pip install 'hybrids[{extra}]'")


def test_a_terminal_without_our_characters_gets_a_question_mark(monkeypatch):
    shown = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(shown, encoding="ascii"))  # as under LC_ALL=C
    print_anywhere()
    print("r \u2264 s", flush=True)
    assert shown.getvalue() == b"r ? s\n"
