"""The command `hybrids dashboard`."""

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import hydra
from omegaconf import DictConfig, OmegaConf

from hybrids.cli.programs import HYDRA, report, reported, run_program
from hybrids.config.compose import spell_flags, split_places
from hybrids.config.quoting import quote
from hybrids.config.schema import DashboardConfig
from hybrids.errors import UserError
from hybrids.report.page.collect import collect, facts_slice
from hybrids.studies.capacity.record import trial_folders
from hybrids.training.record import RunFolder
from hybrids.training.settings import LogSettings
from hybrids.training.wandb_log import is_online

if TYPE_CHECKING:
    from hybrids.report.wandb.dashboard import Scope
    from hybrids.report.wandb.definition import Definition


def run_dashboard() -> int:
    """`hybrids dashboard`, with a folder and settings in any order. Exit code."""
    if importlib.util.find_spec("wandb_workspaces") is None:
        return report(UserError("hybrids dashboard needs wandb-workspaces: pip install 'hybrids[dashboard]'"))
    return run_program(_dashboard, "dashboard", spell=spell_arguments)


def spell_arguments(arguments: Sequence[str]) -> list[str]:
    """The command line as Hydra takes it: the folder as a setting, and names quoted."""
    places, settings = split_places(arguments, [field.name for field in fields(DashboardConfig)])
    if len(places) > 1:
        raise UserError(f"{places[0]} and {places[1]}: hybrids dashboard takes one folder")
    spelt = [f"folder={quote(place)}" for place in places]
    for argument in spell_flags(settings):
        key, equals, value = argument.partition("=")
        if equals and not value:
            raise UserError(f"{argument} has no value; leave it out or write {key}=<{key}>")
        spelt.append(f"{key}={quote(value)}" if equals else argument)
    return spelt


@hydra.main(**HYDRA, config_name="dashboard")
@reported
def _dashboard(config: DictConfig) -> None:
    """Write the definition of a workspace and a report, and save both to W&B where the user is logged in."""
    given: Any = OmegaConf.to_object(config)
    if given.upload is None:
        return _make(given)
    from hybrids.report.wandb.definition import read  # an extra, which other commands do without

    further = [name for name in ("folder", "project", "group", "facts") if getattr(given, name) is not None]
    if further:
        raise UserError(f"upload={given.upload} holds a whole dashboard; leave {further[0]}= out")
    file = Path(given.upload)
    definition = read(file)
    if reason := _why_offline():
        raise UserError(f"{reason}; nothing was sent")
    _upload(definition, file, given.entity)


def _make(given: DashboardConfig) -> None:
    from hybrids.report.wandb.dashboard import build_report, build_workspace
    from hybrids.report.wandb.definition import Definition

    folder = None if given.folder is None else Path(given.folder)
    scope = _find_scope(folder, given)
    name = "+".join((scope.project, *scope.groups))[:100]
    file = Path("runs", "dashboards", f"{name}.json") if folder is None else folder / "dashboard.json"
    definition = Definition(build_workspace(scope), build_report(scope))
    definition.adopt(file)
    definition.write(file)
    print(f"workspace and report on {scope.describe()}: {file}")
    if scope.facts is None:
        print("left out: accuracy against the number of facts; facts=<slice of the scores that counts them> shows it")
    reason = _why_offline()
    if folder is not None:
        _log_figures(folder / "report", scope, is_online=not reason)
    if reason:
        print(f"{reason}: nothing was sent; later, before or after wandb sync: hybrids dashboard upload={file}")
    else:
        _upload(definition, file, scope.entity)


def _log_figures(place: Path, scope: "Scope", *, is_online: bool) -> None:
    from hybrids.report.wandb.figures import log_figures

    group = scope.groups[0] if scope.groups else None
    if log_figures(place, project=scope.project, group=group, entity=scope.entity, is_online=is_online):
        print(f"figures of {place}: logged {'to W&B' if is_online else 'offline, like its runs'}")


def _upload(definition: "Definition", file: Path, entity: str) -> None:
    definition.upload(file, entity)
    print(f"workspace: {definition.workspace.url}\nreport: {definition.report.url}")


def _find_scope(folder: Path | None, given: DashboardConfig) -> "Scope":
    """The runs that are asked for; what is given goes before what the folder says."""
    from hybrids.report.wandb.dashboard import Scope

    if folder is None or (given.project is not None and given.group is not None):
        found = Logs(LogSettings().project, ())
    else:
        found = _find_logs(folder, given.project)
    return Scope(
        project=found.project if given.project is None else given.project,
        groups=found.groups if given.group is None else tuple(sorted(set(given.group.split(",")))),
        entity=given.entity,
        facts=given.facts or (None if folder is None else _find_facts(folder)),
    )


def _find_facts(folder: Path) -> str | None:
    try:
        return facts_slice(collect(folder).runs)
    except UserError:  # where project and group are given, the folder may hold no runs: what they show is written there
        return None


class Logs(NamedTuple):
    """Where runs are logged."""

    project: str
    groups: tuple[str, ...]


def _find_logs(folder: Path, project: str | None) -> Logs:
    """The W&B project and groups of the runs in a folder; UserError where there is not one project, or no group."""
    logs = [log for log in _read_logs(folder) if log.get("wandb")]
    if not logs:
        raise UserError(f"{folder} holds no finished run that was logged to W&B; train with logger=wandb")
    projects = sorted({log["project"] for log in logs})
    if project is None and len(projects) > 1:
        raise UserError(f"{folder} has runs of {len(projects)} W&B projects: {', '.join(projects)}; give project=")
    chosen: str = project or projects[0]
    # Where none of them is in this project, the user has moved them there, or will.
    groups = [log["group"] for log in logs if log["project"] == chosen or chosen not in projects]
    if None in groups:
        hint = f"hybrids dashboard project={chosen} shows all runs of the project"
        raise UserError(f"{groups.count(None)} of {len(groups)} runs in {folder} have no W&B group; {hint}")
    return Logs(chosen, tuple(sorted(set(groups))))


def _read_logs(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Settings `logger` of the runs in the folder of a sweep, of a capacity search, or of runs."""
    record = folder / "capacity.json"
    if not record.is_file():
        yield from (run.config.get("logger", {}) for run in collect(folder).runs)
        return
    yield from (RunFolder.open(path).read_config().get("logger", {}) for path in trial_folders(record))


def _why_offline() -> str:
    """Why nothing may be sent to W&B; empty where it may."""
    mode = os.environ.get("WANDB_MODE", "online")
    if mode != "online":
        return f"WANDB_MODE={mode}"
    return "" if is_online(LogSettings()) else "not logged in to W&B (wandb login)"
