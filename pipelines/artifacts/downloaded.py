"""`wandb:ENTITY/PROJECT/ARTIFACT:ALIAS` as a checkpoint: downloaded once, checked, and used like the folder of a run.

A version is kept under the user's cache folder as `artifacts/ENTITY/PROJECT/ARTIFACT/vN/TOPIC/RUN`, with the digests of
its files beside them. Another process that needs it meanwhile waits.
"""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

from common.cache_folders import user_cache
from common.errors import UserError
from common.file_locks import locked
from common.messages.reasons import reason_of
from common.proxy import pass_on_all_proxy
from pipelines.artifacts.names import ALIASES, parse
from pipelines.tracking.run_id import check_run_id
from pipelines.tracking.secrets import without_passwords
from pipelines.tracking.wandb_mode import logged_in, reachable, server_name

_CHECKPOINTS = {f"{alias}.ckpt" for alias in ALIASES}
_DIGESTS = "digests.json"
_SECONDS = 60  # for an answer
_VERSION = re.compile(r"v\d+")


def downloaded(name: str) -> Path:
    """Returns the checkpoint that an artifact's alias means, or the folder of its run for any other alias.

    Args:
        name: `wandb:ENTITY/PROJECT/ARTIFACT:ALIAS`; the alias is `best`, `last`, `latest`, a version such as v3, or
            another name that the version has.

    Raises:
        UserError: If the name is malformed, there is no such artifact or no network, it is not one of this program, or
            its files are damaged.
    """
    collection, alias = parse(name)
    root = user_cache() / "artifacts" / collection
    if _VERSION.fullmatch(alias) and (kept := _kept(root / alias)) is not None:
        return kept
    artifact = _artifact(name, collection, alias)
    run = _run_path(name, artifact)
    version = root / artifact.version
    version.mkdir(parents=True, exist_ok=True)
    with locked(version / "lock"):
        if _kept(version) is None:
            _download(name, artifact, version / run)
    checkpoint = version / run / "checkpoints" / f"{alias}.ckpt"
    if alias in ALIASES and not checkpoint.is_file():
        raise UserError(f"{name} has no {checkpoint.name}; use another alias, such as {artifact.version}.")
    return checkpoint if alias in ALIASES else version / run


def is_downloaded(folder: Path) -> bool:
    """Returns whether the folder of a run is that of an artifact, in which no training goes on."""
    return (folder / _DIGESTS).is_file()


def _artifact(name: str, collection: str, alias: str) -> Any:
    """Returns W&B's artifact of that name."""
    if not logged_in():
        raise UserError(f"{name} is at {server_name()}, where you are not logged in; run `wandb login` first.")
    if not reachable():
        raise UserError(
            f"{name} can't be downloaded, because W&B at {server_name()} can't be reached; use a checkpoint on this "
            "machine, or a version such as :v0 that was downloaded before."
        )
    pass_on_all_proxy()
    import wandb

    try:
        return wandb.Api(timeout=_SECONDS).artifact(f"{collection}:{alias}")
    except Exception as error:  # W&B's client raises many kinds of errors
        if "not found" in str(error).lower():
            raise UserError(
                f"There is no artifact {collection}:{alias} at {server_name()}; --wandb.log_model makes the artifact "
                "model-RUN of a run, with the aliases best and last."
            ) from None
        raise UserError(f"{name} can't be downloaded ({_reason(error)}); try again later.") from error


def _run_path(name: str, artifact: Any) -> Path:
    """Returns TOPIC/RUN of an artifact.

    Raises:
        UserError: If it is not a model of this program.
    """
    files = set(artifact.manifest.entries)
    topic, run_id = (str(artifact.metadata.get(key) or "") for key in ("topic", "run_id"))
    if artifact.type != "model" or "config.yaml" not in files or not files - {"config.yaml"} <= _CHECKPOINTS:
        raise UserError(
            f"{name} is of type {artifact.type} with the file {min(files, default='none')}, not a model of this "
            "program; use one that --wandb.log_model has made, with config.yaml, best.ckpt and last.ckpt."
        )
    for part in (topic, run_id):
        check_run_id(part, f"The topic or run in the metadata of {name}")
    return Path(topic, run_id)


def _download(name: str, artifact: Any, target: Path) -> None:
    """Downloads an artifact into the folder of its run, whole or not at all."""
    scratch = target.parent.parent / "incomplete"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        artifact.download(root=str(scratch / "files"), skip_cache=True)
        artifact.verify(root=str(scratch / "files"))
        run = scratch / "run"
        (run / "checkpoints").mkdir(parents=True)
        digests = {}
        for file in sorted((scratch / "files").iterdir()):
            target_file = run / file.name if file.name == "config.yaml" else run / "checkpoints" / file.name
            file.rename(target_file)
            digests[str(target_file.relative_to(run))] = _digest(target_file)
        (run / _DIGESTS).write_text(json.dumps(digests))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        run.rename(target)
    except Exception as error:
        if isinstance(error, OSError) and error.filename:
            raise  # the disk
        raise UserError(f"{name} can't be downloaded ({_reason(error)}); try again later.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _kept(version: Path) -> Path | None:
    """Returns the folder of the run in a version that was downloaded, None if it is missing or damaged."""
    for file in version.glob(f"*/*/{_DIGESTS}"):
        digests: dict[str, str] = json.loads(file.read_text())
        if all((file.parent / name).is_file() and _digest(file.parent / name) == one for name, one in digests.items()):
            return file.parent
    return None


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    return without_passwords(reason_of(error))
