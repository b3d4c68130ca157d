"""The report on folders of runs that were written by hand: what it shows, what it lists as missing, its numbers."""

import json
import math
import re
import shutil

import pytest
from matplotlib.image import imread
from report_runs import entry, scores, table, write_effective, write_run, write_search, write_trajectories

from hybrids.report.page.collect import collect

FIGURES = (
    *("triangle", "spokes", "recalled_by_state", "effective_bits", "accuracy_by_facts"),
    *("capacity", "growth", "learning_rates", "placement"),
)
PICTURES = ("triangle_pairs", *FIGURES[1:])


IDENTITY = {"pattern": "LA", "letters": {}, "task": {"name": "mqar"}, "optim": {}, "seed": 0}


def write_cell(sweep, number, folder, error=None, overrides=("pattern=LA",)):
    (sweep / str(number)).mkdir(parents=True)
    cell = {"overrides": list(overrides), "folder": folder and str(folder), "error": error}
    (sweep / str(number) / "cell.json").write_text(json.dumps(cell))


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A folder with a report on trajectories, placements, rates and seeds; what the command wrote stays."""
    pytest.importorskip("plotly")
    from hybrids.report.page.page import write_report

    folder = tmp_path_factory.mktemp("full") / "runs"
    write_trajectories(folder)
    write_effective(folder / "mqar-LLLA-0.003-0")
    write_search(folder, {"LLLL": {"facts": None, "interval": None}, "LLLA": {"reasons": ("few rates",)}})
    write_report(collect(folder))
    return folder


def test_every_figure_has_its_table_and_its_stills(full):
    written = {path.name for path in (full / "report").iterdir()}
    tables = {f"{name}.csv" for name in (*FIGURES, "runs", "missing")}
    assert written == {"index.html", "plotly.min.js", "manifest.json"} | tables | {
        f"{name}.{kind}" for name in PICTURES for kind in ("png", "svg")
    }
    for name in PICTURES:
        colours = imread(full / "report" / f"{name}.png")[..., :3]
        assert (colours.max(axis=2) - colours.min(axis=2) > 0.3).sum() > 1000, f"{name} has no curve"
        assert "<svg" in (full / "report" / f"{name}.svg").read_text()


def test_the_page_asks_for_nothing_outside_its_folder(full):
    page = (full / "report" / "index.html").read_text()
    assert re.findall(r"<script[^>]* src=[\"']([^\"']*)", page) == ["plotly.min.js"]
    assert "plotly.js v" in (full / "report" / "plotly.min.js").read_text()[:200]
    assert len(page) < 1_000_000
    assert not re.findall(r"https?://|//cdn|@import|url\(", page)
    addresses = re.findall(r"""(?:href|src)=["']([^"']*)""", page)
    assert addresses and all(address.startswith(("data:", "#", "plotly.min.js")) for address in addresses)


def test_the_same_runs_make_the_same_files(tmp_path, report):
    write_run(tmp_path, "LA", triangle=[entry(64)])

    def written():
        report(tmp_path, stills=True)
        return {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()}

    assert written() == written()


def test_a_path_runs_from_no_attention_to_all_of_it(full):
    rows = [row for row in table(full, "triangle") if row["kind"] == "path" and row["context"] == "128"]
    assert [row["letters"] for row in rows] == ["0", "1", "2", "4"]
    assert [row["pattern"] for row in rows] == ["LLLL", "4 with 1", "2 with 2", "AAAA"]
    assert [float(row["efficiency"]) for row in rows] == pytest.approx([1 - k / 4 * 128 / 328 for k in (0, 1, 2, 4)])


def test_coordinates_are_means_over_the_seeds_at_the_best_rate(full):
    (row,) = [r for r in table(full, "triangle") if (r["kind"], r["label"], r["context"]) == ("model", "LLLL", "64")]
    assert row["learning_rate"] == "0.003" and row["seeds"] == "3"
    assert float(row["recall"]) == pytest.approx((0.40 + 0.38 + 0.36) / 3)
    assert (float(row["recall_low"]), float(row["recall_high"])) == pytest.approx((0.36, 0.40))
    assert float(row["total"]) == pytest.approx(1 + 1 + 0.38)


def test_every_run_at_every_context_stands_in_the_recall_table(full):
    rows = table(full, "recalled_by_state")
    assert len(rows) == 8 * 3 * 3 * 3
    for row in rows:
        assert float(row["utilisation"]) == pytest.approx(float(row["recalled_bits"]) / float(row["state_bits"]))
        assert float(row["drawn_at"]) > 0
        if float(row["recalled_bits"]) > 0:
            assert row["drawn_at"] == row["recalled_bits"]


def test_accuracy_has_the_range_over_the_seeds(tmp_path, report):
    for seed, four in enumerate((0.8, 1.0, 0.6)):
        write_run(tmp_path, "LA", seed=seed, test=scores(0.7, k4=four, k16=0.5))
    assert report(tmp_path)[0] == 0
    rows = table(tmp_path, "accuracy_by_facts")
    assert [row["facts"] for row in rows] == ["4", "16"]
    assert [float(rows[0][key]) for key in ("accuracy", "low", "high", "seeds")] == pytest.approx([0.8, 0.6, 1.0, 3])


def test_placements_say_which_layers_hold_the_letter(full):
    rows = table(full, "placement")
    held = {row["label"]: "" for row in rows}
    for row in rows:
        held[row["label"]] += "A" if row["holds_letter"] == "True" else "L"
    assert held == {name: name for name in ("ALLL", "LALL", "LLAL", "LLLA", "AALL", "LALA")}


def test_another_letter_can_be_compared(tmp_path, report):
    mixers = {"L": "gla", "M": "mamba"}
    for pattern in ("LLM", "MLL"):
        write_run(tmp_path, pattern, mixers=mixers)
    assert report(tmp_path, "--letter", "M")[0] == 0
    assert {row["layer"] for row in table(tmp_path, "placement") if row["holds_letter"] == "True"} == {"2", "0"}


def test_state_and_cost_stand_at_every_context_measured(tmp_path, report):
    write_run(tmp_path, "LA", triangle=[entry(64, 111), entry(128, 222, step_flops=7)])
    write_run(tmp_path, "LL")
    report(tmp_path)
    rows = {(row["label"], row["context"]): (row["state_bits"], row["step_flops"]) for row in table(tmp_path, "growth")}
    assert rows == {("LA", "64"): ("111", "5000"), ("LA", "128"): ("222", "7"), ("LL", "64"): ("32000", "5000")}


def test_a_sweep_shows_its_cells_and_says_what_failed(tmp_path, report, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = tmp_path / "runs" / "sweeps" / "today"
    done = write_run(tmp_path / "runs", "LA").relative_to(tmp_path)
    write_cell(sweep, 0, done)
    write_cell(sweep, 1, None, error="d_model=3 is odd", overrides=("pattern=AA", "model.d_model=3"))
    write_cell(sweep, 2, done)
    write_cell(sweep, 3, "runs/gone")
    (sweep / "10").mkdir()
    monkeypatch.chdir(sweep)  # the folders of the cells count from where the sweep was started
    code, out, _ = report(sweep)
    assert code == 0 and "1 runs shown, 4 not" in out
    reasons = {row["run"]: row["reason"] for row in table(sweep, "missing")}
    assert reasons["cell 1: pattern=AA model.d_model=3"] == "failed: d_model=3 is odd"
    assert "the same run" in reasons[str(done)]
    assert "is gone" in reasons["cell 3: pattern=LA"]
    assert reasons["cell 10"] == "not finished: it has no cell.json"


def test_what_cannot_be_read_is_listed_with_its_reason(tmp_path, report):
    write_run(tmp_path, "LA", name="good")
    cut = write_run(tmp_path, "LA", name="cut") / "result.json"
    cut.write_text(cut.read_text()[: cut.stat().st_size // 2])
    write_run(tmp_path, "LA", name="future", version=7)
    write_run(tmp_path, "LA", name="unversioned", version=None)
    write_run(tmp_path, "LA", name="lacking", step_flops=None)
    write_run(tmp_path, "LA", name="worded", state_bits="many")
    write_run(tmp_path, "LA", name="claimed", chance_accuracy=True)
    write_run(tmp_path, "LA", name="partly", triangle=[entry(64) | {"efficiency": None}])
    write_run(tmp_path, "LA", name="likely", test=scores(7))
    write_run(tmp_path, "LA", name="steep", triangle=[entry(64, efficiency=-3)])
    write_run(tmp_path, "LA", name="undefined", test=scores(math.nan))
    write_run(tmp_path, "LA", name="sliced", test=scores(0.5, kabc=0.5))
    write_run(tmp_path, "LA", name="halved", test=scores(0.5, k8=1.5))
    write_run(tmp_path, "LA", name="negative", state_bits=-1)
    write_run(tmp_path, "LA", name="lettered", identity=IDENTITY | {"letters": {"L": []}})
    write_run(tmp_path, "LA", name="disguised", code={"commit": "a\u202eb"})
    write_run(tmp_path, "LA", name="scripted", hardware={"a\nb": 1})
    write_run(tmp_path, "LA", name="good~1")
    (write_run(tmp_path, "LA", name="listed") / "result.json").write_text("[]")
    (write_run(tmp_path, "LA", name="binary") / "result.json").write_bytes(b"\xff\xfe\x00")
    (write_run(tmp_path, "LA", name="running") / "result.json").unlink()
    code, out, err = report(tmp_path)
    assert (code, err) == (0, "") and "1 runs shown, 20 not" in out
    reasons = {row["run"]: row["reason"] for row in table(tmp_path, "missing")}
    expected = {
        "cut": "damaged",
        "future": "version 7; this hybrids reads version 1",
        "unversioned": "version None",
        "lacking": "it has no step_flops",
        "worded": "state_bits is 'many': it should be a valid integer",
        "claimed": "chance_accuracy is True: it should be a valid number",
        "partly": "triangle.0.efficiency is None: it should be a valid number",
        "likely": "test.accuracy is 7: it should be less than or equal to 1",
        "steep": "triangle.0.efficiency is -3: it should be greater than or equal to -1",
        "undefined": "it holds NaN, which is no JSON",
        "sliced": "test.accuracy/num_pairs=abc is no score of a slice: abc is no whole number",
        "halved": "test.accuracy/num_pairs=8 is 1.5: it should be from 0 to 1, or null",
        "negative": "state_bits is -1: it should be greater than or equal to 0",
        "lettered": "identity.letters.L is []: it should be a valid dictionary",
        "disguised": r"code.commit is 'a\u202eb': it cannot be shown",
        "scripted": r"a name in hardware is 'a\nb': it cannot be shown",
        "good~1": "set aside",
        "listed": "cannot be used",
        "binary": "cannot be used",
        "running": "not finished",
    }
    assert reasons.keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in reasons[name], f"{name}: {reasons[name]}"
        assert str(tmp_path) not in reasons[name]
    assert [row["run"] for row in table(tmp_path, "runs")] == ["good"]


def test_a_folder_of_unfinished_runs_still_has_a_page(tmp_path, report):
    (write_run(tmp_path, "LA") / "result.json").write_text("{")
    code, out, err = report(tmp_path)
    assert code == 1 and "0 runs shown, 1 not" in out
    assert err == f"error: no run in {tmp_path} can be used\n"
    assert "damaged" in (tmp_path / "report" / "index.html").read_text()


@pytest.mark.parametrize(("inside", "hint"), [((), "holds no runs"), (("sweeps", "today"), "folders with runs:")])
def test_an_empty_folder_is_one_error(tmp_path, report, inside, hint):
    if inside:
        write_cell(tmp_path.joinpath(*inside), 0, None, "failed")
    code, _, err = report(tmp_path)
    assert code == 1 and hint in err and err.count("\n") == 1
    assert not (tmp_path / "report").exists()


def test_a_folder_that_does_not_exist_is_one_error(tmp_path, report):
    code, _, err = report(tmp_path / "nowhere")
    assert code == 1 and "is not a folder" in err and err.count("\n") == 1


@pytest.mark.parametrize("told", [{"law_broken": True, "surely": 40.0}, {"law_broken": False, "surely": 51.0}])
def test_a_broken_law_is_an_error_at_the_top_and_in_the_exit_code(tmp_path, report, told):
    write_run(tmp_path, "LA", name="leak", triangle=[entry(64, 50, **told)])
    code, _, err = report(tmp_path, stills=told["law_broken"])
    assert code == 1 and "the law r <= s is broken: leak at context 64" in err
    page = (tmp_path / "report" / "index.html").read_text()
    assert 'class="alarm"' in page and page.index("ERROR: 1 result") < page.index("<section>")
    assert [row["law_broken"] for row in table(tmp_path, "recalled_by_state")] == ["True"]


def test_no_alarm_without_a_broken_law(full):
    assert 'class="alarm"' not in (full / "report" / "index.html").read_text()


def test_a_figure_without_numbers_says_so_and_leaves_no_old_one(tmp_path, report):
    write_run(tmp_path, "LA", triangle=[entry(64)], test=scores(0.5))
    report(tmp_path, stills=True)
    assert (tmp_path / "report" / "triangle_pairs.png").exists()
    result = next(tmp_path.glob("*/result.json"))
    result.write_text(json.dumps({k: v for k, v in json.loads(result.read_text()).items() if k != "triangle"}))
    assert report(tmp_path, stills=True)[0] == 0
    assert not (tmp_path / "report" / "triangle_pairs.png").exists()
    page = (tmp_path / "report" / "index.html").read_text()
    assert "no result.json holds coordinates" in page
    assert "no test score is split by num_pairs; there are no slices" in page
    assert "all runs have one learning rate" in page


def test_runs_without_coordinates_are_named_beside_those_with(tmp_path, report):
    write_run(tmp_path, "LA", triangle=[entry(64)])
    write_run(tmp_path, "LL")
    report(tmp_path)
    assert "without coordinates in result.json: LL." in (tmp_path / "report" / "index.html").read_text()


def test_a_coordinate_that_no_spoke_can_hold_is_named(tmp_path, report):
    write_run(tmp_path, "AL", triangle=[entry(64, efficiency=-0.1)])
    write_run(tmp_path, "AA", triangle=[entry(64, efficiency=0.0, compactness=0.0, recall=0.0)])
    write_run(tmp_path, "LL", triangle=[entry(64)])
    assert report(tmp_path, stills=True)[0] == 0
    assert (
        "(growth that is more than in proportion) is drawn at 0: AL."
        in (tmp_path / "report" / "index.html").read_text()
    )


def test_runs_of_several_commits_are_pointed_out(tmp_path, report):
    for seed, commit in enumerate(("aaaa", "bbbb")):
        write_run(tmp_path, "LA", seed=seed, code={"commit": commit, "changes": "cafe" if seed else None})
    report(tmp_path)
    assert "2 values of commit: aaaa, bbbb + changes" in (tmp_path / "report" / "index.html").read_text()
    assert [row["commit"] for row in table(tmp_path, "runs")] == ["aaaa", "bbbb + changes"]


def test_names_of_runs_cannot_become_markup(tmp_path, report):
    write_run(tmp_path, "LA", name="<script>alert(1)</script>".replace("/", ""))
    report(tmp_path)
    assert "<script>alert" not in (tmp_path / "report" / "index.html").read_text()


def test_without_plotly_the_command_says_how_to_install_it(tmp_path, report, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "plotly" else object())
    code, _, err = report(tmp_path)
    assert code == 1 and "hybrids report needs plotly: pip install 'hybrids[report]'" in err


def test_a_result_may_hold_more_and_config_less_than_the_report_needs(tmp_path, report):
    """Keys of a later version, scores after divergence, no coordinates yet, a learning rate that is a word."""
    run = write_run(tmp_path, "LA", name="new", further={"a": 1}, val=scores(None), test=scores(None))
    (run / "config.yaml").write_text("optim:\n  lr: fast\n")
    write_run(tmp_path, "LA", name="old", lr=0.003)
    (tmp_path / "old" / "config.yaml").unlink()
    assert report(tmp_path)[0] == 0
    shown = {row["run"]: (row["accuracy"], row["learning_rate"]) for row in table(tmp_path, "runs")}
    assert shown == {"new": ("", "0.01"), "old": ("0.9", "")}


def test_a_copied_run_counts_once_and_another_training_of_its_settings_is_named(tmp_path, report):
    original = write_run(tmp_path, "LA")
    shutil.copytree(original, tmp_path / "a copy")
    write_run(tmp_path, "LA", name="on another day", seconds=99.0)
    write_run(tmp_path, "LA", seed=1)
    assert report(tmp_path)[0] == 0
    assert [row["run"] for row in table(tmp_path, "runs")] == [original.name, "mqar-LA-0.01-1"]
    assert {row["run"]: row["reason"] for row in table(tmp_path, "missing")} == {
        "a copy": f"a copy of {original.name}, which is shown",
        "on another day": f"another training of the settings and the seed of {original.name}, which is shown",
    }


def test_names_of_folders_are_shown_as_one_line_each(tmp_path, report):
    (write_run(tmp_path, "LA", name="a\nb\x1b[31m\u202e" + "c" * 200) / "result.json").unlink()
    (write_run(tmp_path, "LA", name="[bold]$x^2$<b>") / "result.json").write_text("{}")
    write_run(tmp_path, "LA", name="good")
    code, out, _ = report(tmp_path)
    assert code == 0 and out.count("\n") == 3 and "\x1b" not in out
    named = [row["run"] for row in table(tmp_path, "missing")]
    assert named == ["[bold]$x^2$<b>", r"a\nb\x1b[31m\u202e" + "c" * 55 + "..." + "c" * 33]
