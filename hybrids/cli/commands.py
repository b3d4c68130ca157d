"""The commands by name: what each does, and where it is. A command's module is imported when it is called."""

from importlib.resources import files
from typing import NamedTuple


class Command(NamedTuple):
    """A command of `hybrids`."""

    text: str
    """What it does, in a line of 80 columns."""
    module: str
    """Of hybrids.cli."""
    function: str = "run"
    """Without arguments where Hydra parses them; `run` takes those that `add_arguments` of its module describes."""


COMMANDS = {
    "train": Command("train a run, or with -m a sweep", "runs", "run_train"),
    "eval": Command("evaluate a run on a grid of sizes", "runs", "run_eval"),
    "state": Command("what each layer carries and costs per step, untrained", "stacks", "run_state"),
    "triangle": Command("Efficiency, Compactness and how they come about", "stacks", "run_triangle"),
    "task": Command("examples of a task, its chance, bits and sizes", "tasks", "run_task"),
    "capacity": Command("how many facts a pattern learns to recall", "capacity", "run_capacity"),
    "bits": Command("how many bits of a trained state matter", "bits", "run_bits"),
    "runs": Command("finished runs, filtered and sorted", "list_runs"),
    "compare": Command("two runs: what differs, and every number side by side", "compare"),
    "report": Command("a page with the figures of a folder of runs", "reports"),
    "dashboard": Command("a W&B workspace and report on a folder of runs", "dashboard", "run_dashboard"),
    "doctor": Command("which kernels run on this machine, and why others do not", "doctor"),
    "plugins": Command("mixers, channel mixers and tasks, and where they are from", "plugins"),
    "patterns": Command("the layers of a pattern, and other notations of it", "patterns"),
    "atlas": Command("published architectures and what their formulas imply", "atlas"),
    "check": Command("the conformance checks of a plugin", "checks"),
    "completion": Command("a script that completes commands and settings in a shell", "completion"),
}


def read_examples(name: str) -> list[str]:
    """Arguments of calls that work; <id> and <date> stand for those of runs and sweeps that are there."""
    import yaml  # for help alone

    return yaml.safe_load(files("hybrids_conf").joinpath("examples.yaml").read_text(encoding="utf-8"))[name]


def introduce(name: str) -> str:
    """What a command does, and its examples, a line each."""
    calls = (f"    hybrids {name} {example}".rstrip() for example in read_examples(name))
    return "\n".join([COMMANDS[name].text, *calls])
