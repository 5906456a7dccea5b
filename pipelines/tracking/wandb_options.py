"""The keys `wandb.*` of a run: its settings on Weights & Biases, on the command line, in YAML and in sweeps.

A key that is not set has the value of the environment variable or settings file that W&B documents; see docs/wandb.md.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

from common.errors import UserError
from pipelines.tracking.wandb_settings import wandb_setting

LogModel = Literal[False, True, "all"]
Watch = Literal["gradients", "parameters", "all"]
_T = TypeVar("_T")

PROJECT = "lightning-231n"
# Hugging Face's Trainer reads these two; W&B documents their values.
_LOG_MODEL: dict[str, LogModel] = {"false": False, "end": True, "true": True, "checkpoint": "all", "all": "all"}
_WATCH: dict[str, Watch | None] = {
    "false": None,
    "gradients": "gradients",
    "parameters": "parameters",
    "all": "all",
}


@dataclass(frozen=True)
class RunLabels:
    """What a run is called on a dashboard.

    Attributes:
        group: Its topic.
        name: Topic, data set and the settings that set it apart.
        tags: Topic and data set.
    """

    group: str
    name: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class WandbOptions:
    """Settings of a run on Weights & Biases; null is W&B's own setting.

    Args:
        project: Project, by default WANDBPROJECT or `wandb init`, else lightning-231n.
        entity: User or team that owns the project, by default WANDB_ENTITY or `wandb init`, else your default entity.
        group: Group of runs on the dashboard, by default WANDB_RUN_GROUP, else the topic.
        name: Name on the dashboard, by default WANDB_NAME, else topic, data set and the settings that were changed.
        tags: Tags in addition to topic and data set, by default WANDB_TAGS.
        notes: Description of the run, by default WANDB_NOTES.
        job_type: Type of the run, by which runs of a group are told apart, by default WANDB_JOB_TYPE.
        save_code: Whether to upload the program that is run, by default WANDB_SAVE_CODE.
        log_model: Checkpoints to upload as artifacts: true for the best and the last one at the end, all for each one
            that is written, false for none, by default WANDB_LOG_MODEL.
        watch: What to record of each layer as histograms: gradients, parameters or all, by default WANDB_WATCH.
        alerts: Whether W&B sends an email or a Slack message when the run has finished, failed or diverged.
        mode: online, offline, disabled or shared, by default WANDB_MODE, else online with an API key and offline
            without.
    """

    project: str | None = None
    entity: str | None = None
    group: str | None = None
    name: str | None = None
    tags: list[str] | None = None
    notes: str | None = None
    job_type: str | None = None
    save_code: bool | None = None
    log_model: bool | Literal["all"] | None = None
    watch: Watch | None = None
    alerts: bool = False
    mode: Literal["online", "offline", "disabled", "shared"] | None = None

    @property
    def models_to_log(self) -> LogModel:
        """Checkpoints to upload: False for none, True for best and last at the end, "all" for each one.

        Raises:
            UserError: If WANDB_LOG_MODEL has another value than W&B documents.
        """
        if self.log_model is not None:
            return self.log_model
        return _of_variable("log_model", _LOG_MODEL, False, "false, end or checkpoint")

    @property
    def to_watch(self) -> Watch | None:
        """What to record of each layer; None for nothing.

        Raises:
            UserError: If WANDB_WATCH has another value than W&B documents.
        """
        return self.watch or _of_variable("watch", _WATCH, None, "false, gradients, parameters or all")

    def init_arguments(self, labels: RunLabels, first: bool = True) -> dict[str, Any]:
        """Returns the keyword arguments of `wandb.init` that the keys and W&B's own settings give, without null.

        Args:
            labels: What the run is called where neither says otherwise.
            first: Whether the run is tracked for the first time; later it keeps the name and tags that it has on W&B.
        """
        given = (wandb_setting("run_tags") or "").split(",") if self.tags is None else self.tags
        tags = list(dict.fromkeys(filter(None, map(str.strip, [*labels.tags, *given]))))
        arguments = {
            "project": self.project or wandb_project(),
            "entity": self.entity,
            "group": self.group or wandb_setting("run_group") or labels.group,
            "name": self.name or wandb_setting("run_name") or (labels.name if first else None),
            "tags": tags if first or len(tags) > len(labels.tags) else None,
            "notes": self.notes,
            "job_type": self.job_type,
            "save_code": self.save_code,
        }
        return {key: value for key, value in arguments.items() if value is not None}


OPTIONS = tuple(field.name for field in fields(WandbOptions))
"""Names of the keys, without `wandb.`."""


def wandb_project() -> str:
    """Returns the project of W&B's own settings (WANDBPROJECT, `wandb init`), or this project's name."""
    return wandb_setting("project") or PROJECT


def _of_variable(name: str, values: dict[str, _T], default: _T, accepted: str) -> _T:
    given = wandb_setting(name)
    if given is None:
        return default
    if given.lower() not in values:
        raise UserError(f"WANDB_{name.upper()} is {given!r}; use {accepted}.")
    return values[given.lower()]
