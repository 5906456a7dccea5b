"""Runs of the stand-in: what the client registers, resumes, rewinds and streams.

A client takes a run for one to be resumed only if its configuration has `_wandb.value.t`, which the client itself has
sent (`runExists` in wandb-core). It then appends at the line counts of the answer and numbers its rows after the last.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.wandb_server.names import project

_HISTORY, _EVENTS, _SUMMARY = "wandb-history.jsonl", "wandb-events.jsonl", "wandb-summary.json"
Answer = dict[str, Any]


@dataclass
class Run:
    """What the client sent about a run.

    Attributes:
        config: its settings, each a dict with the key "value", as they were last sent.
        files: the files sent, by name.
        history: the rows of its metrics.
        events: the rows of its machine's load.
        summary: its metrics' last values.
        lines: the number of lines that each log has.
        exit_code: None until it has ended.
        sweep: the sweep that it belongs to.
        settings: what the client registered it with, such as displayName, groupName and tags.
        preempting: whether the client said that its machine is about to be taken away.
        used: the artifacts that it uses, by id.
        alerts: title, text and severity of each alert.
    """

    config: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    lines: Counter[str] = field(default_factory=Counter)
    exit_code: int | None = None
    sweep: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    preempting: bool = False
    used: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """As the dashboard shows it."""
        if self.exit_code is None:
            return "preempting" if self.preempting else "running"
        return "preempted" if self.preempting and self.exit_code else "failed" if self.exit_code else "finished"


class Runs:
    """The runs, by id."""

    def __init__(self) -> None:
        self.by_id: dict[str, Run] = {}

    def answer(self, name: str, variables: dict[str, Any]) -> Answer | None:
        """Returns the answer to a query about runs, None to any other."""
        if name == "UpsertBucket":
            return self._upsert(variables)
        if name == "RunResumeStatus":
            return {"model": {**project(variables["project"]), "bucket": self._resume_status(variables["name"])}}
        if name == "RewindRun":
            return self._rewind(variables)
        if name == "NotifyScriptableRunAlert":
            sent = {key: variables[key] for key in ("title", "text", "severity")}
            self.by_id[variables["runName"]].alerts.append(sent)
            return {"notifyScriptableRunAlert": {"success": True}}
        if name in ("QueryRunInfo", "RunStoppedStatus", "GetRun", "Run"):
            return {"project": {**project(variables.get("project")), "run": self._run(variables)}}
        return None

    def _upsert(self, variables: dict[str, Any]) -> Answer:
        name = variables.get("name") or "run"
        inserted = name not in self.by_id
        run = self.by_id.setdefault(name, Run())
        run.config |= json.loads(variables.get("config") or "{}")
        run.settings |= {key: value for key, value in variables.items() if value is not None}
        run.sweep = variables.get("sweep") or run.sweep
        return {"upsertBucket": {"bucket": self._bucket(name, run), "inserted": inserted}}

    def _bucket(self, name: str, run: Run) -> Answer:
        return {
            "id": f"id of {name}", "name": name, "displayName": run.settings.get("displayName") or name,
            "description": None, "config": json.dumps(run.config), "sweepName": run.sweep,
            "project": project(run.settings.get("project")), "historyLineCount": len(run.history),
        }  # fmt: skip

    def _resume_status(self, run_id: str) -> Answer | None:
        """Returns the state of a run for a client that resumes it; None if there is no such run."""
        run = self.by_id.get(run_id)
        if run is None:
            return None
        internal = (run.config.get("_wandb") or {}).get("value") or {}
        return {
            "id": f"id of {run_id}", "name": run_id, "displayName": run.settings.get("displayName") or run_id,
            "notes": run.settings.get("notes"), "tags": run.settings.get("tags") or [],
            "config": json.dumps(run.config), "summaryMetrics": json.dumps(run.summary),
            "historyLineCount": len(run.history), "historyTail": _tail(run.history),
            "logLineCount": run.lines["output.log"], "eventsLineCount": len(run.events),
            "eventsTail": _tail(run.events), "wandbConfig": json.dumps({"t": internal["t"]} if "t" in internal else {}),
        }  # fmt: skip

    def _rewind(self, variables: dict[str, Any]) -> Answer:
        """Cuts the history of a run after a step of W&B's own count."""
        run = self.by_id.get(variables["runName"])
        if run is None:
            return {"rewindRun": None}
        run.history = [row for row in run.history if row["_step"] <= variables["metricValue"]]
        return {"rewindRun": {"rewoundRun": self._bucket(variables["runName"], run)}}

    def _run(self, variables: dict[str, Any]) -> Answer | None:
        run_id = variables.get("run") or variables.get("name") or variables.get("runId")
        run = self.by_id.get(str(run_id))
        if run is None:
            return None
        name = run.settings.get("displayName") or run_id
        return {
            "id": f"id of {run_id}", "name": run_id, "displayName": name, "tags": run.settings.get("tags") or [],
            "description": None, "notes": run.settings.get("notes"), "group": run.settings.get("groupName"),
            "jobType": run.settings.get("jobType"), "state": run.state, "config": json.dumps(run.config),
            "summaryMetrics": json.dumps(run.summary), "systemMetrics": "{}", "heartbeatAt": None, "readOnly": False,
            "historyLineCount": len(run.history), "historyKeys": {"lastStep": len(run.history) - 1, "keys": {}},
            "sweepName": run.sweep, "commit": None, "createdAt": "2026-01-01T00:00:00", "stopped": False,
            "user": {"name": "me", "username": "me"}, "projectId": 1, "internalId": "1",
            "project": project(run.settings.get("project")),
        }  # fmt: skip

    def stream(self, run_id: str, content: dict[str, Any]) -> None:
        """Takes lines of a run's logs; those with the numbers of earlier ones replace them."""
        run = self.by_id.setdefault(run_id, Run())
        run.preempting |= bool(content.get("preempting"))
        for name, chunk in (content.get("files") or {}).items():
            offset, lines = chunk.get("offset", 0), chunk["content"]
            run.lines[name] = offset + len(lines)
            if name in (_HISTORY, _EVENTS):
                rows = run.history if name == _HISTORY else run.events
                assert offset <= len(rows), f"{name} of {run_id} would have a gap before line {offset}"
                rows[offset : offset + len(lines)] = [json.loads(line) for line in lines]
            elif name == _SUMMARY:
                run.summary = json.loads(lines[-1])
        if content.get("complete"):
            run.exit_code = content["exitcode"]
        elif content.get("files"):
            run.exit_code = None  # goes on


def _tail(rows: list[dict[str, Any]]) -> str:
    return json.dumps([json.dumps(row) for row in rows[-1:]])
