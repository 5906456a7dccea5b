"""A stand-in for W&B's server on loopback, just enough for the real client, its agent and its command line.

What it answers was learned from what wandb 0.31 asks.
"""

import gzip
import itertools
import json
import math
import random
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote

import yaml

_PROJECT = {"id": "p", "name": "lightning-231n", "entity": {"id": "e", "name": "us"}}
_VIEWER = {"id": "1", "entity": "us", "username": "me", "flags": "{}", "teams": {"edges": []}}


@dataclass
class Run:
    """What the client sent about a run.

    Attributes:
        config: its settings, each a dict with the key "value", as they were last sent.
        files: the files sent, by name.
        history: the rows of its metrics.
        summary: its metrics' last values.
        lines: the number of lines that each log has.
        exit_code: None until it has ended.
        sweep: the sweep that it belongs to.
        settings: what the client registered it with, such as displayName, groupName and tags.
    """

    config: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    lines: Counter[str] = field(default_factory=Counter)
    exit_code: int | None = None
    sweep: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class Sweep:
    """A sweep and what is left of it to try."""

    config: dict[str, Any]
    points: Iterator[dict[str, Any]]
    run_ids: list[str] = field(default_factory=list)


class WandbServer:
    """Keeps what the client sends.

    Attributes:
        url: where the client finds it.
        runs: by id.
        sweeps: by id.
        streaming: set once a run has begun to send its logs.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.sweeps: dict[str, Sweep] = {}
        self.streaming = threading.Event()
        self._agents: dict[str, str] = {}  # the sweep of each
        self._stopped: set[str] = set()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()  # dies within that time

    @property
    def config(self) -> dict[str, Any]:
        """Of the only run."""
        return self._only.config

    @property
    def files(self) -> dict[str, bytes]:
        """Of the only run."""
        return self._only.files

    @property
    def history(self) -> list[dict[str, Any]]:
        """Of the only run."""
        return self._only.history

    @property
    def _only(self) -> Run:
        assert len(self.runs) < 2, f"there are several: {list(self.runs)}"
        return next(iter(self.runs.values()), Run())

    def stop(self, run_id: str) -> None:
        """What the button on the dashboard does."""
        self._stopped.add(run_id)

    def die(self) -> None:
        """Stops answering for good."""
        self._server.shutdown()
        self._server.server_close()

    def _query(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        if name == "UpsertBucket":
            return self._upsert_run(variables)
        if name == "RunResumeStatus":
            return {"model": {**_PROJECT, "bucket": self._resume_status(variables["name"])}}
        if name == "Viewer":
            return {"viewer": _VIEWER}
        if name == "GetDefaultEntity":
            return {"viewer": {"id": "1", "entity": "us"}}
        if name == "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        if name == "CreateRunFiles":
            urls = [
                {"name": file, "uploadUrl": f"{self.url}/upload/{variables['run']}/{quote(file)}"}
                for file in variables["files"]
            ]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": urls}}
        if name == "UpsertSweep":
            config = yaml.safe_load(variables["config"])
            sweep_id = f"sweep{len(self.sweeps)}"
            self.sweeps[sweep_id] = Sweep(config, _points(config))
            return {"upsertSweep": {"sweep": {"name": sweep_id, "project": _PROJECT}, "configValidationWarnings": []}}
        if name == "SweepWithRuns":
            found = self.sweeps.get(variables["sweep"])
            sweep = found and {"id": "s", "config": yaml.safe_dump(found.config), "runs": {"edges": []}}
            return {"project": {"sweep": sweep}}
        if name == "CreateAgent":
            agent = f"agent{len(self._agents)}"
            self._agents[agent] = variables["sweep"]
            return {"createAgent": {"agent": {"id": agent}}}
        if name == "Heartbeat":
            commands = self._commands(self.sweeps[self._agents[variables["id"]]], json.loads(variables["runState"]))
            return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps(commands)}}
        return {}

    def _upsert_run(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables.get("name") or "run"
        run = self.runs.setdefault(name, Run())
        run.config |= json.loads(variables.get("config") or "{}")
        run.settings |= {key: value for key, value in variables.items() if value is not None}
        run.sweep = variables.get("sweep") or run.sweep
        bucket = {"id": "r", "name": name, "displayName": name, "config": "{}", "historyLineCount": 0}
        project = _PROJECT | {"name": variables.get("project") or _PROJECT["name"]}
        return {"upsertBucket": {"bucket": {**bucket, "sweepName": run.sweep, "project": project}, "inserted": True}}

    def _resume_status(self, run_id: str) -> dict[str, Any] | None:
        """Returns the state of a run for a client that resumes it; None if there is no such run."""
        run = self.runs.get(run_id)
        if run is None:
            return None
        last = [json.dumps(row) for row in run.history[-1:]]
        return {
            "id": "r", "name": run_id, "displayName": run_id, "notes": None, "tags": [],
            "config": json.dumps(run.config), "summaryMetrics": json.dumps(run.summary),
            "historyLineCount": len(run.history), "historyTail": json.dumps(last),
            "logLineCount": run.lines["output.log"],
            "eventsLineCount": run.lines["wandb-events.jsonl"], "eventsTail": "[]", "wandbConfig": json.dumps({"t": 1}),
        }  # fmt: skip

    def _commands(self, sweep: Sweep, running: dict[str, bool]) -> list[dict[str, Any]]:
        """What an agent is to do that has these runs."""
        if running:
            return [{"type": "stop", "run_id": run_id} for run_id in running if run_id in self._stopped]
        point = next(sweep.points, None)
        if point is None or len(sweep.run_ids) >= sweep.config.get("run_cap", math.inf):
            return [{"type": "exit"}]
        sweep.run_ids.append(f"trial{len(sweep.run_ids)}")
        arguments = {name: {"value": value} for name, value in point.items()}
        return [{"type": "run", "run_id": sweep.run_ids[-1], "program": "", "args": arguments}]

    def _file_stream(self, run_id: str, content: dict[str, Any]) -> dict[str, Any]:
        self.streaming.set()
        run = self.runs.setdefault(run_id, Run())
        for name, chunk in (content.get("files") or {}).items():
            offset, lines = chunk.get("offset", 0), chunk["content"]
            run.lines[name] = offset + len(lines)
            if name == "wandb-history.jsonl":  # lines with the numbers of earlier ones replace them
                run.history[offset : offset + len(lines)] = [json.loads(line) for line in lines]
            elif name == "wandb-summary.json":
                run.summary = json.loads(chunk["content"][-1])
        if content.get("complete"):
            run.exit_code = content["exitcode"]
        return {"stopped": True} if run_id in self._stopped else {}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"  # a connection a request, so that nothing is answered after the death

            def do_POST(self) -> None:
                body = self._body()
                answer: dict[str, Any] = {}
                if self.path.endswith(("/graphql", "/file_stream")):
                    content = json.loads(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
                    with server._lock:
                        if self.path.endswith("/graphql"):
                            name = re.search(r"(?:query|mutation)\s+(\w+)", content["query"])
                            answer = {"data": server._query(name[1] if name else "", content.get("variables") or {})}
                        else:
                            answer = server._file_stream(self.path.split("/")[-2], content)
                self._answer(answer)

            def do_PUT(self) -> None:
                _, _, run_id, file = unquote(self.path).split("/", 3)
                server.runs[run_id].files[file] = self._body()
                self._answer({})

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def _answer(self, answer: dict[str, Any]) -> None:
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        return Handler


def _points(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The points of a grid, or random ones without end, nested as the parameters are."""
    if config["method"] == "grid":
        yield from _grid(config["parameters"])
    draw = random.Random(0)
    while config["method"] != "grid":
        yield _random(config["parameters"], draw)


def _grid(parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
    choices = [
        list(_grid(one["parameters"])) if "parameters" in one else one.get("values", [one.get("value")])
        for one in parameters.values()
    ]
    for values in itertools.product(*choices):
        yield dict(zip(parameters, values, strict=True))


def _random(parameters: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    point: dict[str, Any] = {}
    for name, one in parameters.items():
        if "parameters" in one:
            point[name] = _random(one["parameters"], draw)
        elif "min" in one and "log" in one.get("distribution", ""):
            point[name] = math.exp(draw.uniform(math.log(one["min"]), math.log(one["max"])))
        elif "min" in one:
            whole = isinstance(one["min"], int) and isinstance(one["max"], int)
            point[name] = draw.randint(one["min"], one["max"]) if whole else draw.uniform(one["min"], one["max"])
        else:
            point[name] = draw.choice(one.get("values", [one.get("value")]))
    return point
