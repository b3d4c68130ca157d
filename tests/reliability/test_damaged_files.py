"""Damage to any file of a run is told in one sentence that names the file, or changes no number."""

import shutil
from pathlib import Path

import pytest
from damage import change_digit
from steady_run import RUN, end_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file):
    file.write_bytes(b"")


def change_a_byte(file):
    data = bytearray(file.read_bytes())
    data[len(data) * 2 // 3] ^= 1
    file.write_bytes(data)


def write_noise(file):
    file.write_bytes(bytes(range(256)) * 4)


def write_a_list(file):
    file.write_text("[]")


def append_noise(file):
    file.write_bytes(file.read_bytes() + b"\xff\xfe,\x00")


def write_twice(file):
    file.write_bytes(file.read_bytes() * 2)


def remove(file):
    file.unlink()


def make_a_folder(file):
    file.unlink()
    file.mkdir()


def link_to_nothing(file):
    file.unlink()
    file.symlink_to("nothing")


DAMAGES = (
    *(cut, empty, change_a_byte, change_digit, write_noise, write_a_list, append_noise, write_twice),
    *(remove, make_a_folder, link_to_nothing),
)
FINISHED = ("config.yaml", "result.json", "metrics.csv")
INTERRUPTED = ("config.yaml", "metrics.csv", "checkpoints/step=00000004.ckpt", "checkpoints/step=00000006.ckpt")


@pytest.fixture
def damaged(finished, tmp_path, request):
    """A copy of it with one file damaged; the name of that file."""
    name, damage, is_interrupted = request.param
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (folder,) = Path(tmp_path, "runs").iterdir()
    if is_interrupted:
        (folder / "result.json").unlink()
    damage(folder / name)
    return name


def cases(names, *, is_interrupted):
    return [
        pytest.param((name, damage, is_interrupted), id=f"{damage.__name__}-{name}")
        for name in names
        for damage in DAMAGES
    ]


def assert_told_or_harmless(ended, name, is_harmless):
    """One sentence on the file, or nothing that differs."""
    assert ended.code != "still running"
    assert "Traceback" not in ended.err, ended.err
    is_named = Path(name).name in ended.out + ended.err
    if ended.code != 0:
        assert ended.in_one_line() and is_named  # the report says on stdout which runs it leaves out
    else:
        assert is_named or is_harmless()


def is_like(place, finished):
    """The end of an unbroken run; an older checkpoint that is gone does not come back."""
    end, expected = end_of(place), end_of(finished)
    return end[1:] == expected[1:] and set(end.files) <= set(expected.files)


@pytest.mark.parametrize("damaged", cases(FINISHED, is_interrupted=False), indirect=True)
def test_a_finished_run_that_is_started_again(forks, finished, damaged, tmp_path, count):
    ended = forks.run(tmp_path, *RUN)
    assert_told_or_harmless(ended, damaged, lambda: is_like(tmp_path, finished))
    count(1)


def tables_of(place):
    return {path.name: path.read_text() for path in Path(place, "runs", "report").glob("*.csv")}


@pytest.fixture(scope="module")
def reported(forks, finished, tmp_path_factory):
    """The tables of the report on the run."""
    place = tmp_path_factory.mktemp("reported")
    shutil.copytree(finished, place, dirs_exist_ok=True)
    assert forks.run(place, "report", "runs").code == 0
    return tables_of(place)


@pytest.mark.parametrize("damaged", cases(FINISHED, is_interrupted=False), indirect=True)
def test_a_finished_run_that_is_reported(forks, reported, damaged, tmp_path, count):
    ended = forks.run(tmp_path, "report", "runs")
    assert_told_or_harmless(ended, damaged, lambda: tables_of(tmp_path) == reported)
    count(1)


@pytest.mark.parametrize("damaged", cases(INTERRUPTED, is_interrupted=True), indirect=True)
def test_an_interrupted_run_that_is_started_again(forks, finished, damaged, tmp_path, count):
    ended = forks.run(tmp_path, *RUN)
    assert_told_or_harmless(ended, damaged, lambda: is_like(tmp_path, finished))
    count(1)
