"""How far a command has come, on stderr: a bar or a spinner on a terminal, elsewhere a line a minute."""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import track

LINES_APART = 60
"""Seconds between two lines, where nobody looks at a bar."""

T = TypeVar("T")


def tracked(items: Sequence[T], title: str) -> Iterator[T]:
    """The items one by one, and how many are done."""
    if sys.stderr.isatty():
        yield from track(items, title, console=Console(stderr=True), transient=True)
        return
    told = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - told >= LINES_APART:
            told = time.monotonic()
            print(f"{title}: {number} of {len(items)}", file=sys.stderr, flush=True)


@contextmanager
def busy(title: str, *, is_shown: bool = True) -> Iterator[None]:
    """Within it, that something goes on of which no part can be counted."""
    if not is_shown:
        yield
        return
    if sys.stderr.isatty():
        with Console(stderr=True).status(title):
            yield
        return
    is_done = threading.Event()
    thread = threading.Thread(target=_tell, args=(title, is_done), daemon=True, name="busy")
    thread.start()
    try:
        yield
    finally:
        is_done.set()
        thread.join()


def _tell(title: str, is_done: threading.Event) -> None:
    since = time.monotonic()
    while not is_done.wait(LINES_APART):
        print(f"{title}, for {time.monotonic() - since:,.0f} s", file=sys.stderr, flush=True)
