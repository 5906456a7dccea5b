"""Damaged data sets and caches: MNIST, CIFAR-10, COCO, cached features."""

import json
import pickle
from pathlib import Path
from random import Random
from typing import Any

from tests.campaign.case import Case, Command, Damage, Expect
from tests.campaign.damage import damaged_file
from tests.campaign.good_files import COCO, HOG, QUIET, fit
from tests.campaign.odd_values import near_value, odd_value
from tests.campaign.outcome import MARKER

_TINY = ("--model.hidden_sizes=[8]", "--data.batch_size=16", "--data.flip=false", "--data.crop_padding=0", *QUIET)
_MNIST = fit(("fit", "--config=fc_net", "--data=MNIST", *_TINY), 1)
_CIFAR10 = fit(("fit", "--config=fc_net", "--data=CIFAR10", *_TINY), 1)


def case(random: Random) -> Case:
    """Draws one."""
    return random.choice([_mnist, _cifar10, _coco, _annotations, _cache, _cache])(random)


def _mnist(random: Random) -> Case:
    files = random.choice(["MNIST", "MNIST unpacked"])
    label, damage = damaged_file(random, "data/MNIST/raw/*")
    command = random.choice([_MNIST, Command("data", ("verify", "mnist", "--root", "data"))])
    # gzip has a checksum; of a plain file any byte may be a pixel.
    checked = files == "MNIST" and command == _MNIST
    return Case(files, label, (command,), damage, Expect.SAME if checked else Expect.SENTENCE)


def _cifar10(random: Random) -> Case:
    command = random.choice([_CIFAR10, Command("data", ("verify", "cifar10", "--root", "data"))])
    if random.random() < 0.3:
        return Case("CIFAR-10", "data_batch_1 runs code", (command,), _hostile(random))
    label, damage = damaged_file(random, "data/cifar-10-batches-py/*_batch*")
    return Case("CIFAR-10", label, (command,), damage)


def _hostile(random: Random) -> Damage:
    text = random.choice(
        [
            f"cos\nsystem\n(S'touch {MARKER}'\ntR.", f"c__builtin__\neval\n(S'open(\"{MARKER}\",\"w\")'\ntR.",
            f"cbuiltins\nexec\n(S'open(\"{MARKER}\",\"w\")'\ntR.", f"cposix\nsystem\n(S'touch {MARKER}'\ntR.",
            f"cnumpy.testing._private.utils\nrunstring\n(S'open(\"{MARKER}\",\"w\")'\n(dtR.",
        ]
    )  # fmt: skip
    inside = random.random() < 0.5

    def damage(folder: Path) -> None:
        file = folder / "data" / "cifar-10-batches-py" / "data_batch_1"
        content = text.encode()
        if inside:  # beside good images
            good = pickle.loads(file.read_bytes())
            content = pickle.dumps(good, 0)[:-1] + b"S'x'\n" + content[:-1] + b"s."
        file.write_bytes(content)

    return damage


def _coco(random: Random) -> Case:
    pattern = random.choice(["data/coco/train2017/*.jpg", "data/coco/val2017/*.jpg", "data/coco/annotations/*.json"])
    label, damage = damaged_file(random, pattern)
    return Case("COCO", label, (fit(COCO, 1),), damage)


def _annotations(random: Random) -> Case:
    draw = random.getrandbits(32)

    def damage(folder: Path) -> str:
        file = folder / "data" / "coco" / "annotations" / "captions_train2017.json"
        content = json.loads(file.read_text())
        words = _changed(content, Random(draw))
        file.write_text(json.dumps(content))
        return words

    return Case("COCO", f"an entry of captions_train2017.json changed by draw {draw}", (fit(COCO, 1),), damage)


def _changed(content: dict[str, Any], random: Random) -> str:
    container: Any = content
    path: list[str] = []
    while True:
        key = random.choice(list(container) if isinstance(container, dict) else range(len(container)))
        path.append(str(key))
        if not isinstance(container[key], dict | list) or not container[key] or random.random() < 0.1:
            break
        container = container[key]
    how = random.choice(["gone", "odd", "near"])
    if how == "gone":
        del container[key]
        return f"{'/'.join(path)} removed"
    container[key] = odd_value(random) if how == "odd" else near_value(random, container[key])
    return f"{'/'.join(path)} is {container[key]!r:.80}"


def _cache(random: Random) -> Case:
    files, pattern, command = random.choice(
        [("HOG cache", "data/features/*.npy", fit(HOG, 1)), ("COCO", "data/coco/features/*.npy", fit(COCO, 1))]
    )
    label, damage = damaged_file(random, pattern)
    return Case(files, label, (command,), damage, Expect.SAME)
