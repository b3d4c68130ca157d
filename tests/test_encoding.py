"""Text files are read and written as UTF-8, whatever the locale of the machine is."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("hybrids", "plugins", "benchmarks", "docs")


def opened(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls that open a file as text and do not say how it is encoded."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and not is_class(call.func.value):
            name = call.func.attr
            mode = [one.value for one in call.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            is_opened = name == "open" and not is_module(call.func.value) and "b" not in "".join(mode[:1])
            is_text = is_opened or name in ("read_text", "write_text")
            if is_text and not any(word.arg in ("encoding", None) for word in call.keywords):
                yield call


def is_class(node: ast.expr) -> bool:
    """As in RunFolder.open, which opens no file."""
    return isinstance(node, ast.Name) and node.id[0].isupper()


def is_module(node: ast.expr) -> bool:
    """As in os.open, which opens no text."""
    return isinstance(node, ast.Name) and node.id == "os"


def test_every_text_file_is_opened_as_utf8():
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    found = [
        f"{file.relative_to(ROOT)}:{call.lineno}"
        for file in files
        for call in opened(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert not found
