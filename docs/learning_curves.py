"""Draw validation accuracy against steps for finished runs: python docs/learning_curves.py runs/<id> ... out.png"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

from hybrids.training.metrics import read_metrics
from hybrids.training.record import RunFolder


def main(folders: list[str], out: str) -> None:
    """One curve per run, named by its pattern."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for path in folders:
        folder = RunFolder.open(Path(path))
        accuracy = read_metrics(folder.metrics_file)["val/accuracy"]
        axes.plot(
            [step + 1 for step in accuracy], list(accuracy.values()), marker=".", label=folder.read_config()["pattern"]
        )
    axes.set_xlabel("training step (64 examples each)")
    axes.set_ylabel("validation accuracy")
    axes.set_ylim(-0.02, 1.02)
    axes.grid(alpha=0.3)
    axes.legend(title="pattern")
    figure.savefig(out, dpi=130)


if __name__ == "__main__":
    main(sys.argv[1:-1], sys.argv[-1])
