"""Where the legend of a still figure goes."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

LONG = 36
"""Letters of a label from which on a legend at the side would leave no room for the figure."""


def add_legend(figure: Figure, axes: Axes) -> None:
    """At the right; below, in a higher figure, where a label is long."""
    handles, labels = axes.get_legend_handles_labels()
    if max(map(len, labels), default=0) < LONG:
        figure.legend(handles, labels, loc="outside right center", fontsize=8)
        return
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.3 + 0.17 * len(labels))
    figure.legend(handles, labels, loc="outside lower center", fontsize=8)
