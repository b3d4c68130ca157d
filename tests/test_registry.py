"""Plugins are found, named once, and a broken one stops nobody but itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from hybrids import registry
from hybrids.errors import suggest
from hybrids.registry import defaults_of, register

ROOT = Path(__file__).parent.parent


pytestmark = pytest.mark.usefixtures("own_plugins")


def plugin(name="Thing", module="stranger.things"):
    return type(name, (), {"__module__": module, "__qualname__": name})


def test_a_registered_class_is_found_by_kind_and_name():
    cls = register("mixer", "thing", source="a paper")(plugin())
    entry = registry.get("mixer", "thing")
    assert (entry.cls, entry.source, entry.origin) == (cls, "a paper", "stranger.things.Thing")
    assert "thing" in registry.names("mixer")
    assert "thing" not in registry.names("channel")
    assert registry.name_of(cls) == "thing"


def test_the_same_name_may_serve_two_kinds():
    register("mixer", "thing", source="x")(plugin("A"))
    register("channel", "thing", source="x")(plugin("B"))
    assert registry.get("channel", "thing").cls.__name__ == "B"


def test_a_duplicate_name_is_an_error_naming_both_and_neither_is_used():
    register("task", "thing", source="x")(plugin("First", "one"))
    both = r"two task plugins are named 'thing': one\.First and two\.Second"
    with pytest.raises(ValueError, match=both):
        register("task", "thing", source="x")(plugin("Second", "two"))
    with pytest.raises(ValueError, match=both):
        registry.get("task", "thing")
    assert "thing" not in registry.names("task")
    assert any("one.First" in str(failure) and "two.Second" in str(failure) for failure in registry.failures())


def test_importing_the_same_class_again_is_no_duplicate():
    register("task", "thing", source="x")(plugin())
    again = register("task", "thing", source="x")(plugin())
    assert registry.get("task", "thing").cls is again


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match=r"unknown plugin kind 'mixr'; did you mean 'mixer'\? allowed: mixer"):
        register("mixr", "thing", source="x")
    with pytest.raises(ValueError, match="unknown plugin kind 'mixr'"):
        registry.get("mixr", "thing")


def test_an_unknown_name_says_what_was_meant_and_what_is_allowed():
    with pytest.raises(
        ValueError, match=r"unknown mixer 'atention'; did you mean 'attention'\? allowed: attention, based"
    ):
        registry.get("mixer", "atention")


def test_suggestions():
    assert suggest("atention", ["linear", "attention"]) == "did you mean 'attention'? allowed: linear, attention"
    assert suggest("zzz", ["linear"]) == "allowed: linear"
    assert suggest("zzz", []) == "allowed: nothing, there are none"


def test_a_class_that_was_never_registered_has_no_name():
    with pytest.raises(ValueError, match=r"stranger\.things\.Thing is not a registered plugin"):
        registry.name_of(plugin())


def test_settings_are_the_keyword_only_arguments():
    class Thing:
        def __init__(self, d_model: int, *, width: int = 3, gate: bool = False) -> None: ...

    assert defaults_of(Thing) == {"width": 3, "gate": False}


def test_a_setting_without_default_is_refused():
    class Thing:
        def __init__(self, d_model: int, *, width: int) -> None: ...

    with pytest.raises(ValueError, match="setting 'width' has no default"):
        defaults_of(Thing)


GOOD = """
from hybrids.registry import register

@register("channel", "{name}", source="a test")
class {name}:
    pass
"""


def announce(folder: Path, value: str, dist: str) -> None:
    """Install a distribution with one entry point into a folder."""
    info = folder / f"{dist}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[hybrids.plugins]\n{dist} = {value}\n")


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A folder of outside packages on sys.path; their modules are forgotten after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_every_module_of_an_announced_package_is_imported(outside):
    deep = outside / "outsiders" / "deep"
    deep.mkdir(parents=True)
    (outside / "outsiders" / "__init__.py").write_text("")
    (deep / "__init__.py").write_text("")
    (outside / "outsiders" / "first.py").write_text(GOOD.format(name="first"))
    (deep / "second.py").write_text(GOOD.format(name="second"))
    announce(outside, "outsiders", "outsiders")
    assert {"first", "second"} <= set(registry.names("channel"))
    assert registry.get("channel", "second").origin == "outsiders.deep.second.second"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import a_package_nobody_has", "ModuleNotFoundError: No module named 'a_package_nobody_has'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_module_that_fails_does_not_stop_the_others_and_raises_when_asked_for(outside, text, reason):
    package = outside / "halfbroken"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "abad.py").write_text(text)
    (package / "fine.py").write_text(GOOD.format(name="fine"))
    announce(outside, "halfbroken", "halfbroken")
    assert "fine" in registry.names("channel")
    assert [failure.module for failure in registry.failures()] == ["halfbroken.abad"]
    with pytest.raises(ValueError, match=f"channel 'abad' cannot be used: halfbroken.abad: {reason}"):
        registry.get("channel", "abad")
    with pytest.raises(ValueError, match=r"unknown channel 'other' \(1 plugin modules cannot be imported"):
        registry.get("channel", "other")


def test_an_announced_module_that_is_missing_is_reported(outside):
    announce(outside, "nobody_is_here", "ghost")
    assert [failure.module for failure in registry.failures()] == ["nobody_is_here"]
    assert "attention" in registry.names("mixer")


def test_an_outside_package_is_found_through_its_entry_point_alone(tmp_path):
    (tmp_path / "lone.py").write_text(GOOD.format(name="lone"))
    announce(tmp_path, "lone", "lone")
    code = "from hybrids import registry; print(registry.get('channel', 'lone').origin); print(registry.failures())"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; {code}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout.split() == ["lone.lone", "[]"]
