"""The commands by name: what each does, and where it is. A command's module is imported when it is called."""

from typing import NamedTuple


class Command(NamedTuple):
    """A command of `hybrids`."""

    text: str
    module: str
    """Of hybrids.cli."""
    function: str = "run"
    """Without arguments where Hydra parses them; `run` takes those that `add_arguments` of its module describes."""


COMMANDS = {
    "train": Command(
        "train a run: hybrids train arch=hybrid pattern=LLLA (Hydra arguments; -m sweeps)", "runs", "run_train"
    ),
    "eval": Command("evaluate a run: hybrids eval run=runs/<id> (Hydra arguments)", "runs", "run_eval"),
    "state": Command(
        "what each layer carries and costs per step: hybrids state pattern=LLLA context=1024 (Hydra arguments)",
        "stacks",
        "run_state",
    ),
    "triangle": Command(
        "Efficiency, Compactness and how they come about: hybrids triangle pattern=LLLA context=1024 (Hydra)",
        "stacks",
        "run_triangle",
    ),
    "task": Command(
        "decoded examples of a task, chance, bits and sizes: hybrids task <name> <setting>=<value>",
        "tasks",
        "run_task",
    ),
    "capacity": Command(
        "how many facts a pattern learns to recall: hybrids capacity pattern=LLLA rates=1e-3,1e-2 (Hydra)",
        "capacity",
        "run_capacity",
    ),
    "bits": Command(
        "how many bits of a trained state matter: hybrids bits runs/<id> levels=16,8,4", "bits", "run_bits"
    ),
    "runs": Command("finished runs, filtered and sorted: hybrids runs pattern=LLLA --sort=recall", "list_runs"),
    "compare": Command(
        "two runs: what differs in settings, and every number side by side: hybrids compare A B", "compare"
    ),
    "report": Command("a page with the figures of a folder of runs: hybrids report runs/sweeps/<date>", "reports"),
    "dashboard": Command(
        "a W&B workspace and report on a sweep: hybrids dashboard runs/sweeps/<date>, or project=.. group=..",
        "dashboard",
        "run_dashboard",
    ),
    "doctor": Command(
        "what runs on this machine: each op and backend, why not, and the command that would make it so", "doctor"
    ),
    "plugins": Command("list what is registered, and from where", "plugins"),
    "patterns": Command("show a pattern's layers, and convert it to and from other notations", "patterns"),
    "atlas": Command(
        "published architectures and what their formulas imply: hybrids atlas, hybrids atlas jamba, or --class EC",
        "atlas",
    ),
    "check": Command("run the conformance checks on a plugin: hybrids check mixer=<name>", "checks"),
}
