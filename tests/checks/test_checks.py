"""How checks are run: layers without bugs pass, exemptions have a reason, whatever a plugin raises is a finding."""

from typing import ClassVar

import pytest
import torch
from sound_layers import Gate, Mean

from hybrids import registry
from hybrids.checks import Subject, checks_for, exemptions, modules, run_check, run_checks


@pytest.mark.parametrize(("kind", "cls"), [("mixer", Mean), ("channel", Gate)])
def test_a_layer_without_bugs_passes(kind, cls):
    results = [run_check(check, Subject(cls)) for check in checks_for(kind)]
    assert [r for r in results if not r.passed] == []


class Excused(Gate):
    check_exemptions: ClassVar[dict[str, str]] = {"pickles": "holds a function"}

    def __reduce__(self):
        raise TypeError


def test_an_exempted_check_must_fail_and_says_why():
    reason = exemptions("channel", Excused)["pickles"]
    excused = run_check(modules.pickles, Subject(Excused), reason)
    assert excused.passed
    assert excused.message.startswith("exempted (holds a function): cannot be pickled")
    stale = run_check(modules.pickles, Subject(Gate), reason)
    assert not stale.passed
    assert stale.message == "passes, although exempted (holds a function): remove the exemption"


@pytest.mark.parametrize(
    ("declared", "match"),
    [
        ({"pickle": "no"}, r"no check 'pickle'; did you mean 'pickles'\?"),
        ({"pickles": " "}, "needs a reason"),
    ],
)
def test_an_exemption_names_a_check_and_a_reason(declared, match):
    with pytest.raises(ValueError, match=match):
        exemptions("mixer", type("Odd", (Mean,), {"check_exemptions": declared}))


def test_whatever_a_plugin_raises_is_a_finding():
    class Raises(Gate):
        def forward(self, x):
            raise KeyError("lost")

    result = run_check(modules.keeps_shape_and_dtype, Subject(Raises))
    assert result == ("keeps_shape_and_dtype", False, "KeyError: 'lost'")


def test_a_registered_plugin_is_checked_at_given_settings(monkeypatch):
    entry = registry.Entry("channel", "narrow", NarrowGate, "test")
    monkeypatch.setattr(registry, "get", lambda kind, name: entry)
    failed = {r.check for r in run_checks("channel", "narrow", d_model=32, limit=64) if not r.passed}
    assert failed == {"builds_at_usual_widths"}
    assert all(r.passed for r in run_checks("channel", "narrow", limit=1000))


class NarrowGate(Gate):
    def __init__(self, d_model: int, *, limit: int = 1000) -> None:
        super().__init__(d_model)
        if d_model > limit:
            raise ValueError(f"d_model={d_model} must be at most {limit}")


def test_checks_leave_threads_and_random_numbers_alone(monkeypatch):
    threads = [5]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    before = torch.get_rng_state()
    for check in checks_for("mixer"):
        run_check(check, Subject(Mean))
    assert threads == [5] + [1, 5] * len(checks_for("mixer"))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown plugin kind 'mixr'; did you mean 'mixer'"):
        checks_for("mixr")
