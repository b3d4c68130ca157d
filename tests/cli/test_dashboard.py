"""`hybrids dashboard`: which runs it shows, what is sent and when, and what it refuses."""

import json
import shlex
from functools import partial
from pathlib import Path

import pytest
import yaml
from dashboards import found, named
from report_runs import TRIED, write_run, write_search
from wandb_file import read_log

from hybrids.report.page import folder

pytest.importorskip("wandb_workspaces")


@pytest.fixture
def dashboard(hybrids, nobody):
    """The command, of a user who is not logged in, in a folder of the test."""
    return partial(hybrids, "dashboard")


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


def test_offline_the_definition_is_kept_and_the_command_for_later_works(dashboard, nobody, no_network, tmp_path):
    code, out, _ = dashboard("project=p", "group=a,b", "entity=us")
    assert code == 0 and "not logged in to W&B (wandb login): nothing was sent" in out
    later = shlex.split(out.partition("later, before or after wandb sync: ")[2])
    assert later[:2] == ["hybrids", "dashboard"] and Path(later[2].removeprefix("upload=")).is_file()
    log_in(nobody)
    nobody.setenv("WANDB_MODE", "offline")
    code, _, err = dashboard(later[2])
    assert (code, err) == (1, "error: WANDB_MODE=offline; nothing was sent\n")


def test_what_is_uploaded_later_is_what_was_kept(dashboard, nobody, server):
    _, out, _ = dashboard("project=p", "group=a")
    later = shlex.split(out.partition("wandb sync: ")[2])[2]
    file = Path(later.removeprefix("upload="))
    record = json.loads(file.read_text())
    assert server == []
    log_in(nobody)
    code, out, _ = dashboard(later)
    assert code == 0
    assert [(one["type"], one["entityName"], one["projectName"]) for one in server] == [
        ("runs", "ourselves", "p"),
        ("project-view", "ourselves", "p"),
    ]
    kept = [record["report"]["spec"], record["workspace"]["spec"]]
    assert [json.loads(one["spec"]) for one in server] == kept
    assert f"workspace: https://wandb.ai/ourselves/p?nw={server[1]['name'][3:-2]}" in out
    assert "report: https://wandb.ai/ourselves/p/reports/Hybrids:-a--id1" in out


def test_saving_again_replaces_what_was_saved(dashboard, nobody, server):
    log_in(nobody)
    for _ in range(2):
        assert dashboard("project=p", "group=a")[0] == 0
    assert dashboard("upload=runs/dashboards/p+a.json")[0] == 0
    assert [one.get("id") for one in server] == [None, None, "id1", "id2", "id1", "id2"]
    assert server[1]["name"] == server[3]["name"] == server[5]["name"]
    assert dashboard("upload=runs/dashboards/p+a.json", "entity=others")[0] == 0
    assert [(one.get("id"), one["entityName"]) for one in server[6:]] == [(None, "others")] * 2


def test_a_server_that_refuses_costs_one_sentence(dashboard, nobody, server):
    from wandb.errors import CommError

    def refuse():
        raise CommError("no route\nto host")

    log_in(nobody)
    nobody.setattr("wandb.Api", refuse)
    code, _, err = dashboard("project=p", "group=a")
    again = "hybrids dashboard upload=runs/dashboards/p+a.json tries again"
    assert (code, err) == (1, f"error: W&B does not take the dashboard (no route to host); {again}\n")


def write_logged(runs: Path, name: str, **log) -> Path:
    folder = write_run(runs, "LA", name=name, seed=sum(name.encode()))  # each another run
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    logger = {"wandb": True, "project": "p", "group": "g", "job_type": "trajectory"} | log
    (folder / "config.yaml").write_text(yaml.safe_dump({**settings, "logger": logger}))
    return folder


def groups_of(file: Path) -> list[list[str]]:
    trees = [one for one in found(json.loads(file.read_text())["workspace"], "filters") if isinstance(one, dict)]
    return [leaf["value"] for tree in trees for leaf in tree["filters"]]


def test_a_folder_of_runs_names_all_groups_in_it(dashboard, tmp_path):
    for name, group in (("1", "later"), ("2", "earlier"), ("3", "later")):
        write_logged(tmp_path / "runs", name, group=group)
    write_logged(tmp_path / "runs", "4", wandb=False, group=None)
    assert dashboard("runs")[0] == 0
    assert groups_of(tmp_path / "runs" / "dashboard.json") == [["earlier", "later"]]


def test_another_project_keeps_the_groups_of_the_folder(dashboard, tmp_path):
    for name, project, group in (("1", "p", "ours"), ("2", "q", "theirs")):
        write_logged(tmp_path / "runs", name, project=project, group=group)
    for project, groups in (("p", ["ours"]), ("moved", ["ours", "theirs"])):
        assert dashboard("runs", f"project={project}")[0] == 0
        assert groups_of(tmp_path / "runs" / "dashboard.json") == [groups]


def test_the_folder_of_a_capacity_search_names_the_group_of_its_runs(dashboard, tmp_path):
    search = write_search(tmp_path / "runs", {"LA": {}}).parent
    for rate, seed in TRIED:
        write_logged(tmp_path / "runs", f"mqar-LA-{rate:g}-{seed}", group="capacity-1")
    assert dashboard(str(search.relative_to(tmp_path)))[0] == 0
    assert groups_of(search / "dashboard.json") == [["capacity-1"]]


def test_the_figures_of_a_report_are_logged_once_in_the_group(dashboard, tmp_path):
    import matplotlib.image
    import numpy

    write_logged(tmp_path / "runs", "1", group="here")
    place, drafts = tmp_path / "runs" / "report", tmp_path / "drafts"
    drafts.mkdir()
    matplotlib.image.imsave(drafts / "growth.png", numpy.zeros((4, 4, 3)))
    (drafts / "growth.csv").write_text("label,context,recall\nLA,64,0.5\nAA,64,\n")
    folder.open_folder(place)
    folder.publish(drafts, place, ())
    (place / "private.csv").write_text("of the user,who did not ask to send it\n")
    assert "logged offline" in dashboard("runs")[1]
    assert "logged offline" not in dashboard("runs")[1]
    (file,) = place.glob("wandb/offline-run-*/*.wandb")
    log = read_log(file)
    assert (log.run.run_group, log.run.job_type) == ("here", "report")
    record = json.loads((tmp_path / "runs" / "dashboard.json").read_text())
    assert "figures/growth" in named(record)["figures"] and "figures/growth/path" in log.summary
    assert not any("private" in key for key in log.summary)
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
        (["upload=cut/capacity.json"], "capacity.json is no dashboard, or damaged (it is no JSON: Unterminated"),
        (["upload=old.json"], "old.json is no dashboard, or damaged (version 0, where this hybrids reads 1)"),
        (["upload=half.json"], "half.json is no dashboard, or damaged (it has no 'workspace')"),
    ],
)  # fmt: skip
def test_bad_input_costs_one_sentence(dashboard, tmp_path, arguments, sentence):
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
    code, _, err = dashboard(*arguments)
    assert code == 1 and err.count("\n") == 1
    assert sentence in err


def test_without_the_package_the_command_says_what_to_install(dashboard, nobody):
    nobody.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = dashboard("project=p")
    assert (code, err) == (1, "error: hybrids dashboard needs wandb-workspaces: pip install 'hybrids[dashboard]'\n")


def test_the_file_for_later_is_not_overwritten_with_half_a_definition(dashboard, tmp_path):
    """A file that is damaged is replaced only on demand: it may hold the ids of what was saved."""
    file = tmp_path / "runs" / "dashboards" / "p.json"
    file.parent.mkdir(parents=True)
    file.write_text("{")
    code, _, err = dashboard("project=p")
    assert code == 1 and "delete it and make it again" in err and file.read_text() == "{"
