"""A plugin file is imported where it is given, is known by its content, and what is wrong with it is one sentence."""

import pickle
import sys
from hashlib import sha256

import pytest

from hybrids import registry
from hybrids.errors import UserError
from hybrids.plugin_files import check_given, load_files, records, split_paths, take_files

pytestmark = pytest.mark.usefixtures("own_plugins")

PLUGIN = """
from hybrids.registry import register

@register("channel", "{plugin}", source="a test")
class Plain:
    size = {size}
"""


@pytest.fixture
def write(tmp_path):
    """Write a file below the folder of the test."""

    def write(name, text=None, **settings):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PLUGIN.format(**{"plugin": "plain", "size": 1} | settings) if text is None else text)
        return path

    return write


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        ("a.py", ["a.py"]),
        ("a.py,b/c.py", ["a.py", "b/c.py"]),
        ("[a.py,b.py]", ["a.py", "b.py"]),
        ("['my a.py', \"b,c.py\"]", ["my a.py", "b,c.py"]),
        (r"'it\'s.py',b.py", ["it's.py", "b.py"]),
        ("my a.py", ["my a.py"]),
        ("[]", []),
    ],
)
def test_one_path_and_several(value, paths):
    assert split_paths(value) == paths
    assert take_files(["task=copying", f"plugins={value}", "--check"]) == (paths, ["task=copying", "--check"])


def test_a_file_is_imported_where_it_is_given_and_remembers_itself(write, monkeypatch):
    path = write("plain.py")
    monkeypatch.chdir(path.parent)
    assert "plain" not in registry.names("channel")
    load_files(["plain.py"])
    entry = registry.get("channel", "plain")
    digest = sha256(path.read_bytes()).hexdigest()
    assert (entry.origin, entry.file.path, entry.file.sha256) == ("plain.py:Plain", path, digest)
    assert records([entry, registry.get("channel", "mlp")]) == [{"file": "plain.py", "sha256": digest}]
    assert not list(path.parent.glob("__pycache__")), "nothing is written beside the user's file"


def test_a_class_of_a_file_pickles(write):
    load_files([write("plain.py")])
    cls = registry.get("channel", "plain").cls
    assert type(pickle.loads(pickle.dumps(cls()))) is cls


def test_files_of_one_name_do_not_clash(write):
    load_files([write("a/layer.py"), write("b/layer.py", plugin="other", size=2)])
    first, second = (registry.get("channel", name).cls for name in ("plain", "other"))
    assert (first.size, second.size) == (1, 2)
    assert sys.modules[first.__module__] is not sys.modules[second.__module__]


def test_a_name_that_is_no_identifier_is_a_file_like_any_other(write):
    load_files([write("my-layer v1.2.py")])
    assert registry.get("channel", "plain").cls.size == 1


def test_an_unchanged_file_is_imported_once_and_a_changed_one_again(write):
    path = write("plain.py")
    load_files([path])
    first = registry.get("channel", "plain").cls
    load_files([path])
    assert registry.get("channel", "plain").cls is first
    write("plain.py", size=2)
    load_files([path], is_reloaded=False)
    assert registry.get("channel", "plain").cls is first
    load_files([path])
    assert registry.get("channel", "plain").cls.size == 2
    assert registry.name_of(first) == "plain", "models made of the former class are still described"
    write("plain.py", plugin="renamed")
    load_files([path])
    assert "plain" not in registry.names("channel") and "renamed" in registry.names("channel")


def test_a_plugin_that_another_content_of_the_file_had_spoilt_can_be_used(write):
    path = write("plain.py")
    load_files([path])
    registry.reject(registry.get("channel", "plain"), UserError("as a schema cannot hold it"))
    write("plain.py", size=2)
    load_files([path])
    assert registry.get("channel", "plain").cls.size == 2


BROKEN = [
    ("1 / 0", r"line 1: ZeroDivisionError: division by zero"),
    ("\n\ndef broken(:", r"line 3: SyntaxError: invalid syntax"),
    ("x = '\n", r"line 1: SyntaxError: unterminated string literal"),
    ("import nobody_has_it", r"line 1: ModuleNotFoundError: No module named 'nobody_has_it'"),
    ("import sys\nsys.exit(3)", r"line 2: SystemExit: 3"),
    ("def fail():\n    raise KeyError('two\\nlines')\n\nfail()", r"line 2: KeyError: 'two\\nlines'"),
    ("x = 1", r"it registers no plugin; put @register"),
    (PLUGIN.format(plugin="mlp", size=1), r"line 4: two channel plugins are named 'mlp': hybrids_plugins.channels.mlp"),
    (PLUGIN.replace("channel", "chanel").format(plugin="a", size=1), r"line 4: unknown plugin kind 'chanel'; did you"),
]


@pytest.mark.parametrize(("text", "reason"), BROKEN, ids=[reason[:30] for _, reason in BROKEN])
def test_a_file_that_cannot_be_used_says_where_and_leaves_all_as_it_was(write, text, reason):
    path = write("bad.py", text=text)
    before, modules = registry.entries(), set(sys.modules)
    with pytest.raises(UserError, match=rf"^plugins={path} cannot be used: {reason}") as caught:
        load_files([path])
    assert "\n" not in str(caught.value)
    assert registry.entries() == before and registry.files() == [] and set(sys.modules) == modules
    assert registry.get("channel", "mlp").cls.__module__ == "hybrids_plugins.channels.mlp"


def test_two_files_that_take_one_name_are_named(write):
    paths = [write("a.py"), write("b.py", size=2)]
    with pytest.raises(UserError, match=r"two channel plugins are named 'plain': .*a\.py:Plain and .*b\.py:Plain"):
        load_files(paths)


def test_what_is_no_plugin_file_is_refused(write, tmp_path):
    write("notes.txt", text="")
    (tmp_path / "folder.py").mkdir()
    for name, reason in (
        ("gone.py", "does not exist"),
        ("notes.txt", "is no Python file"),
        ("folder.py", "is no ordinary file"),
    ):
        with pytest.raises(UserError, match=f"^plugins={tmp_path / name} {reason}"):
            load_files([tmp_path / name])


def test_the_same_file_twice_is_refused_by_whatever_path(write, monkeypatch, tmp_path):
    write("a.py")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.py").symlink_to("a.py")
    write("copy.py")
    for other in ("a.py", "./a.py", "link.py", "copy.py"):
        with pytest.raises(UserError, match=rf"^plugins=a\.py,{other} gives the same file twice"):
            load_files(["a.py", other])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["plugins="], "plugins= is empty; give a file"),
        (["plugins=a.py", "+plugins=[b.py,c.py]"], "plugins= is given twice; write plugins=a.py,b.py,c.py"),
    ],
)
def test_a_setting_that_says_nothing_or_two_things_is_refused(arguments, sentence):
    with pytest.raises(UserError, match=f"^{sentence}"):
        take_files(arguments)


def test_a_run_that_was_made_with_a_file_asks_for_it(write):
    path = write("plain.py")
    load_files([path])
    kept = records([registry.get("channel", "plain")])
    check_given(kept)
    write("plain.py", size=2)
    load_files([path])
    with pytest.raises(UserError, match=rf"plain\.py \(SHA-256 {kept[0]['sha256'][:16]}.*another content.*as it was"):
        check_given(kept)
    with pytest.raises(UserError, match=r"plugin file gone\.py .* never found by itself; give it: plugins=<path of go"):
        check_given([{**kept[0], "file": "gone.py"}])


@pytest.mark.parametrize(
    "recorded",
    [
        *("plain.py", None, {"plain.py": "0" * 64}, ["plain.py"], [{"file": "plain.py"}]),
        *([{"file": name, "sha256": digest}] for name, digest in ((3, "0" * 64), ("a.py", "0" * 63), ("a.py", ["0"]))),
    ],
)
def test_a_record_of_another_form_is_refused(recorded):
    with pytest.raises(UserError, match="plugins is no list of files"):
        check_given(recorded)
