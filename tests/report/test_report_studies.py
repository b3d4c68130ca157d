"""What a report shows of effective bits and of capacity searches, and how it finds them."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from report_runs import TRIED, entry, scores, table, write_effective, write_run, write_search

from hybrids.studies.effective_bits.record import FILE


def page(folder):
    return (folder / "report" / "index.html").read_text()


def write_trials(runs, *patterns, **changes):
    for pattern in patterns:
        for rate, seed in TRIED:
            write_run(runs, pattern, lr=rate, seed=seed, **changes)


# Effective bits


def test_effective_bits_stand_beside_those_stored(tmp_path, report):
    write_effective(write_run(tmp_path, "LA", triangle=[entry(64), entry(128)]))
    write_run(tmp_path, "LL", triangle=[entry(64)])
    assert report(tmp_path)[0] == 0
    rows = {(row["label"], row["context"]): row for row in table(tmp_path, "recalled_by_state")}
    told = ("effective_bits", "effective_recalled", "effective_utilisation")
    assert [float(rows["LA", "64"][key]) for key in told] == pytest.approx([4000, 79.6, 79.6 / 4000])
    assert [rows[other][key] for other in (("LA", "128"), ("LL", "64")) for key in told] == [""] * 6
    curve = [(row["state"], row["total_bits"], row["is_smallest"]) for row in table(tmp_path, "effective_bits")]
    stored = ("stored", "32000", "False")
    assert curve == [stored, ("rounded", "8000", "False"), ("rounded", "4000", "True"), ("rounded", "2000", "False")]
    shares = [float(row["share_kept"]) for row in table(tmp_path, "effective_bits")]
    assert shares == pytest.approx([1, 1, 0.995, 0.5])
    assert "not measured, which hybrids bits does: mqar-LL-0.01-0" in page(tmp_path)


def test_effective_bits_are_those_of_the_rate_that_validates_best(tmp_path, report):
    for lr, validated in ((0.003, 0.6), (0.01, 0.9)):
        write_effective(write_run(tmp_path, "LA", lr=lr, val=scores(validated)))
    report(tmp_path)
    assert {row["learning_rate"] for row in table(tmp_path, "effective_bits")} == {"0.01"}


def test_an_earlier_rounding_is_marked_and_not_shown_beside_the_present_one(tmp_path, report):
    first, second = (write_run(tmp_path, pattern, name=pattern, triangle=[entry(64)]) for pattern in ("LA", "LL"))
    write_effective(first, method=1)
    report(tmp_path)
    assert {row["run"] for row in table(tmp_path, "effective_bits")} == {"LA"}
    assert page(tmp_path).count("LA: rounded to evenly spaced levels, as earlier hybrids did") == 2  # in both figures
    write_effective(second)
    report(tmp_path)
    assert {row["run"] for row in table(tmp_path, "effective_bits")} == {"LL"}
    (reason,) = (row["reason"] for row in table(tmp_path, "missing") if row["run"] == "LA, effective bits")
    assert reason.startswith("not comparable: rounded to evenly spaced levels")
    assert "LA: rounded" not in page(tmp_path)


def test_a_run_that_recalls_nothing_has_no_share(tmp_path, report):
    write_effective(write_run(tmp_path, "LA", triangle=[entry(64)]), 0.5, surely=0.0)
    assert report(tmp_path)[0] == 0
    assert table(tmp_path, "effective_bits") == []
    assert "mqar-LA-0.01-0: nothing was recalled for sure" in page(tmp_path)


def test_without_measurements_the_page_names_the_command(tmp_path, report):
    write_run(tmp_path, "LA")
    report(tmp_path)
    assert "hybrids bits &lt;folder of runs&gt; measures it" in page(tmp_path)
    assert "no search for a capacity has used these runs" in page(tmp_path)


def test_a_cut_file_is_listed_and_the_run_is_shown(tmp_path, report):
    run = write_run(tmp_path, "LA", name="good")
    write_effective(run)
    text = (run / FILE).read_text()
    (run / FILE).write_text(text[: len(text) // 2])
    code, out, err = report(tmp_path)
    assert (code, err) == (0, "")
    (reason,) = (row["reason"] for row in table(tmp_path, "missing") if row["run"] == "good, effective bits")
    assert reason.startswith("eval/effective_bits.csv is damaged: it is cut")
    assert reason in out and str(tmp_path) not in reason
    assert [row["run"] for row in table(tmp_path, "runs")] == ["good"]


def test_a_rounded_state_that_gives_back_more_than_it_holds_is_an_alarm(tmp_path, report):
    write_effective(write_run(tmp_path, "LA", name="leak"), 80.0, elements=7, surely=60.0)
    code, _, err = report(tmp_path)
    assert code == 1 and err.count("\n") == 3  # surely 60 bits through 56, 59.7 through 28, 30 through 14
    assert "leak, its state rounded by hybrids bits: surely more than 60.0 bits recalled through 56 bits" in err
    assert 'class="alarm"' in page(tmp_path)


# Capacity


def test_capacities_are_found_from_any_folder_of_their_runs(tmp_path, report):
    runs = tmp_path / "runs"
    write_trials(runs, "LL", "LA")
    record = write_search(runs, {"LL": {"reasons": ("only 1 learning rate tried",)}, "LA": {"facts": 6.5}})
    sweep = runs / "sweeps" / "today"
    (sweep / "0").mkdir(parents=True)
    cell = {"overrides": [], "folder": str(runs / "mqar-LA-0.003-1"), "error": None}
    (sweep / "0" / "cell.json").write_text(json.dumps(cell))
    both = [("LL", "5.0", "True"), ("LA", "6.5", "False")]
    for folder, shown in ((runs, both), (record.parent, both), (sweep, both[1:])):
        assert report(folder)[0] == 0
        assert [(row["label"], row["facts"], row["is_lower_bound"]) for row in table(folder, "capacity")] == shown
    (row,) = table(sweep, "capacity")
    numbers = {"low": 4, "high": 6, "coverage": 0.5, "learning_rate": 0.003, "window_low": 0.001, "window_high": 0.003}
    assert {key: float(row[key]) for key in numbers} == pytest.approx(numbers)
    assert float(row["window_decades"]) == pytest.approx(0.4771, abs=1e-4)
    assert row["rates"] == "0.001 0.003 0.01"
    assert "LL: a lower bound: only 1 learning rate tried" in page(runs)
    assert len(table(record.parent, "runs")) == 10


def test_a_search_of_other_runs_is_not_shown(tmp_path, report):
    write_run(tmp_path, "LA", name="mine")
    write_search(tmp_path, {"LL": {}})
    report(tmp_path)
    assert table(tmp_path, "capacity") == []


def test_searches_that_differ_in_width_only_are_told_apart(tmp_path, report):
    for width, name in ((16, "narrow"), (32, "wide")):
        write_trials(tmp_path / name, "LA", d_model=width)
        write_search(tmp_path / name, {"LA": {}}, name=name)
    runs = tmp_path / "both"
    runs.mkdir()
    for number, run in enumerate((*tmp_path.glob("narrow/mqar*"), *tmp_path.glob("wide/mqar*"))):
        (runs / str(number)).mkdir()
        (runs / str(number) / "cell.json").write_text(json.dumps({"overrides": [], "folder": str(run), "error": None}))
    report(runs)
    assert [row["label"] for row in table(runs, "capacity")] == ["LA · d_model=16", "LA · d_model=32"]


def test_the_same_pattern_in_two_searches_bears_their_names(tmp_path, report):
    write_trials(tmp_path, "LA")
    write_run(tmp_path, "LA", name="other", d_model=64)  # of no search: its width says nothing about them
    for name in ("first", "second"):
        write_search(tmp_path, {"LA": {}}, name=name)
    report(tmp_path)
    assert [row["label"] for row in table(tmp_path, "capacity")] == ["LA · first", "LA · second"]


def test_no_seed_that_learned_is_no_number(tmp_path, report):
    write_trials(tmp_path, "LL")
    write_search(tmp_path, {"LL": {"facts": None, "interval": None, "num_never_learned": 2, "window": ()}})
    assert report(tmp_path)[0] == 0
    (row,) = table(tmp_path, "capacity")
    assert (row["facts"], row["low"], row["never_learned"], row["seeds"]) == ("", "", "2", "2")
    assert "LL: no K*, for no seed learned" in page(tmp_path)


def test_more_facts_than_the_state_holds_are_an_alarm(tmp_path, report):
    """2,000 bits hold 297 values out of 256 at an error of 0.1, which need 6.73 bits each."""
    write_trials(tmp_path, "LA")
    write_search(tmp_path, {"LA": {"facts": 250.0}})
    assert report(tmp_path)[0] == 0
    write_search(tmp_path, {"LA": {"facts": 299.0}})
    code, _, err = report(tmp_path)
    assert code == 1 and "LA in the search mqar-a-search: 299 facts recalled, of which its state of 2,000 bits" in err


def test_a_stopped_search_is_known_by_the_group_of_its_runs(tmp_path, report):
    config = write_run(tmp_path, "LA") / "config.yaml"
    settings = yaml.safe_load(config.read_text()) | {"logger": {"group": "capacity-mqar-LA-1234"}}
    config.write_text(yaml.safe_dump(settings))
    report(tmp_path)
    reasons = {row["run"]: row["reason"] for row in table(tmp_path, "missing")}
    assert "has no capacity.json: it was stopped" in reasons["mqar-LA-1234"]
    write_search(tmp_path, {"LA": {}}, name="mqar-LA-1234")
    report(tmp_path)
    assert table(tmp_path, "missing") == []


def unsealed(text):
    """A record as earlier versions wrote it, without a digest of its content."""
    return re.sub(r',\s*"digest": "\w+"', "", text)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text[: len(text) // 2], "cannot be used: "),
        (lambda text: text.replace('"size"', '"sighs"'), "it was changed after it was written"),
        (lambda text: unsealed(text).replace('"version": 1', '"version": 9'), "version is 9: it should be 1"),
        (lambda text: unsealed(text).replace('"size"', '"sighs"'), "it has no patterns.0.size"),
        (lambda text: "[]", "cannot be used"),
    ],
)
def test_a_record_that_cannot_be_read_is_listed(tmp_path, report, damage, reason):
    write_trials(tmp_path, "LA")
    record = write_search(tmp_path, {"LA": {}})
    record.write_text(damage(record.read_text()))
    code, _, err = report(tmp_path)
    assert (code, err) == (0, "")
    (row,) = table(tmp_path, "missing")
    assert row["run"] == "mqar-a-search" and reason in row["reason"] and str(tmp_path) not in row["reason"]
    code, _, err = report(record.parent)
    assert code == 1 and err.count("\n") == 1 and reason in err


def test_trials_whose_folder_is_gone_are_listed(tmp_path, report):
    write_trials(tmp_path, "LA")
    record = write_search(tmp_path, {"LA": {}})
    shutil.rmtree(tmp_path / "mqar-LA-0.01-0")
    assert report(record.parent)[0] == 0
    (row,) = table(record.parent, "missing")
    assert row["run"] == "mqar-LA-0.01-0" and Path(row["reason"].split()[2]).name == "mqar-LA-0.01-0"
