"""Success rate and size of fooling images of a trained run, and the speed of batched saliency maps.

    python -m benchmarks.interpret logs/convnet/RUN

Fooling: `--pairs` test images, each with a random target other than the predicted class, with the default steps. An
image counts as fooled if the network predicts the target after rounding to 8 bits, as an image file stores it.

Speed: images per second of 256 saliency maps, as one batch and one image at a time, for the run's network and a small
one; one thread, CPU time, alternating rounds.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import Clock, Comparison, Rate, Variant, one_thread
from datamodules import ImageDataModule
from modules import ConvNet
from modules.interpretation.feature_extraction import taking_pixels
from modules.interpretation.fooling_images import Fooled, fool
from modules.interpretation.saliency import saliency
from pipelines.run.load_model import restore, untrained
from pipelines.run.run_folder import find_run

BATCHED, ALONE = "one batch", "one at a time"
_BATCH = 100  # images fooled at a time


def load(run: str, root: str | None) -> tuple[Any, ImageDataModule]:
    folder, checkpoint = find_run(run)
    model, data = untrained(folder, checkpoint)
    restore(model, data, checkpoint)
    if root is not None:
        data.root = type(data.root)(root)
    data.setup("test")
    return model, data


def fooled_pairs(model: nn.Module, data: Any, pairs: int) -> Fooled:
    """Fools the model with the first test images, each towards a random other class."""
    generator = torch.Generator().manual_seed(0)
    images = data.splits["test"][0][:pairs].float() / 255
    parts: list[Fooled] = []
    with taking_pixels(model, lambda pixels: data.preprocessing(255 * pixels)):
        for batch in images.split(_BATCH):
            with torch.no_grad():
                predicted = model(batch).argmax(1)
            others = torch.randint(1, data.num_classes, (len(batch),), generator=generator)
            parts.append(fool(model, batch, (predicted + others) % data.num_classes))
    names = ("images", "succeeded", "steps", "change")
    return Fooled(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def speed(model: nn.Module, images: Tensor, labels: Tensor, rounds: int) -> Comparison:
    def measure(size: int) -> Rate:
        started = Clock.now()
        for batch, classes in zip(images.split(size), labels.split(size), strict=True):
            saliency(model, batch, classes)
        return Rate.of(len(images), Clock.now() - started)

    saliency(model, images[:8], labels[:8])  # lazy initialization is not timed
    variants = {BATCHED: Variant(lambda: measure(len(images))), ALONE: Variant(lambda: measure(1))}
    with one_thread():
        return Comparison(variants, rounds)


def main(arguments: Sequence[str] | None = None) -> tuple[Fooled, dict[str, Comparison]]:
    parser = argparse.ArgumentParser(description="Fooling and saliency of a trained run.")
    parser.add_argument("run", help="the run's folder, or a checkpoint")
    parser.add_argument("--root", help="folder of the data sets, if not the run's")
    parser.add_argument("--pairs", type=int, default=1000, help="number of fooling images")
    parser.add_argument("--images", type=int, default=256, help="saliency maps per measurement")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    model, data = load(options.run, options.root)
    result = fooled_pairs(model, data, options.pairs)
    succeeded = result.succeeded
    print(f"{options.run}: {len(succeeded)} test images, each towards a random other class")
    print(f"fooled            {succeeded.float().mean():.1%}")
    for name, values in (("steps", result.steps), ("L∞ × 255", result.largest * 255), ("L2", result.l2)):
        quantiles = values[succeeded].float().quantile(torch.tensor([0.5, 0.95, 1.0])).tolist()
        print("{:<18}median {:.3g}, 95 % below {:.3g}, largest {:.3g}".format(name, *quantiles))
    images, labels = data.splits["test"][0][: options.images], data.splits["test"][1][: options.images]
    inputs = data.preprocessing(images)
    small = ConvNet(tuple(inputs.shape[1:]), data.num_classes, [8, 16], 1).eval()
    comparisons = {}
    print(f"\nimages per second, {len(inputs)} maps{'':<6}{BATCHED:>12}{ALONE:>16}   ratio")
    for name, network in ((f"{type(model).__name__} of the run", model), ("ConvNet [8, 16], 1 conv", small)):
        comparisons[name] = comparison = speed(network, inputs, labels, options.rounds)
        rates = f"{comparison.rate(BATCHED):>12,.0f}{comparison.rate(ALONE):>16,.0f}"
        print(f"{name:<34}{rates}   {comparison.ratio(BATCHED, ALONE)}", flush=True)
    return result, comparisons


if __name__ == "__main__":
    main()
