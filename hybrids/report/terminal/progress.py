"""How far a search of many runs has come, and how long it will take."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from hybrids.studies.capacity.search import Trial
from hybrids.training.record import Result
from hybrids.training.run import Run


class RunsBar:
    """A bar over runs with the time left, and one line for each run that has ended; off a terminal only the lines.

    Time left: mean training time of the runs that have ended, earlier ones that are only read again included.
    """

    def __init__(self, num_runs: int) -> None:
        self.console = Console(soft_wrap=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _TimeLeft(self))
        self.progress = Progress(*columns, console=self.console, disable=not sys.stdout.isatty())
        self.task = self.progress.add_task("runs", total=num_runs)
        self.num_runs, self.num_ended, self.seconds, self.since = num_runs, 0, 0.0, time.monotonic()

    def __enter__(self) -> "RunsBar":
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    @property
    def seconds_left(self) -> float | None:
        """None before any run has ended."""
        if self.num_ended == 0:
            return None
        mean = self.seconds / self.num_ended
        return max(0.0, mean * (self.num_runs - self.num_ended) - (time.monotonic() - self.since))

    def start(self, run: Run) -> None:
        self.since = time.monotonic()
        self.progress.update(self.task, description=f"{run.pattern.compact()} rate {run.optim.lr:g} seed {run.seed}")

    def end(self, trial: Trial, result: Result) -> None:
        self.num_ended, self.seconds = self.num_ended + 1, self.seconds + result["seconds"]
        self.since = time.monotonic()
        self.num_runs = max(self.num_runs, self.num_ended)  # a bisection takes as many runs as it takes
        self.progress.update(self.task, completed=self.num_ended, total=self.num_runs)
        facts = max(trial.curve)
        found = f"accuracy {trial.curve[facts]:.4f} at K={facts}" if len(trial.curve) == 1 else f"{trial.capacity:.2f}"
        told = f"rate {trial.rate:g} seed {trial.seed}: K* {found}, {result['seconds']:.1f} s, {trial.run}"
        self.console.print(told, markup=False, highlight=False)

    def confirm(self) -> None:
        """Say that the runs of a bisection come, whose number is not known."""
        self.console.print("training at single numbers of facts")


class _TimeLeft(ProgressColumn):
    def __init__(self, bar: RunsBar) -> None:
        super().__init__()
        self.bar = bar

    def render(self, task: Task) -> Text:
        left = self.bar.seconds_left
        return Text("time left: unknown" if left is None else f"time left: {left // 60:.0f}:{left % 60:02.0f}")
