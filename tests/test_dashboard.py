"""The W&B workspace and report: of keys that runs do log, the same whenever they are made, and sent only when told."""

import json
import math
import shlex
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from report_runs import TRIED, entry, scores, write_run, write_search
from wandb_file import read_log

from hybrids import cli
from hybrids.summary import log_result
from hybrids.training import train

pytest.importorskip("wandb_workspaces")

GROUP = "trajectory-2026-11-22_10-00-00"


@pytest.fixture
def hybrids(nobody, tmp_path, capsys):
    """The command, of a user who is not logged in, in a folder of the test; code, stdout, stderr."""
    nobody.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        nobody.setattr(sys, "argv", ["hybrids", "dashboard", *arguments])
        code = cli.main()
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("something was to be sent")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("wandb.Api", refuse)


@pytest.fixture
def server(monkeypatch):
    """In place of W&B: what is saved, and its answers."""
    saved = []

    def answer(api, query, variables=None):
        if "upsertView" not in query:
            return {}
        saved.append(variables)
        ids = {"id": variables.get("id") or f"id{len(saved)}", "name": variables["name"]}
        project = {"id": "1", "name": variables["projectName"], "entityName": variables["entityName"]}
        return {"upsertView": {"view": {**ids, "project": project, "spec": variables["spec"]}, "inserted": True}}

    class Api:
        default_entity = "ourselves"

        def projects(self, entity):
            return []

        def create_project(self, name, entity):
            """Nothing to be done."""

    for module in ("workspaces.internal", "reports.v2.interface"):
        monkeypatch.setattr(f"wandb_workspaces.{module}.execute_graphql", answer)
    for module in ("workspaces.interface", "reports.v2.interface"):
        monkeypatch.setattr(f"wandb_workspaces.{module}.get_app_url", lambda api: "https://wandb.ai")
    monkeypatch.setattr("wandb.Api", Api)
    return saved


def log_in(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)


def found(node, key):
    """All values under a key, anywhere in a definition."""
    if isinstance(node, dict):
        yield from ([node[key]] if key in node else [])
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from found(one, key)


def named(record) -> dict[str, set[str]]:
    """The keys that panels and tables of runs name, by where W&B looks for them; from the JSON alone."""
    keys: dict[str, set[str]] = {"history": set(), "summary": set(), "config": set(), "figures": set()}
    panels = [panel for panels in found(record, "panels") if isinstance(panels, list) for panel in panels]
    for panel in panels:
        config, kind = panel["config"], panel["viewType"]
        plain = {"Run History Line Plot": "history", "Bar Chart": "summary"}
        accessors = [config.get(axis) for axis in ("xAxis", "yAxis")] if kind == "Scatter Plot" else []
        if kind in plain:
            keys[plain[kind]] |= {*config["metrics"], *([config["xAxis"]] if "xAxis" in config else [])}
            keys["config"].add(config["groupBy"].replace(".value", "", 1))
        elif kind == "Parallel Coordinates Plot":
            accessors = [column["accessor"] for column in config["columns"]]
        elif kind == "Weave":
            keys["summary"] |= {one["val"] for one in found(config, "key") if isinstance(one, dict)}
        elif kind == "Media Browser":
            keys["figures"] |= set(config["mediaKeys"])
        else:
            assert kind == "Scatter Plot"
        _sort_in(keys, accessors)
    for columns in found(record, "columnOrder"):
        _sort_in(keys, columns)
    for sort in found(record, "sort"):
        keys["summary"] |= {one["key"]["name"] for one in sort["keys"] if one["key"]["section"] == "summary"}
    return keys


def _sort_in(keys, accessors):
    for accessor in accessors:
        section, _, name = accessor.partition(":")
        if section != "run":
            keys[section].add(name.replace(".value", "", 1) if section == "config" else name)


def look_up(config, name):
    for part in name.split("."):
        config = config[part]
    return config


def test_every_key_of_a_panel_is_logged_by_a_run_in_its_group(hybrids, make_run, tmp_path):
    run = make_run("logger=wandb", "pattern=LA").logged_as(GROUP, "trajectory")
    result = train(run)
    code, out, _ = hybrids(str(run.folder.path.parent))
    assert code == 0 and GROUP in out
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
    from hybrids.report.dashboard import Scope

    return Scope(**{"project": "p", "groups": ("a", "b c")} | given)


def definition(**given):
    from hybrids.report.dashboard import build_report, build_workspace
    from hybrids.report.definition import Definition

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

    from hybrids.report.definition import read

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


def test_offline_the_definition_is_kept_and_the_command_for_later_works(hybrids, nobody, no_network, tmp_path):
    code, out, _ = hybrids("project=p", "group=a,b", "entity=us")
    assert code == 0 and "not logged in to W&B (wandb login): nothing was sent" in out
    later = shlex.split(out.partition("later, before or after wandb sync: ")[2])
    assert later[:2] == ["hybrids", "dashboard"] and Path(later[2].removeprefix("upload=")).is_file()
    log_in(nobody)
    nobody.setenv("WANDB_MODE", "offline")
    code, _, err = hybrids(later[2])
    assert (code, err) == (1, "error: WANDB_MODE=offline; nothing was sent\n")


def test_what_is_uploaded_later_is_what_was_kept(hybrids, nobody, server):
    _, out, _ = hybrids("project=p", "group=a")
    later = shlex.split(out.partition("wandb sync: ")[2])[2]
    file = Path(later.removeprefix("upload="))
    record = json.loads(file.read_text())
    assert server == []
    log_in(nobody)
    code, out, _ = hybrids(later)
    assert code == 0
    assert [(one["type"], one["entityName"], one["projectName"]) for one in server] == [
        ("runs", "ourselves", "p"),
        ("project-view", "ourselves", "p"),
    ]
    kept = [record["report"]["spec"], record["workspace"]["spec"]]
    assert [json.loads(one["spec"]) for one in server] == kept
    assert f"workspace: https://wandb.ai/ourselves/p?nw={server[1]['name'][3:-2]}" in out
    assert "report: https://wandb.ai/ourselves/p/reports/Hybrids:-a--id1" in out


def test_saving_again_replaces_what_was_saved(hybrids, nobody, server):
    log_in(nobody)
    for _ in range(2):
        assert hybrids("project=p", "group=a")[0] == 0
    assert hybrids("upload=runs/dashboards/p+a.json")[0] == 0
    assert [one.get("id") for one in server] == [None, None, "id1", "id2", "id1", "id2"]
    assert server[1]["name"] == server[3]["name"] == server[5]["name"]
    assert hybrids("upload=runs/dashboards/p+a.json", "entity=others")[0] == 0
    assert [(one.get("id"), one["entityName"]) for one in server[6:]] == [(None, "others")] * 2


def test_a_server_that_refuses_costs_one_sentence(hybrids, nobody, server):
    from wandb.errors import CommError

    def refuse():
        raise CommError("no route\nto host")

    log_in(nobody)
    nobody.setattr("wandb.Api", refuse)
    code, _, err = hybrids("project=p", "group=a")
    again = "hybrids dashboard upload=runs/dashboards/p+a.json tries again"
    assert (code, err) == (1, f"error: W&B does not take the dashboard (no route to host); {again}\n")


def write_logged(runs: Path, name: str, **log) -> Path:
    folder = write_run(runs, "LA", name=name)
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    logger = {"wandb": True, "project": "p", "group": "g", "job_type": "trajectory"} | log
    (folder / "config.yaml").write_text(yaml.safe_dump({**settings, "logger": logger}))
    return folder


def groups_of(file: Path) -> list[list[str]]:
    trees = [one for one in found(json.loads(file.read_text())["workspace"], "filters") if isinstance(one, dict)]
    return [leaf["value"] for tree in trees for leaf in tree["filters"]]


def test_a_folder_of_runs_names_all_groups_in_it(hybrids, tmp_path):
    for name, group in (("1", "later"), ("2", "earlier"), ("3", "later")):
        write_logged(tmp_path / "runs", name, group=group)
    write_logged(tmp_path / "runs", "4", wandb=False, group=None)
    assert hybrids("runs")[0] == 0
    assert groups_of(tmp_path / "runs" / "dashboard.json") == [["earlier", "later"]]


def test_the_folder_of_a_capacity_search_names_the_group_of_its_runs(hybrids, tmp_path):
    search = write_search(tmp_path / "runs", {"LA": {}}).parent
    for rate, seed in TRIED:
        write_logged(tmp_path / "runs", f"mqar-LA-{rate:g}-{seed}", group="capacity-1")
    assert hybrids(str(search.relative_to(tmp_path)))[0] == 0
    assert groups_of(search / "dashboard.json") == [["capacity-1"]]


def test_the_figures_of_a_report_are_logged_once_in_the_group(hybrids, tmp_path):
    import matplotlib.image
    import numpy

    write_logged(tmp_path / "runs", "1", group=GROUP)
    place = tmp_path / "runs" / "report"
    place.mkdir()
    matplotlib.image.imsave(place / "growth.png", numpy.zeros((4, 4, 3)))
    (place / "growth.csv").write_text("label,context,recall\nLA,64,0.5\nAA,64,\n")
    assert "logged offline" in hybrids("runs")[1]
    assert "logged offline" not in hybrids("runs")[1]
    (file,) = place.glob("wandb/offline-run-*/*.wandb")
    log = read_log(file)
    assert (log.run.run_group, log.run.job_type) == (GROUP, "report")
    record = json.loads((tmp_path / "runs" / "dashboard.json").read_text())
    assert "figures/growth" in named(record)["figures"] and "figures/growth/path" in log.summary
    (table,) = file.parent.glob("files/media/table/tables/growth_*.json")
    assert json.loads(table.read_text())["data"] == [["LA", 64.0, 0.5], ["AA", 64.0, None]]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["projct=p"], "unknown setting 'projct'; did you mean 'project'?"),
        (["group="], "group= has no value; leave it out or write group=<group>"),
        (["project=a/b"], "project=a/b cannot hold /, which W&B does not take in names"),
        (["project=p", "group=a,,b"], "group= holds an empty name"),
        (["here", "there"], "here and there: hybrids dashboard takes one folder"),
        (["nowhere"], "nowhere is not a folder; give one that holds runs"),
        (["upload=no.json"], "no.json does not exist; hybrids dashboard <folder of a sweep> writes such a file"),
        (["upload=x.json", "project=p"], "upload=x.json holds a whole dashboard; leave project= out"),
        (["alone"], "2 of 3 runs in alone have no W&B group; hybrids dashboard project=p shows all runs"),
        (["plain"], "plain holds no finished run that was logged to W&B; train with logger=wandb"),
        (["several"], "several has runs of 2 W&B projects: p, q; give project="),
        (["cut"], "capacity.json cannot be used"),
        (["upload=cut/capacity.json"], "cut/capacity.json is no dashboard, or damaged (Unterminated string"),
        (["upload=old.json"], "old.json is no dashboard, or damaged (version 0, where this hybrids reads 1)"),
        (["upload=half.json"], "half.json is no dashboard, or damaged (it has no 'workspace')"),
    ],
)  # fmt: skip
def test_bad_input_costs_one_sentence(hybrids, tmp_path, arguments, sentence):
    for name, groups in (("alone", (None, None, "g")), ("plain", ()), ("several", ())):
        for place, group in enumerate(groups):
            write_logged(tmp_path / name, str(place), group=group)
    write_logged(tmp_path / "plain", "1", wandb=False)
    for project in ("p", "q"):
        write_logged(tmp_path / "several", project, project=project)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "capacity.json").write_text('{"version": 1, "patt')
    (tmp_path / "old.json").write_text('{"version": 0}')
    (tmp_path / "half.json").write_text('{"version": 1}')
    code, _, err = hybrids(*arguments)
    assert code == 1 and err.count("\n") == 1
    assert sentence in err


def test_without_the_package_the_command_says_what_to_install(hybrids, nobody):
    nobody.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = hybrids("project=p")
    assert (code, err) == (1, "error: hybrids dashboard needs wandb-workspaces: pip install 'hybrids[dashboard]'\n")


def test_the_file_for_later_is_not_overwritten_with_half_a_definition(hybrids, tmp_path):
    """A file that is damaged is replaced only on demand: it may hold the ids of what was saved."""
    file = tmp_path / "runs" / "dashboards" / "p.json"
    file.parent.mkdir(parents=True)
    file.write_text("{")
    code, _, err = hybrids("project=p")
    assert code == 1 and "delete it and make it again" in err and file.read_text() == "{"
