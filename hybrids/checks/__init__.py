"""Conformance checks that anyone can run on a plugin: `hybrids check`, or one pytest parameter per check.

A plugin that cannot meet a check says so itself, with the reason:
`check_exemptions: ClassVar[dict[str, str]] = {"pickles": "holds an open file"}`. The check still runs, and
passing it after all is an error, so that an exemption does not outlive its reason.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from hybrids import registry
from hybrids.checks.channels import CHANNEL_CHECKS
from hybrids.checks.decoded import DECODED_CHECKS
from hybrids.checks.mixers import MIXER_CHECKS
from hybrids.checks.subject import Check, Subject
from hybrids.checks.tasks import TASK_CHECKS
from hybrids.errors import UserError, suggest
from hybrids.task import DecodedTask

__all__ = ["Check", "CheckResult", "Subject", "checks_for", "exemptions", "run_check", "run_checks"]

_CHECKS: dict[str, tuple[Check, ...]] = {
    "mixer": MIXER_CHECKS,
    "channel": CHANNEL_CHECKS,
    "task": TASK_CHECKS,
}


class CheckResult(NamedTuple):
    """How one check went; `message` says what is wrong, or why a failure is excused, or is empty."""

    check: str
    passed: bool
    message: str


def checks_for(kind: str, cls: type[Any] | None = None) -> tuple[Check, ...]:
    """Checks of one kind of plugin, to call or to parametrise a test with; named by `check.__name__`.

    With the class of the plugin also those of what it is beside: a `DecodedTask` has more of them than a `Task`.
    """
    if kind not in _CHECKS:
        raise UserError(f"unknown plugin kind {kind!r}; {suggest(kind, _CHECKS)}")
    return _CHECKS[kind] + (DECODED_CHECKS if cls is not None and issubclass(cls, DecodedTask) else ())


def run_checks(kind: str, name: str, *, d_model: int = 64, **settings: Any) -> list[CheckResult]:
    """Run every check on one registered plugin at these settings; nothing is raised for what a check finds.

    Raises UserError for an unknown plugin, and for an exemption from a check that does not exist.
    """
    subject = Subject(registry.get(kind, name).cls, settings, d_model)
    exempt = exemptions(kind, subject.cls)
    return [run_check(check, subject, exempt.get(check.__name__)) for check in checks_for(kind, subject.cls)]


def run_check(check: Check, subject: Subject, exemption: str | None = None) -> CheckResult:
    """Run one check; with an exemption (its reason), it must fail."""
    with _one_thread():
        error = _failure(check, subject)
    if exemption is None:
        return CheckResult(check.__name__, error is None, error or "")
    if error is None:
        return CheckResult(check.__name__, False, f"passes, although exempted ({exemption}): remove the exemption")
    return CheckResult(check.__name__, True, f"exempted ({exemption}): {error}")


def exemptions(kind: str, cls: type[Any]) -> dict[str, str]:
    """What a plugin class is exempted from, and why; UserError for an unknown check or a missing reason."""
    declared: dict[str, str] = getattr(cls, "check_exemptions", {})
    names = [check.__name__ for check in checks_for(kind, cls)]
    for name, reason in declared.items():
        if name not in names:
            raise UserError(f"check_exemptions of {cls.__qualname__}: no check {name!r}; {suggest(name, names)}")
        if not reason.strip():
            raise UserError(f"check_exemptions of {cls.__qualname__}: {name!r} needs a reason")
    return declared


@contextmanager
def _one_thread() -> Iterator[None]:
    """The layers of checks are tiny: on a busy machine, waiting for a second thread takes a hundred times longer."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _failure(check: Check, subject: Subject) -> str | None:
    try:
        check(subject)
    except AssertionError as error:
        return str(error)
    except Exception as error:  # whatever a stranger's plugin raises is a finding about it
        return f"{type(error).__name__}: {error}"
    return None
