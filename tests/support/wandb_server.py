"""A stand-in for the W&B server: as much of its GraphQL, file stream and uploads as one run of wandb-core asks for.

It keeps what it was sent, and can be told to fail: to answer 500, to hang, or to refuse a run that was deleted.
"""

import contextlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class StoredRun:
    """What the server knows of a run."""

    name: str
    project: str
    config: dict[str, Any] = field(default_factory=dict)
    display_name: str = ""
    group: str = ""
    files: dict[str, dict[int, str]] = field(default_factory=dict)
    """File of the stream -> line number -> line."""
    exit_code: int | None = None

    def lines(self, file: str) -> list[dict[str, Any]]:
        return [json.loads(line) for _, line in sorted(self.files.get(file, {}).items())]

    @property
    def history(self) -> list[dict[str, Any]]:
        return self.lines("wandb-history.jsonl")

    @property
    def summary(self) -> dict[str, Any]:
        return (self.lines("wandb-summary.json") or [{}])[-1]


class StandInServer:
    """Listens on a local port until it is closed."""

    def __init__(self) -> None:
        self.runs: dict[str, StoredRun] = {}
        self.deleted: set[str] = set()
        self.asked: list[str] = []
        self.mood = "ok"
        """ok; error: every answer is 500; hang: none comes."""
        self.is_closed = threading.Event()
        self.http = _QuietServer(("127.0.0.1", 0), _handler_of(self))
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.is_closed.set()
        self.http.shutdown()
        self.http.server_close()

    def answer(self, query: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Data of a GraphQL answer, by the name of the operation."""
        answers = {
            "Viewer": self._viewer,
            "ServerFeaturesQuery": lambda _: {"serverInfo": {"features": []}},
            "ServerInfo": lambda _: {"serverInfo": {"cliVersionInfo": {}, "latestLocalVersionInfo": None}},
            "RunResumeStatus": self._resume_status,
            "UpsertBucket": self._upsert,
            "CreateRunFiles": self._run_files,
            "RunStoppedStatus": lambda _: {"project": {"run": {"stopped": False}}},
            "OrganizationCoreWeaveOrganizationID": lambda _: {"entity": None},
            "ArtifactType": lambda _: {"project": {"artifact": None}},
            "CreateArtifact": lambda _: {
                "createArtifact": {
                    "artifact": {"id": "a1", "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
                }
            },
            "CreateArtifactManifest": lambda _: {"createArtifactManifest": {"artifactManifest": self._manifest()}},
            "UpdateArtifactManifest": lambda _: {"updateArtifactManifest": {"artifactManifest": self._manifest()}},
            "CreateArtifactFiles": lambda _: {"createArtifactFiles": {"files": {"edges": []}}},
            "CommitArtifact": lambda _: {"commitArtifact": {"artifact": {"id": "a1", "digest": "d"}}},
            "ClientIDMapping": lambda _: {"clientIDMapping": {"serverID": "a1"}},
        }
        name = query.split("(")[0].split("{")[0].split()[1]
        self.asked.append(name)
        return answers[name](asked) if name in answers else {}

    def _manifest(self) -> dict[str, Any]:
        return {"id": "m1", "file": {"id": "f1", "uploadUrl": f"{self.url}/storage/manifest", "uploadHeaders": []}}

    def _viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        user = {"id": "u1", "entity": "us", "username": "us", "email": "us@example.org", "flags": "{}"}
        return {"viewer": user | {"teams": {"edges": []}}}

    def _resume_status(self, asked: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(asked["name"])
        if run is None or run.name in self.deleted:
            return {"model": {"id": "p1", "name": asked["project"], "entity": _ENTITY, "bucket": None}}
        counts = {name: len(run.files.get(file, {})) for name, file in _COUNTED.items()}
        bucket = counts | {
            "id": run.name,
            "name": run.name,
            "summaryMetrics": json.dumps(run.summary),
            "displayName": run.display_name,
            "historyTail": json.dumps([json.dumps(line) for line in run.history[-1:]]),
            "eventsTail": "[]",
            "config": json.dumps(run.config),
            "tags": [],
            "notes": None,
            "wandbConfig": json.dumps({"t": {}}),
        }
        return {"model": {"id": "p1", "name": run.project, "entity": _ENTITY, "bucket": bucket}}

    def _upsert(self, asked: dict[str, Any]) -> dict[str, Any]:
        is_new = asked["name"] not in self.runs
        run = self.runs.setdefault(asked["name"], StoredRun(asked["name"], asked["project"]))
        run.config.update(json.loads(asked.get("config") or "{}"))
        run.display_name = asked.get("displayName") or run.display_name
        run.group = asked.get("groupName") or run.group
        bucket = {
            "id": run.name,
            "name": run.name,
            "displayName": run.display_name,
            "description": "",
            "config": json.dumps(run.config),
            "sweepName": None,
            "historyLineCount": len(run.history),
            "project": {"id": "p1", "name": run.project, "entity": _ENTITY},
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": is_new}}

    def _run_files(self, asked: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/storage/{name}"} for name in asked["files"]]
        return {"createRunFiles": {"runID": asked["run"], "uploadHeaders": [], "files": files}}

    def stream(self, name: str, sent: dict[str, Any]) -> None:
        """Lines of the files of a run, each at its number."""
        run = self.runs[name]
        for file, chunk in sent.get("files", {}).items():
            lines = run.files.setdefault(file, {})
            lines.update(enumerate(chunk["content"], start=chunk["offset"]))
        if sent.get("complete"):
            run.exit_code = sent["exitcode"]


_ENTITY = {"id": "e1", "name": "us"}
_COUNTED = {
    "historyLineCount": "wandb-history.jsonl",
    "eventsLineCount": "wandb-events.jsonl",
    "logLineCount": "output.log",
}


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """wandb-core drops connections as it likes."""


def _handler_of(server: StandInServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if server.mood == "hang":
                server.is_closed.wait(600)
                return
            if server.mood == "error":
                return self._reply(500, {"error": "down"})
            if self.path == "/graphql":
                sent = json.loads(body)
                asked = sent.get("variables") or {}
                if "UpsertBucket" in sent["query"] and asked.get("name") in server.deleted:
                    text = f"run us/{asked['project']}/{asked['name']} was previously created and deleted"
                    return self._reply(409, {"errors": [{"message": f"{text}; try a new run name"}], "data": None})
                return self._reply(200, {"data": server.answer(sent["query"], asked)})
            if self.path.endswith("/file_stream"):
                server.stream(self.path.split("/")[-2], json.loads(body))
            return self._reply(200, {})

        do_PUT = do_GET = do_POST  # noqa: N815  (names of http.server)

        def _reply(self, status: int, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    return Handler


def end_wandb() -> None:
    """End the W&B run of this process, if there is one, and the process of W&B."""
    import wandb

    if wandb.run is not None:
        with contextlib.suppress(Exception):  # whatever a test has done to it
            wandb.finish()
    with contextlib.suppress(Exception, SystemExit):
        wandb.teardown()
