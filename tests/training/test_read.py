"""Files from a stranger: what is too large, too deep or no plain value is refused in one sentence, and quickly."""

import os
import time

import pytest
import yaml

from hybrids.errors import UserError
from hybrids.training.read import MOST_BYTES, read_json, read_rows, read_text, read_yaml

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
"""2 * 9**11 values in half a kilobyte."""


def refusal(read, path, content):
    """The sentence of the refusal, which must come at once."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    start = time.monotonic()
    with pytest.raises(UserError) as refused:
        read(path)
    assert time.monotonic() - start < 5
    said = str(refused.value)
    assert said.isprintable() and len(said) < 200
    return said


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xff\xfe", "it holds no text: byte 0 is not UTF-8"),
        ("", "it is no JSON: Expecting value in line 1, column 1"),
        ('{"a": 1', "it is no JSON: Expecting ',' delimiter in line 1, column 8"),
        ('{"a": ' + "[" * 60 + "]" * 60 + "}", "it is nested deeper than 50 levels"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "it is nested deeper than 50 levels"),
        ('{"test": {"accuracy": NaN}}', "it holds NaN, which is no JSON"),
        ('{"a": [-Infinity]}', "it holds -Infinity, which is no JSON"),
        ('{"test": {"accuracy": 1e999}}', "test.accuracy is no finite number"),
        ('{"width": ' + "9" * 5000 + "}", "it holds a whole number of 5000 digits"),
        ('{"widths": [1, 9223372036854775808]}', "widths.1 is a whole number beyond 64 bits"),
        ('{"a": 1, "b": 2, "a": 3}', "the key a stands in it twice"),
        ("[]", "it is no group of names and values"),
        ('{"a\\nb": 1e999}', r"a\nb is no finite number"),
        (b" " * (MOST_BYTES + 1), "it has more than 16,777,216 bytes"),
    ],
    ids=lambda value: None if isinstance(value, str) and len(value) < 100 else "long",
)
def test_json_is_plain_and_limited(tmp_path, content, sentence):
    assert refusal(read_json, tmp_path / "a.json", content) == sentence


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (BOMB, "it holds more than 1,000,000 values"),
        ("a: &a [1, *a]", "an alias in it stands for a group that is not complete"),
        ("[" * 5000 + "]" * 5000, "it is nested deeper than 50 levels"),
        ("a: 1\na: 2", "the key a stands in it twice"),
        ("a: {b: 1, b: 2}", "the key b stands in it twice"),
        ("a: .nan", "a is no finite number"),
        ("a: [.inf]", "a.0 is no finite number"),
        ("a: " + "9" * 5000, "it holds a value that YAML cannot read"),
        ("a: 9223372036854775808", "a is a whole number beyond 64 bits"),
        ("a: 2001-99-99", "it holds a value that YAML cannot read"),
        ("a: 2001-01-01", "a is a date, which no setting and no result is"),
        ("a: !!binary aGk=", "a is a bytes, which no setting and no result is"),
        ("just words", "it is no group of names and values"),
        ("1: 2", "it is a group with a key that is no text"),
        ("a: [1", "it is no YAML: expected ',' or ']', but got '<stream end>' in line 1"),
        ("password: hunter2: oops", "it is no YAML: mapping values are not allowed here in line 1"),
        ("a: \x07", "it is no YAML: special characters are not allowed"),
        ("--- 1\n--- 2", "it is no YAML: but found another document in line 2"),
        ("x" * 2**18 + "x", "it has more than 262,144 bytes"),
    ],
    ids=lambda value: None if isinstance(value, str) and len(value) < 100 else "long",
)
def test_yaml_is_plain_and_limited(tmp_path, content, sentence):
    assert refusal(read_yaml, tmp_path / "a.yaml", content) == sentence


def test_a_tag_of_python_is_not_obeyed(tmp_path):
    file = tmp_path / "made"
    said = refusal(read_yaml, tmp_path / "a.yaml", f"a: !!python/object/apply:os.mkdir ['{file}']")
    assert said.startswith("it is no YAML: could not determine a constructor") and not file.exists()


def test_what_yaml_writes_is_read_as_it_was(tmp_path):
    shared = [1, 2.5, None, True, "a: b", ""]
    settings = {"first": shared, "second": shared, "third": {"deep": {"deeper": []}}, "-1": -1}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(settings))
    assert "*id001" in (tmp_path / "a.yaml").read_text()
    assert read_yaml(tmp_path / "a.yaml") == settings


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a,b\n1,2\n3", "it is cut in its last line"),
        ("a,b,a\n1,2,3\n", "two of its columns have one name"),
        ("a,b\n1\n", "row 1 has 1 cells, where the header has 2"),
        ("a,b\n1,2\n" + "1," * 100_000 + "\n", "row 2 has 100001 cells, where the header has 2"),
        ("a,b\n1," + "2" * 200_000 + "\n", "it is no CSV: field larger than field limit (131072)"),
        ('a,b\n"1,2\n', "it is no CSV: unexpected end of data"),
    ],
    ids=lambda value: None if isinstance(value, str) and len(value) < 100 else "long",
)
def test_csv_is_a_whole_table(tmp_path, content, sentence):
    assert refusal(read_rows, tmp_path / "a.csv", content) == sentence


def test_a_table_may_hold_line_ends(tmp_path):
    (tmp_path / "a.csv").write_text('b,a\n"x\ny",1\n')
    assert read_rows(tmp_path / "a.csv") == [{"a": "1", "b": "x\ny"}]


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "nothing"])
def test_only_an_ordinary_file_is_read(tmp_path, kind):
    path = tmp_path / "result.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match="it does not exist" if kind == "nothing" else "it is no ordinary file"):
        read_text(path)
