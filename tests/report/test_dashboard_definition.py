"""The W&B workspace and report: of keys that runs do log, and the same whenever they are made."""

import json
import math
from types import SimpleNamespace

import pytest
from dashboards import found, named
from report_runs import entry, scores, write_run
from wandb_file import read_log

from hybrids.training.train import train
from hybrids.training.wandb_result import log_result

pytest.importorskip("wandb_workspaces")

GROUP = "trajectory-2026-11-22_10-00-00"


def look_up(config, name):
    for part in name.split("."):
        config = config[part]
    return config


def test_every_key_of_a_panel_is_logged_by_a_run_in_its_group(hybrids, nobody, make_run, tmp_path):
    run = make_run("logger=wandb", "pattern=LA").logged_as(GROUP, "trajectory")
    result = train(run)
    assert GROUP in hybrids("dashboard", str(run.folder.path.parent)).said()
    record = json.loads((tmp_path / "runs" / "dashboard.json").read_text())
    (file,) = run.folder.path.glob("wandb/offline-run-*/*.wandb")
    log = read_log(file)
    keys = named(record)
    missing = keys["summary"] - set(log.summary)
    assert not {key for key in missing if f"{key}/path" not in log.summary}  # a table is a file
    assert not keys["history"] - {name for row in log.history for name in row}
    assert all(look_up(log.config, name) is not None for name in keys["config"])
    assert min(map(len, keys.values())) > 3
    assert (log.run.run_group, log.run.job_type, log.run.project) == (GROUP, "trajectory", "hybrids")
    (table,) = file.parent.glob("files/media/table/accuracy_by_num_pairs_*.json")
    assert json.loads(table.read_text())["data"] == [["LA", 0.006, 0, 2, result["test"]["accuracy"]]]
    assert [log.summary[f"triangle/{n}x/context"] for n in (1, 2, 4)] == [16, 32, 64]
    assert log.summary["parameters/backbone"] == result["parameters"]["backbone"]


def test_the_curve_of_accuracy_is_logged_in_order_as_points_and_as_a_table(tmp_path):
    measured = scores(0.7, k16=0.25, k4=1.0, k8=math.nan) | {"accuracy/length=64": 0.5}
    folder = write_run(tmp_path, "LLLA", lr=0.02, seed=3, test=measured, triangle=[entry(64), entry(256, recall=None)])
    result = json.loads((folder / "result.json").read_text())
    log = SimpleNamespace(rows=[], summary={})
    log.log = log.rows.append
    log_result(log, result, rate=0.02)
    points = [{"by_num_pairs/num_pairs": k, "by_num_pairs/accuracy": score} for k, score in ((4, 1.0), (16, 0.25))]
    assert [row for row in log.rows if "by_num_pairs/accuracy" in row] == points
    (table,) = [row["accuracy_by_num_pairs"] for row in log.rows if "accuracy_by_num_pairs" in row]
    assert table.columns == ["pattern", "learning_rate", "seed", "num_pairs", "accuracy"]
    assert table.data == [["LLLA", 0.02, 3, 4, 1.0], ["LLLA", 0.02, 3, 16, 0.25]]
    (numbers,) = [row for row in log.rows if "state_bits" in row]
    assert numbers["triangle/1x/recall"] == 0.8 and numbers["triangle/4x/recalled_bits"] == 80.0
    assert "triangle/4x/recall" not in numbers and numbers["parameters/backbone"] == 2000
    assert log.summary["stopped"] == "max_steps" and not {"test", "triangle", "identity"} & set(log.summary)


def scope(**given):
    from hybrids.report.wandb.dashboard import Scope

    return Scope(**{"project": "p", "groups": ("a", "b c"), "facts": "num_pairs"} | given)


def definition(**given):
    from hybrids.report.wandb.dashboard import build_report, build_workspace
    from hybrids.report.wandb.definition import Definition

    return Definition(build_workspace(scope(**given)), build_report(scope(**given)))


def test_a_definition_depends_on_its_scope_alone(tmp_path, no_network):
    from wandb_workspaces.reports.v2.internal import Runset

    for name in ("before", "after"):
        definition().write(tmp_path / name)
    text = (tmp_path / "before").read_text()
    assert text == (tmp_path / "after").read_text()
    assert Runset.model_fields["id"].default not in text  # drawn anew in every process
    definition(groups=("a",)).write(tmp_path / "other")
    assert text != (tmp_path / "other").read_text()


def test_a_definition_is_what_wandb_workspaces_reads_and_writes(tmp_path):
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces.reports.v2.interface import Report, UnknownBlock, UnknownPanel

    from hybrids.report.wandb.definition import read

    definition(entity="us").write(tmp_path / "file")
    again = read(tmp_path / "file")
    assert isinstance(again.workspace, ws.Workspace) and isinstance(again.report, Report)
    again.write(tmp_path / "again")
    assert (tmp_path / "file").read_text() == (tmp_path / "again").read_text()
    panels = [panel for section in again.workspace.sections for panel in section.panels]
    panels += [panel for block in again.report.blocks for panel in getattr(block, "panels", [])]
    assert len(panels) > 40 and not any(isinstance(panel, UnknownPanel) for panel in panels)
    assert not any(isinstance(block, UnknownBlock) for block in again.report.blocks)
    assert again.report.width == "fluid"


def test_runs_are_chosen_by_group_and_never_by_id(tmp_path):
    definition().write(tmp_path / "file")
    record = json.loads((tmp_path / "file").read_text())
    filters = [one["filters"] for one in found(record, "filters") if isinstance(one, dict)]
    assert len(filters) == 1 + 7  # of the workspace, and of every section of the report
    wanted = {"key": {"section": "run", "name": "group"}, "op": "IN", "value": ["a", "b c"], "disabled": False}
    assert all(one == [wanted] for one in filters)
    definition(groups=()).write(tmp_path / "all")
    assert not any(one["filters"] for one in found(json.loads((tmp_path / "all").read_text()), "filters") if one)


def test_every_panel_has_an_id_of_its_own(tmp_path):
    definition().write(tmp_path / "file")
    record = json.loads((tmp_path / "file").read_text())
    for part in ("workspace", "report"):
        ids = list(found(record[part], "__id__"))
        assert len(ids) == len(set(ids)) > 20 and all(ids)


def test_without_a_slice_that_counts_facts_their_section_is_left_out(hybrids, nobody, tmp_path):
    def sections(file):
        return [one["name"] for ones in found(json.loads(file.read_text()), "sections") for one in ones]

    place = tmp_path / "runs" / "dashboards" / "p.json"
    assert "left out: accuracy against the number of facts" in hybrids("dashboard", "project=p").said()
    before = sections(place)
    assert "left out" not in hybrids("dashboard", "project=p", "facts=num_pairs").said()
    assert set(sections(place)) - set(before) == {"Accuracy and number of facts"}
