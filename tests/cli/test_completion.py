"""`hybrids completion`: what a shell offers after what was typed."""

import shutil
import subprocess

import pytest

TRY = """
compopt() { :; }
while read -r line; do
    COMP_LINE="${line%|}"; COMP_POINT=${#COMP_LINE}; _hybrids; echo "${COMPREPLY[@]}"
done
"""


@pytest.fixture
def offered(hybrids):
    script = hybrids("completion", "bash").said()

    def complete(*lines):
        typed = "".join(f"{line}|\n" for line in lines)  # the bar keeps a space at the end
        command = ["bash", "--norc", "-c", f"{script}\n{TRY}"]
        done = subprocess.run(command, input=typed, capture_output=True, text=True, check=True)
        return [line.split() for line in done.stdout.splitlines()]

    return complete


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_commands_groups_settings_and_options_are_offered(offered):
    lines = (
        "hybrids tra",
        "hybrids train task=mq",
        "hybrids train trainer.max",
        "hybrids runs --so",
        "hybrids task ind",
    )
    commands, tasks, settings, options, named = offered(*lines)
    assert commands == ["train"] and {"mqar", "mqar_updates"} <= set(tasks)
    assert (settings, options, named) == (["trainer.max_steps="], ["--sort"], ["index", "induction"])
    first, plugins = offered("hybrids ", "hybrids check mixer=gl")
    assert "compare" in first and plugins == ["gla"]


def test_zsh_takes_the_same_script(hybrids):
    bash, zsh = (hybrids("completion", shell).said() for shell in ("bash", "zsh"))
    assert zsh.endswith(bash) and "bashcompinit" in zsh
