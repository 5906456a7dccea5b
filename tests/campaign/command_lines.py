"""Command lines as users type them: words missing, misspelled, twice, elsewhere or of another kind."""

from random import Random
from typing import Any

from tests.campaign.case import Case, Command
from tests.campaign.good_files import CAPTIONER, CLASSIFIER, GAN
from tests.campaign.odd_values import near_value, odd_value

_SHORT = ("--trainer.max_steps=2", "--trainer.max_epochs=1")
_RUN = "logs/fc_net/run"
# Files, command line, and what is added after it was changed.
_GOOD: list[tuple[str, str, tuple[str, ...], tuple[str, ...]]] = [
    ("nothing", "train", CLASSIFIER, _SHORT),
    ("nothing", "train", CLASSIFIER, _SHORT),
    ("nothing", "train", GAN, _SHORT),
    ("nothing", "train", CAPTIONER, _SHORT),
    ("classifier", "train", ("fit", "--ckpt_path", _RUN, "--trainer.max_epochs=3", "--optimizer.lr=0.02"), _SHORT),
    ("classifier", "train", ("test", "--ckpt_path", _RUN, "--data.batch_size=20"), ()),
    ("classifier", "train", ("validate", "--ckpt_path", f"{_RUN}/checkpoints/last.ckpt"), ()),
    ("classifier", "train", ("predict", "--ckpt_path", _RUN, "--images", "photos", "--out", "p.csv"), ()),
    ("classifier", "export", (_RUN, "--format", "safetensors", "--out", "m.safetensors"), ()),
    ("classifier", "interpret", ("saliency", "--ckpt", _RUN, "--images", "photos/0.png", "--out", "maps"), ()),
    (
        "classifier",
        "interpret",
        ("fooling", "--ckpt", _RUN, "--images", "photos/0.png", "--class", "3", "--out", "f"),
        (),
    ),
    (
        "classifier",
        "interpret",
        ("class_visualization", "--ckpt", _RUN, "--class", "1", "--steps", "2", "--out", "c"),
        (),
    ),
    ("classifier", "compare", (_RUN, "--out", "page.html", "--sort", "val/accuracy"), ()),
    ("gan", "sample", ("logs/gan/run", "-n", "4", "--out", "s.png", "--seed", "1"), ()),
    ("captioner", "caption", ("logs/caption_lstm/run", "photos", "--out", "c.json", "--beam", "2"), ()),
    (
        "captioner",
        "caption",
        ("logs/caption_lstm/run", "photos", "--temperature", "0.7", "--top-k", "5", "--seed", "1"),
        (),
    ),
    ("captioner", "caption", ("logs/caption_lstm/run", "photos", "--consensus", "3", "--max-length", "4"), ()),
    ("sweep", "sweep", ("show", "logs/sweeps/grid"), ()),
    ("sweep", "sweep", ("best", "logs/sweeps/grid"), ()),
    (
        "sweep file",
        "sweep",
        ("run", "grid.yaml", "--engine", "local", "--run-cap", "2", "--seed", "1"),
        ("--parallel", "2"),
    ),
    ("MNIST", "data", ("verify", "mnist", "--root", "data"), ()),
    ("CIFAR-10", "data", ("verify", "cifar10", "--root", "data"), ()),
    ("nothing", "check", CLASSIFIER[1:], ()),
    ("COCO", "score_captions", ("captions.json", "data/coco/annotations/captions_val2017.json"), ()),
]
# What users type for a setting that has another name here.
_HABITS = [
    "--lr=0.1", "--lr", "0.1", "--epochs=3", "--epochs", "--batch-size=8", "--batch_size", "8", "--gpus=1",
    "--seed=1", "--wd=0.1", "--num-workers=2", "--momentum=0.9", "--optimizer=adam", "--optimizer", "Adam",
    "--name=x", "--resume", "--debug", "-v", "-h", "--help", "--version", "--verbose", "--output=o", "--device=cpu",
    "--cuda", "--data", "Digits", "--model", "LinearSVM", "--config", "softmax", "svm", "fit", "test", "--", "-",
    "--=", "=", "--=x", "--config=", "--ckpt_path=", "--data.root=~/data", "--print_config",
    "--print_config=comments", "--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=x",
    "--trainer.callbacks+=LearningRateMonitor", "--lr_scheduler=StepLR", "--lr_scheduler", "ReduceLROnPlateau",
    "--optimizer.lr", "--optimizer.lr=", "--model.help", "--data.help=CIFAR10", "--trainer", "{}", "--model={}",
    "--data=null", "--trainer=null", "--model.init_args.reg=1", "--trainer.max_epochs", "--trainer.logger=true",
    "--wandb", "--no-wandb",
]  # fmt: skip


def case(random: Random) -> Case:
    """Draws one."""
    files, pipeline, good, after = random.choice(_GOOD)
    words = list(good)
    label = "; ".join(_changed(words, random) for _ in range(random.choice([1, 1, 1, 2])))
    arguments = tuple(word.replace("\0", "␀") for word in words)  # a process's arguments have no zero byte
    if pipeline == "sweep" or (words[:1] == ["fit"] and not {"-h", "--help"} & set(words)):
        arguments += after
    return Case(files, f"command line: {label}", (Command(pipeline, arguments),))


def _changed(words: list[str], random: Random) -> str:
    i = random.randrange(len(words)) if words else 0
    kind = random.choice(
        ["gone", "twice", "habit", "habit", "odd", "odd", "odd", "near", "near", "typing", "swap", "join"]
    )
    if kind == "habit" or not words:
        habit = random.choice(_HABITS)
        words.insert(random.randrange(len(words) + 1), habit)
        return f"{habit} added"
    old = words[i]
    name, equals, value = old.partition("=")
    if kind == "gone":
        del words[i]
        return f"{old} left out"
    if kind == "twice":
        words.insert(i, old)
        return f"{old} twice"
    if kind == "swap":
        j = random.randrange(len(words))
        words[i], words[j] = words[j], words[i]
        return f"{old} and {words[i]} exchanged"
    if kind == "join":
        words[i : i + 2] = ["".join(words[i : i + 2])]
        return f"{old} joined to the next word"
    if kind == "typing":
        at = random.randrange(len(name) or 1)
        new = random.choice(
            [name[:at] + name[at + 1 :], name[:at] + name[at : at + 1] * 2 + name[at + 1 :], name.upper()]
        )
        words[i] = new + equals + value
        return f"{name} typed {new}"
    new_value = _typed(odd_value(random) if kind == "odd" else near_value(random, _parsed(value if equals else old)))
    words[i] = f"{name}={new_value}" if equals else new_value
    return f"{old} became {words[i]:.100}"


def _typed(value: Any) -> str:
    return (
        {None: "null", True: "true", False: "false"}.get(value, str(value))
        if not isinstance(value, dict | list)
        else str(value)
    )


def _parsed(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
