"""What a command of a test replies, and the folder of the one run that it has made."""

from pathlib import Path
from typing import NamedTuple


class Reply(NamedTuple):
    code: int
    out: str
    err: str

    def said(self):
        """What a command printed that succeeded."""
        assert self.code == 0, self.err
        return self.out

    def complaint(self):
        """The only line on stderr, of a command that failed."""
        assert self.code == 1
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")


def run_folder():
    (folder,) = (path.parent for path in Path("runs").glob("*/config.yaml"))
    return folder


def interrupt(folder):
    """Leave a finished run as a kill before its last line would have."""
    (folder / "result.json").unlink()
