"""Sweeps of the stand-in: the points that its agents get."""

import itertools
import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.wandb_server.names import PROJECT

Answer = dict[str, Any]


@dataclass
class Sweep:
    """A sweep and what is left of it to try."""

    config: dict[str, Any]
    points: Iterator[dict[str, Any]]
    run_ids: list[str] = field(default_factory=list)


class Sweeps:
    """The sweeps, by id, and the agents that work on them.

    Attributes:
        by_id: The sweeps.
        stopped: Ids of the runs that the dashboard's button stops.
    """

    def __init__(self) -> None:
        self.by_id: dict[str, Sweep] = {}
        self.stopped: set[str] = set()
        self._agents: dict[str, str] = {}  # the sweep of each

    def answer(self, name: str, variables: dict[str, Any]) -> Answer | None:
        """Returns the answer to a query about sweeps, None to any other."""
        if name == "UpsertSweep":
            config = yaml.safe_load(variables["config"])
            sweep_id = f"sweep{len(self.by_id)}"
            self.by_id[sweep_id] = Sweep(config, _points(config))
            return {"upsertSweep": {"sweep": {"name": sweep_id, "project": PROJECT}, "configValidationWarnings": []}}
        if name == "SweepWithRuns":
            found = self.by_id.get(variables["sweep"])
            sweep = found and {"id": "s", "config": yaml.safe_dump(found.config), "runs": {"edges": []}}
            return {"project": {"sweep": sweep}}
        if name == "CreateAgent":
            agent = f"agent{len(self._agents)}"
            self._agents[agent] = variables["sweep"]
            return {"createAgent": {"agent": {"id": agent}}}
        if name == "Heartbeat":
            commands = self._commands(self.by_id[self._agents[variables["id"]]], json.loads(variables["runState"]))
            return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps(commands)}}
        return None

    def _commands(self, sweep: Sweep, running: dict[str, bool]) -> list[dict[str, Any]]:
        """What an agent is to do that has these runs."""
        if running:
            return [{"type": "stop", "run_id": run_id} for run_id in running if run_id in self.stopped]
        point = next(sweep.points, None)
        if point is None or len(sweep.run_ids) >= sweep.config.get("run_cap", math.inf):
            return [{"type": "exit"}]
        sweep.run_ids.append(f"trial{len(sweep.run_ids)}")
        arguments = {name: {"value": value} for name, value in point.items()}
        return [{"type": "run", "run_id": sweep.run_ids[-1], "program": "", "args": arguments}]


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
