"""How a picture gets into its file: whole or not at all, with names from outside as they are spelt."""

import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.text import Text

from hybrids.training.files import write_file

_OWN_FORMULA = r"$\mathdefault"
"""How matplotlib begins the label of a power of ten."""


def save_picture(figure: Figure, path: Path, **settings: Any) -> None:
    """Write a figure as its file's name says; `settings` are those of `savefig`.

    A `$` in the name of a folder is no formula, and a letter that the font lacks is drawn as a box without a warning.
    """
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_text() and not text.get_text().startswith(_OWN_FORMULA):
            text.set_parse_math(False)
    content = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        figure.savefig(content, format=path.suffix.removeprefix("."), **settings)
    write_file(path, content.getvalue())
