"""A signal ends a run after the step that it is in: all ranks together, with a checkpoint, and the run goes on later.

Lightning's own handler saves nothing, and broadcasts from inside the signal handler, while the other ranks may be in
another collective and wait for ever. Here a handler takes a note; between two batches the ranks compare them, and end.
"""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from hybrids.training.ranks import Ranks

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if hasattr(signal, name)
)
"""What asks a process to end; SIGINT is Ctrl-C. Slurm sends SIGTERM where it preempts (after SIGCONT, which by itself
ends nothing) and at the time limit, and before that limit what `--signal` names; submitit takes SIGUSR2."""

GRACE = 25.0
"""Seconds in which ranks must end once they are asked to; one that waits for a rank that is gone ends then."""


_IN_EARNEST = 1.0
"""Seconds after which another Ctrl-C ends the process at once; sooner, it is the same one, passed on."""

_DONE = b"\0"
"""What no signal writes."""


class Stopped(SystemExit):
    """The run was asked to end by a signal. The exit code is that of a shell for it, 143 for SIGTERM."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum


class Stop(Callback):
    """Ends training, validation and test between two batches when a signal has asked for it."""

    def __init__(self, place: Path, ranks: Ranks) -> None:
        self.place, self.ranks = place, ranks
        self.save: Callable[[Trainer], None] = lambda trainer: None
        """Writes a checkpoint of the step that training has reached, on all ranks together."""
        self.signum = 0
        self.since = 0.0
        self.is_deferred = False
        self.steps = 0
        self.group: dist.ProcessGroup | int | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals of this process, give them back afterwards; says what was stopped and how it goes on."""
        handlers = _install(self._note) if _in_main_thread() else {}
        try:
            with _ending_in_time(self.ranks):
                yield
        except Stopped as stopped:
            if not self.ranks.is_first:
                raise SystemExit(0) from None  # Lightning kills the first rank where one that it started ends otherwise
            self._say(stopped.signum)
            before = handlers.get(stopped.signum)
            if callable(before) and stopped.signum != signal.SIGINT:  # Python's own raises KeyboardInterrupt
                before(stopped.signum, None)  # submitit's puts the job into the queue again
            elif stopped.signum == signal.SIGUSR1:
                _requeue()
            raise
        finally:
            for signum, handler in handlers.items():
                signal.signal(signum, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, a signal waits for the next call of `check`; elsewhere it ends the run at once."""
        self.is_deferred = True
        yield
        self.is_deferred = False
        self.check()

    def check(self) -> None:
        """Raise Stopped where a signal has come to any rank; all ranks call it at the same places."""
        signum = self.signum
        if self.group is not None:
            asked = torch.tensor([signum])
            dist.all_reduce(asked, dist.ReduceOp.MAX, group=self.group)
            signum = int(asked)
        if signum:
            raise Stopped(signum)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.world_size > 1 and self.group is None:
            self.group = dist.new_group(backend="gloo")  # also beside NCCL: nothing waits for the device

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.steps = trainer.global_step
        if isinstance(exception, Stopped) and trainer.state.fn == TrainerFn.FITTING and self.steps:
            self.save(trainer)

    def _note(self, signum: int, frame: Any) -> None:
        if self.signum == signum == signal.SIGINT and time.monotonic() - self.since > _IN_EARNEST:
            raise KeyboardInterrupt
        self.since = time.monotonic()
        self.signum = self.signum or signum
        if not self.is_deferred:
            raise Stopped(signum)

    def _say(self, signum: int) -> None:
        name = "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name
        text = f"run {self.place} was stopped by {name} after step {self.steps}; the same command goes on from there"
        print(text, file=sys.stderr)


class NoSignals:
    """Stands in for Lightning's `_SignalConnector`: it leaves the signals to `Stop`."""

    received_sigterm = False

    def register_signal_handlers(self) -> None:
        pass

    def teardown(self) -> None:
        pass


def run_and_pass_signals(command: Sequence[str]) -> int:
    """Exit code of a process, to which signals to this one are passed; Stopped after its end, if there was one."""
    process = subprocess.Popen(command)
    passed = []

    def send(signum: int, frame: Any) -> None:
        passed.append(signum)
        process.send_signal(signum)

    before = _install(send) if _in_main_thread() else {}
    try:
        code = process.wait()
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if passed:
        raise Stopped(passed[0])
    return code


def leave_signals_to_the_run(worker: int) -> None:
    """For a worker of a loader: a signal to the whole process group must not take the last batches from the run."""
    signal.set_wakeup_fd(-1)
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


def _install(handler: Any) -> dict[int, Any]:
    """Set the handler of every signal but the ignored ones (nohup); the handlers before."""
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    taken = {signum: old for signum, old in before.items() if old != signal.SIG_IGN}
    for signum in taken:
        signal.signal(signum, handler)
    return taken


def _in_main_thread() -> bool:
    """Elsewhere Python lets nobody handle signals."""
    return threading.current_thread() is threading.main_thread()


def _requeue() -> None:
    """Ask Slurm to start the job again, as Lightning does on this signal."""
    job = os.environ.get("SLURM_JOB_ID")
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if job is not None and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        try:
            subprocess.run(["scontrol", "requeue", job], check=False)
        except FileNotFoundError:
            print(f"scontrol is not there; put the job back into the queue: scontrol requeue {job}", file=sys.stderr)


@contextmanager
def _ending_in_time(ranks: Ranks) -> Iterator[None]:
    """Inside, a thread ends this process where it cannot: it waits in a collective for a rank that will not come.

    The signal handlers of Python run between two of its instructions, so in such a wait none does.
    """
    if ranks.world_size == 1 or not _in_main_thread():
        yield
        return
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    before = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(read_end, ranks.parent), daemon=True, name="stop-in-time")
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(write_end, _DONE)
        thread.join()
        os.close(write_end)
        os.close(read_end)


def _watch(signals: int, parent: int | None) -> None:
    """End the process `GRACE` after a signal, and where the first rank, its parent, has died; until told `_DONE`."""
    end, code = float("inf"), 1
    while time.monotonic() < end:
        if parent not in (None, os.getppid()):
            os._exit(1)
        if select.select([signals], [], [], 1.0)[0]:
            byte = os.read(signals, 1)
            if byte == _DONE:
                return
            if byte[0] in SIGNALS:
                end, code = min(end, time.monotonic() + GRACE), 128 + byte[0]
    os._exit(code)
