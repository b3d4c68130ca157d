"""Runs of the console command that are hit at a chosen moment, each in a fork of a process that has imported it.

`Forks` starts this file as that process: an import takes five seconds, a fork none. It reads a request a line and
answers with a reply a line, both JSON. In the fork every change of a file below the working folder is numbered: a file
opened for writing, a block written, a rename, a removal, a new folder. `Hit` says what happens at which.
"""

import atexit
import builtins
import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

WRITES = {"open", "write", "os.mkdir", "os.rename", "os.link", "os.symlink"}
"""What a full disk refuses."""
CHANGES = {"os.rename": (0, 1), "os.remove": (0,), "os.mkdir": (0,), "os.rmdir": (0,), "os.link": (1,)}
"""Audit events of changes -> which of their arguments are paths."""


@dataclass(frozen=True)
class Hit:
    """At change number `at`, or at call number `at` of `call` (`module:function`): `kill`, `term`, `int`, or `full`,
    a disk that takes nothing more."""

    action: str
    at: int
    call: str | None = None


@dataclass(frozen=True)
class Ended:
    """How a forked command ended: exit code (minus the signal), what it printed, and the changes it made."""

    code: int
    out: str
    err: str
    changes: list[str]
    seconds: float

    def in_one_line(self):
        """The only complaint, of a command that failed and wrote no traceback."""
        assert self.code != 0, self.out + self.err
        assert "Traceback" not in self.err, self.err
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        return lines[0].removeprefix("error: ")


class Forks:
    """The process that forks; `run` asks it for a command."""

    def __init__(self):
        here = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "CANARY": "canary-of-the-environment"}
        here.pop("PYTEST_CURRENT_TEST", None)
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=here
        )

    def run(self, folder, *arguments, hit=None, limit=120.0):
        request = {"folder": str(folder), "arguments": arguments, "hit": hit and asdict(hit), "limit": limit}
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return Ended(**json.loads(self.process.stdout.readline()))

    def close(self):
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.kill()
        self.process.wait()


class _Changes:
    """Numbers the changes below a folder, tells them in a file, and hits at one of them."""

    def __init__(self, folder, hit, notes):
        self.folder, self.hit, self.notes = os.path.realpath(folder) + os.sep, hit, notes
        self.count, self.is_full, self.is_busy = 0, False, False

    def watch(self):
        sys.addaudithook(self._audit)
        opened = io.open

        def watched(file, mode="r", *args, **kwargs):
            stream = opened(file, mode, *args, **kwargs)
            is_written = any(letter in mode for letter in "wax+") and self._is_ours(file)
            return _Written(stream, self, file) if is_written else stream

        io.open = builtins.open = watched

    def change(self, what, path):
        """One change is about to be made."""
        if self.is_busy:
            return None
        self.is_busy = True  # our own note is no change
        os.write(self.notes, f"{what} {os.path.realpath(path).removeprefix(self.folder)}\n".encode())
        self.is_busy = False
        number, self.count = self.count, self.count + 1
        if self.hit is None or self.hit.call is not None:
            return None
        if self.hit.action == "full":
            self.is_full |= number >= self.hit.at
            if self.is_full and what in WRITES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        elif number == self.hit.at:
            return self.hit.action
        return None

    def _audit(self, event, args):
        if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            paths = (args[0],)
        else:
            paths = tuple(args[i] for i in CHANGES.get(event, ()))
        ours = [path for path in paths if self._is_ours(path)]
        if ours:
            strike(self.change(event, ours[0]))

    def _is_ours(self, path):
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        return os.path.realpath(os.fsdecode(path)).startswith(self.folder)


class _Written:
    """A file opened for writing, every block of which is a change; a kill comes with half of it written."""

    def __init__(self, stream, changes, path):
        self._stream, self._changes, self._path = stream, changes, os.fsdecode(path)

    def write(self, block):
        action = self._changes.change("write", self._path)
        if action is not None:
            self._stream.write(block[: len(block) // 2])
            self._stream.flush()
            strike(action)
            block = block[len(block) // 2 :]
        return self._stream.write(block)

    def writelines(self, blocks):
        for block in blocks:
            self.write(block)

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def __enter__(self):
        self._stream.__enter__()
        return self

    def __exit__(self, *error):
        return self._stream.__exit__(*error)

    def __iter__(self):
        return iter(self._stream)


def strike(action):
    if action is not None:
        os.kill(os.getpid(), {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}[action])


def _hit_at_call(hit):
    """Strikes at a call of a function or method."""
    module, _, name = hit.call.partition(":")
    *owners, last = name.split(".")
    owner = sys.modules[module]
    for part in owners:
        owner = getattr(owner, part)
    function, calls = getattr(owner, last), iter(range(10**9))

    def struck(*args, **kwargs):
        if next(calls) == hit.at:
            strike(hit.action)
        return function(*args, **kwargs)

    setattr(owner, last, struck)


def _in_fork(request, outputs):
    """Run the command of a request as a process of its own would; never returns."""
    for stream, number in zip(outputs, (1, 2), strict=False):
        os.dup2(stream, number)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.chdir(request["folder"])
    hit = request["hit"] and Hit(**request["hit"])
    sys.argv = ["hybrids", *request["arguments"]]
    if hit is not None and hit.call is not None:
        _hit_at_call(hit)
    _Changes(request["folder"], hit, outputs[2]).watch()
    try:
        from hybrids.cli import main

        code = main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _answer(request):
    """Fork, wait, and say how it ended."""
    place = Path(request["folder"])
    place.mkdir(parents=True, exist_ok=True)
    files = [os.memfd_create(name) for name in ("out", "err", "changes")]
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setsid()
        _in_fork(request, files)
    code = _wait(child, start + request["limit"])
    out, err, changes = (_read(file) for file in files)
    seconds = round(time.monotonic() - start, 2)
    return {"code": code, "out": out, "err": err, "changes": changes.splitlines(), "seconds": seconds}


def _wait(child, end):
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "still running"


def _read(file):
    with os.fdopen(file, "rb") as stream:
        stream.seek(0)
        return stream.read().decode(errors="replace")


def _serve():
    import lightning.pytorch  # noqa: F401
    import torch

    import hybrids.cli.capacity
    import hybrids.cli.runs  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    _serve()
