"""The file that a W&B workspace and report are kept in, and their way to W&B."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb
import wandb_workspaces.reports.v2.interface as wr
import wandb_workspaces.workspaces as ws
from wandb.errors import Error as WandbError
from wandb_workspaces.reports.v2.internal import ReportViewspec
from wandb_workspaces.workspaces.internal import View

from hybrids.errors import UserError
from hybrids.training.files import write_file
from hybrids.training.read import read_json

VERSION = 1


@dataclass(frozen=True)
class Definition:
    """A workspace and a report on the same runs; both know the ids that W&B gave them when they were saved."""

    workspace: ws.Workspace
    report: wr.Report

    def write(self, path: Path) -> None:
        """The JSON that wandb-workspaces makes of them, as one file."""
        record: dict[str, Any] = {"version": VERSION}
        for name, model in (("workspace", self.workspace._to_model()), ("report", self.report._to_model())):
            record[name] = json.loads(model.model_dump_json(by_alias=True, exclude_none=True))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps(record, indent=1) + "\n")

    def adopt(self, path: Path) -> None:
        """Take over the ids of the definition in `path`, so that what was saved is replaced and not doubled."""
        if not path.is_file():
            return
        old = read(path)
        is_same_project = old.workspace.project == self.workspace.project
        if not is_same_project or self.workspace.entity not in ("", old.workspace.entity):
            return
        self.workspace.entity = self.report.entity = old.workspace.entity
        self.workspace._internal_id = old.workspace._internal_id
        self.workspace._internal_name = old.workspace._internal_name
        self.report.id = old.report.id

    def upload(self, path: Path, entity: str) -> None:
        """Save both to W&B for a user or team, empty: the default one, and their ids to `path`.

        Raises UserError where W&B refuses or cannot be reached.
        """
        try:
            entity = entity or self.workspace.entity or wandb.Api().default_entity or ""
            if not entity:
                raise UserError("W&B names no default entity; give the user or team: entity=<name>")
            if entity != self.workspace.entity:
                self.workspace._internal_id = self.workspace._internal_name = self.report.id = ""
                self.workspace.entity = self.report.entity = entity
            for part in (self.report, self.workspace):  # a report makes its project, where there is none
                part.save()
                self.write(path)
        except (WandbError, OSError) as error:
            reason = " ".join(str(error).split())
            again = f"hybrids dashboard upload={path} tries again"
            raise UserError(f"W&B does not take the dashboard ({reason}); {again}") from error


def read(path: Path) -> Definition:
    """A definition from its file; UserError where it is none."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; hybrids dashboard <folder of a sweep> writes such a file")
    try:
        record = read_json(path)
        if record["version"] != VERSION:
            raise UserError(f"version {record['version']}, where this hybrids reads {VERSION}")
        view, spec = View.model_validate(record["workspace"]), ReportViewspec.model_validate(record["report"])
        report = wr.Report._from_model(spec)
        report.width = spec.spec.width  # pyright: ignore[reportAttributeAccessIssue]  (which _from_model forgets)
        return Definition(ws.Workspace._from_model(view), report)
    except (ValueError, KeyError, TypeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise UserError(f"{path} is no dashboard, or damaged ({reason}); delete it and make it again") from error
