"""Configurations as users write them: settings missing, misspelled, twice or of another type, and cut files."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.campaign.case import Case, Command, Expect
from tests.campaign.damage import damaged_bytes
from tests.campaign.odd_values import near_value, odd_value

_SHORT = ("--trainer.max_steps=2", "--trainer.max_epochs=1")
_DIGITS = {"subset": 64, "batch_size": 16, "flip": False}


def _config(
    model: str, settings: dict[str, Any], data: str, data_settings: dict[str, Any], monitor: str
) -> dict[str, Any]:
    return {
        "model": {"class_path": f"modules.{model}", "init_args": settings},
        "data": {"class_path": f"datamodules.{data}", "init_args": data_settings},
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01, "momentum": 0.9}},
        "lr_scheduler": {"class_path": "modules.WarmupCosine", "init_args": {"warmup": 0.1}},
        "trainer": {
            "max_epochs": 2, "precision": "32-true", "gradient_clip_val": 1.0, "limit_val_batches": 2,
            "log_every_n_steps": 1, "accumulate_grad_batches": 1,
            "callbacks": [{"class_path": "callbacks.TrainingHealth"}],
        },
        "checkpoint": {"monitor": monitor, "mode": "max", "save_top_k": 1},
        "seed_everything": 1,
    }  # fmt: skip


def _bases() -> dict[str, dict[str, Any]]:
    accuracy, standardized = "val/accuracy", {**_DIGITS, "preprocessing": "standardize"}
    bases = {
        "softmax": _config("SoftmaxRegression", {"reg": 0.01}, "Digits", standardized, accuracy),
        "svm": _config("LinearSVM", {"reg": 1e-3, "margin": 1.0}, "Digits", {**_DIGITS, "crop_padding": 1}, accuracy),
        "two_layer": _config("TwoLayerNet", {"hidden_size": 8}, "Digits", {**_DIGITS, "features": ["hog"]}, accuracy),
        "fc_net": _config(
            "FullyConnectedNet", {"hidden_sizes": [8, 8], "normalization": "batch", "dropout": 0.1}, "Digits",
            {**_DIGITS, "preprocessing": "pca", "num_components": 5}, accuracy,
        ),
        "convnet": _config("ConvNet", {"channels": [4, 4], "convs_per_stage": 1}, "Digits", _DIGITS, accuracy),
        "knn": _config("KNearestNeighbors", {"k": 3, "report_k": [1, 3], "k_max": 5}, "Digits", _DIGITS, accuracy),
        "gan": _config(
            "GAN", {"latent_size": 4, "generator_width": 8, "discriminator_width": 8, "loss": "bce"}, "Digits",
            {**_DIGITS, "preprocessing": "scale"}, "val/loss_d",
        ),
        "captioner": _config(
            "CaptionRNN", {"width": 8, "channels": [4, 4, 8]}, "ShapeCaptions",
            {"num_train": 40, "num_test": 10, "batch_size": 12}, "val/cider",
        ),
    }  # fmt: skip
    bases["knn"]["trainer"]["limit_train_batches"] = 1
    for name in ("knn", "gan"):  # no optimizer of the configuration's
        del bases[name]["optimizer"], bases[name]["lr_scheduler"]
    bases["gan"]["checkpoint"] = {"monitor": None}
    del bases["gan"]["trainer"]["gradient_clip_val"]
    bases["captioner"]["trainer"]["callbacks"] = []
    return bases


def case(random: Random) -> Case:
    """Draws one."""
    name = random.choice(sorted(_bases()))
    config = _bases()[name]
    changes: list[Callable[[dict[str, Any], Random], str]] = [
        _missing,
        _misspelled,
        _odd,
        _odd,
        _near,
        _near,
        _moved,
        _foreign,
    ]
    expect = Expect.SENTENCE
    if random.random() < 0.7:
        label = random.choice(changes)(config, random)
        content = yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass")
    else:
        content, label, expect = _changed_text(yaml.safe_dump(config, sort_keys=False), random)
    command = random.choice([*[("fit", *_SHORT)] * 5, ("fit", "--print_config"), ()])
    if name == "captioner" and not command:  # its check takes more than a minute
        command = ("fit", *_SHORT)
    pipeline, words = ("train", command) if command else ("check", ())
    arguments = (*words[:1], "--config", "mine.yaml", *words[1:])

    def damage(folder: Path) -> None:
        (folder / "mine.yaml").write_bytes(content)

    commands = (Command(pipeline, arguments),)
    return Case("nothing", f"mine.yaml ({name}): {label}", commands, damage, expect)


def _settings(config: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The paths of all sections and settings."""
    found = []
    for key, value in config.items():
        found.append((*path, key))
        if isinstance(value, dict):
            found += _settings(value, (*path, key))
    return found


def _pick(config: dict[str, Any], random: Random) -> tuple[dict[str, Any], str, str]:
    """One setting: what holds it, its key, and its path in words."""
    path = random.choice(_settings(config))
    holder = config
    for key in path[:-1]:
        holder = holder[key]
    return holder, path[-1], ".".join(path)


def _missing(config: dict[str, Any], random: Random) -> str:
    holder, key, words = _pick(config, random)
    del holder[key]
    return f"{words} is missing"


def _misspelled(config: dict[str, Any], random: Random) -> str:
    holder, key, words = _pick(config, random)
    new: Any = random.choice(
        [
            key + "s",
            key[:-1],
            key.upper(),
            key.replace("_", "-"),
            f" {key}",
            f"{key}.x",
            "",
            None,
            1,
            True,
            "\0",
            "config",
            "help",
        ]
    )
    holder[new] = holder.pop(key)
    return f"{words} is called {new!r}"


def _odd(config: dict[str, Any], random: Random) -> str:
    holder, key, words = _pick(config, random)
    holder[key] = odd_value(random)
    return f"{words} is {holder[key]!r:.100}"


def _near(config: dict[str, Any], random: Random) -> str:
    holder, key, words = _pick(config, random)
    holder[key] = near_value(random, holder[key])
    return f"{words} is {holder[key]!r:.100}"


def _moved(config: dict[str, Any], random: Random) -> str:
    holder, key, words = _pick(config, random)
    other, neighbor, where = _pick(config, random)
    value = holder.pop(key)
    target = other.get(neighbor)
    (target if isinstance(target, dict) else other)[key] = value
    return f"{words} stands in {where}"


def _foreign(config: dict[str, Any], random: Random) -> str:
    """A setting that another part of the project or of Lightning has."""
    foreign: dict[str, Any] = {
        "ckpt_path": "last", "optimizer.lr": 0.1, "lr": 0.1, "epochs": 3, "model.init_args.reg": 1, "callbacks": [],
        "logger": True, "trainer.logger": "wandb", "trainer.max_time": "00:00:00:01", "trainer.overfit_batches": 1,
        "trainer.min_steps": 5, "trainer.val_check_interval": 1, "trainer.check_val_every_n_epoch": 2,
        "trainer.fast_dev_run": True, "trainer.profiler": "simple", "trainer.strategy": "ddp", "trainer.devices": 2,
        "trainer.accelerator": "gpu", "trainer.deterministic": True, "trainer.benchmark": True,
        "trainer.inference_mode": False, "trainer.barebones": True, "trainer.detect_anomaly": True,
        "trainer.enable_checkpointing": False, "trainer.enable_model_summary": True,
        "trainer.reload_dataloaders_every_n_epochs": 1, "trainer.default_root_dir": "elsewhere",
        "trainer.num_nodes": 2, "trainer.limit_train_batches": 0, "trainer.accumulate_grad_batches": 4,
        "trainer.gradient_clip_algorithm": "norm", "trainer.sync_batchnorm": True,
        "trainer.plugins": "async_checkpoint", "trainer.num_sanity_val_steps": 2, "checkpoint.save_top_k": 2,
        "checkpoint.save_weights_only": True, "checkpoint.every_n_epochs": 2, "checkpoint.filename": "a/b",
        "checkpoint.dirpath": "elsewhere", "checkpoint.save_last": True, "checkpoint.train_time_interval": "00:00:01",
        "last_checkpoint.every_n_train_steps": 1, "images": ["a.png"], "out": "p.csv",
    }  # fmt: skip
    name = random.choice(sorted(foreign))
    *path, last = name.split(".")
    holder = config
    for key in path:
        holder = holder.setdefault(key, {})
    holder[last] = foreign[name]
    return f"{name} is {foreign[name]!r}"


def _changed_text(text: str, random: Random) -> tuple[bytes, str, Expect]:
    lines = text.splitlines(keepends=True)
    number = random.randrange(len(lines))
    kind = random.choice(
        ["bytes", "twice", "cut", "tab", "bom", "utf16", "windows", "indent", "bomb", "tag", "long", "binary"]
    )
    if kind == "bytes":
        label, change = damaged_bytes(random)
        return change(text.encode()), label, Expect.SENTENCE
    if kind == "twice":  # a section once more at the end, with a single setting
        section = random.choice(["model", "data", "trainer", "seed_everything"])
        more = {"seed_everything": "2"}.get(section, "{}")
        return f"{text}{section}: {more}\n".encode(), f"{section} stands twice", Expect.REFUSED
    if kind == "cut":
        return "".join(lines[:number]).encode(), f"cut after line {number}", Expect.SENTENCE
    if kind == "tab":
        return (
            "".join([*lines[:number], "\t" + lines[number], *lines[number + 1 :]]).encode(),
            f"tab in line {number + 1}",
            (Expect.SENTENCE),
        )
    if kind == "indent":
        return (
            "".join([*lines[:number], " " + lines[number], *lines[number + 1 :]]).encode(),
            (f"line {number + 1} a space further in"),
            Expect.SENTENCE,
        )
    if kind == "bom":
        return b"\xef\xbb\xbf" + text.encode(), "byte order mark", Expect.SENTENCE
    if kind == "utf16":
        return text.encode("utf-16"), "UTF-16", Expect.SENTENCE
    if kind == "windows":
        return text.replace("\n", "\r\n").encode(), "Windows line ends", Expect.SENTENCE
    if kind == "bomb":
        bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"{new}: &{new} [{','.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        )
        return (bomb + text).encode(), "aliases of aliases of aliases", Expect.REFUSED
    if kind == "tag":
        tag = "!!python/object/apply:os.system ['touch executed-by-a-file']"
        return (text + f"x: {tag}\n").encode(), "a tag that runs code", Expect.REFUSED
    if kind == "long":
        return (text + f"x: {'y' * 200_000}\n").encode(), "a value of 200,000 characters", Expect.REFUSED
    return random.randbytes(3000), "noise instead of text", Expect.REFUSED
