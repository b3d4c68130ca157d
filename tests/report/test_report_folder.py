"""The folder of a report: what its user keeps there stays, whatever its name."""

import json

import pytest
from report_runs import table, write_run

from hybrids.errors import UserError
from hybrids.report.page import folder


@pytest.fixture
def publish(tmp_path):
    """Publish files by name and content into the folder `report`, in which names of `known` can be ours."""
    place = tmp_path / "report"

    def run(known=(), **contents):
        drafts = tmp_path / "drafts"
        drafts.mkdir(exist_ok=True)
        for name, content in contents.items():
            (drafts / name).write_text(content)
        folder.open_folder(place)
        return folder.publish(drafts, place, known)

    return run


def contents(place):
    return {path.name: path.read_text() for path in place.iterdir() if path.name != folder.MANIFEST}


def test_a_report_replaces_and_removes_its_own_files_alone(publish, tmp_path):
    place = tmp_path / "report"
    publish(a="1", b="1")
    (place / "notes.csv").write_text("mine")
    assert publish(a="2") == []
    assert contents(place) == {"a": "2", "notes.csv": "mine"}
    assert folder.files_of(place) == [place / "a"]


def test_what_stands_in_the_way_and_is_of_no_report_is_kept(publish, tmp_path):
    place, outside = tmp_path / "report", tmp_path / "outside"
    outside.write_text("untouched")
    publish(changed="1", dropped="1")
    (place / "changed").write_text("by hand")
    (place / "dropped").write_text("by hand")
    (place / "mine").write_text("mine")
    (place / "mine~1").write_text("older")
    (place / "link").symlink_to(outside)
    said = publish(changed="2", mine="2", link="2")
    assert contents(place) == {
        **{"changed": "2", "changed~1": "by hand", "dropped": "by hand"},
        **{"mine": "2", "mine~1": "older", "mine~2": "mine", "link": "2", "link~1": "untouched"},
    }
    assert outside.read_text() == "untouched" and (place / "link~1").is_symlink()
    assert [sentence.rpartition(" ")[2] for sentence in said] == ["changed~1", "link~1", "mine~2"]


def test_a_report_from_before_there_was_a_manifest_makes_room(publish, tmp_path):
    place = tmp_path / "report"
    place.mkdir()
    for name, text in {"index.html": "<title>hybrids report: x", "runs.csv": "old", "gone.csv": "old"}.items():
        (place / name).write_text(text)
    (place / "notes.csv").write_text("mine")
    assert publish(("index.html", "runs.csv", "gone.csv"), **{"index.html": "new", "runs.csv": "new"}) == []
    assert contents(place) == {"index.html": "new", "runs.csv": "new", "notes.csv": "mine"}


@pytest.mark.parametrize("name", ["../outside", "/outside", "..", "manifest.json", "a/b"])
def test_a_manifest_that_names_something_else_is_refused(publish, tmp_path, name):
    publish(a="1")
    (tmp_path / "report" / folder.MANIFEST).write_text(json.dumps({"version": 1, "files": {name: ["0" * 64]}}))
    with pytest.raises(UserError, match="is no name of a file of a report"):
        publish(a="2")
    assert (tmp_path / "report" / "a").read_text() == "1"


def test_a_folder_that_is_a_link_is_not_written_through(tmp_path, report):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "runs.csv").write_text("mine")
    write_run(tmp_path, "LA")
    (tmp_path / "report").symlink_to(outside)
    code, _, err = report(tmp_path)
    assert code == 1 and err.count("\n") == 1 and "is a link, and nothing is written through one" in err
    assert [path.name for path in outside.iterdir()] == ["runs.csv"]


def test_the_command_keeps_a_table_of_its_user_and_says_so(tmp_path, report):
    write_run(tmp_path, "LA")
    (tmp_path / "report").mkdir()
    for name in ("runs.csv", "notes.html"):
        (tmp_path / "report" / name).write_text("mine")
    code, out, _ = report(tmp_path)
    assert code == 0 and f"{tmp_path / 'report' / 'runs.csv'} is of no report, or was changed; it is kept as" in out
    assert (tmp_path / "report" / "runs.csv~1").read_text() == "mine"
    assert (tmp_path / "report" / "notes.html").read_text() == "mine"
    assert [row["pattern"] for row in table(tmp_path, "runs")] == ["LA"]
