"""The command `hybrids dashboard`."""

import argparse
import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hybrids.errors import UserError, suggest
from hybrids.report.page.collect import collect, facts_slice
from hybrids.studies.capacity.record import trial_folders
from hybrids.training.logs import LogSettings, is_online
from hybrids.training.record import RunFolder

if TYPE_CHECKING:
    from hybrids.report.wandb.dashboard import Scope
    from hybrids.report.wandb.definition import Definition

KEYS = ("project", "group", "entity", "facts", "upload")

_HELP = """runs/sweeps/<date>, runs/capacity/<id> or a folder of runs, whose W&B project and groups are shown; or
project=<name> (hybrids), group=<name>,<name> (all runs of the project), entity=<user or team> (your default),
facts=<slice of the scores that counts facts> (what the tasks in the folder say); or upload=<file> with at most
entity=<user or team>"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("given", nargs="*", metavar="folder | key=value", help=_HELP)
    parser.set_defaults(run=show_dashboard)


def show_dashboard(args: argparse.Namespace) -> int:
    """Write the definition of a workspace and a report, and save both to W&B where the user is logged in. Exit code."""
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise UserError("hybrids dashboard needs wandb-workspaces: pip install 'hybrids[dashboard]'")
    from hybrids.report.wandb.definition import read  # an extra, which other commands do without

    folder, given = read_arguments(args.given)
    if "upload" not in given:
        return _make(folder, given)
    file = Path(given["upload"])
    definition = read(file)
    if reason := _why_offline():
        raise UserError(f"{reason}; nothing was sent")
    return _upload(definition, file, given.get("entity", ""))


def _make(folder: Path | None, given: Mapping[str, str]) -> int:
    from hybrids.report.wandb.dashboard import build_report, build_workspace
    from hybrids.report.wandb.definition import Definition

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
        return 0
    return _upload(definition, file, scope.entity)


def _log_figures(place: Path, scope: "Scope", *, is_online: bool) -> None:
    from hybrids.report.wandb.figures import log_figures

    group = scope.groups[0] if scope.groups else None
    if log_figures(place, project=scope.project, group=group, entity=scope.entity, is_online=is_online):
        print(f"figures of {place}: logged {'to W&B' if is_online else 'offline, like its runs'}")


def _upload(definition: "Definition", file: Path, entity: str) -> int:
    definition.upload(file, entity)
    print(f"workspace: {definition.workspace.url}\nreport: {definition.report.url}")
    return 0


def read_arguments(arguments: Sequence[str]) -> tuple[Path | None, dict[str, str]]:
    """The folder, and what is given as key=value; UserError for what cannot be."""
    folder, given = None, {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key in KEYS:
            if not value:
                raise UserError(f"{argument} has no value; leave it out or write {key}=<{key}>")
            given[key] = value
        elif equals and not Path(argument).exists():
            raise UserError(f"unknown setting {key!r}; {suggest(key, KEYS)}")
        elif folder is not None:
            raise UserError(f"{folder} and {argument}: hybrids dashboard takes one folder")
        else:
            folder = Path(argument)
    further = [str(folder)] if folder else [f"{key}=" for key in given if key not in ("upload", "entity")]
    if "upload" in given and further:
        raise UserError(f"upload={given['upload']} holds a whole dashboard; leave {further[0]} out")
    return folder, given


def _find_scope(folder: Path | None, given: Mapping[str, str]) -> "Scope":
    """The runs that are asked for; what is given goes before what the folder says."""
    from hybrids.report.wandb.dashboard import Scope

    if folder is None or {"project", "group"} <= given.keys():
        found = Logs(LogSettings().project, ())
    else:
        found = _find_logs(folder, given.get("project"))
    return Scope(
        project=given.get("project", found.project),
        groups=tuple(sorted(set(given["group"].split(",")))) if "group" in given else found.groups,
        entity=given.get("entity", ""),
        facts=given.get("facts") or (facts_slice(collect(folder).runs) if folder else None),
    )


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
    groups = [log["group"] for log in logs if log["project"] == chosen]
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
