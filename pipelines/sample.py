"""Draws samples from a trained generative model: one picture of all, or an image file each.

python -m pipelines.sample logs/dcgan/RUN -n 64 --out samples.png            # a square of 64, by the best checkpoint
python -m pipelines.sample logs/dcgan/RUN/checkpoints/last.ckpt -n 10000 --out samples/ --seed 1

The same checkpoint, number and seed give the same images. A name that ends in .png makes a picture; any other is the
folder for 00000.png, 00001.png and so on, each in the size of the data.
"""

from collections.abc import Sequence
from math import ceil, sqrt
from pathlib import Path

from common.errors import UserError
from pipelines.console.option_parser import OptionParser
from pipelines.console.run_command import run_command
from pipelines.run.run_folder import as_typed, find_run

_LARGEST_SEED = 2**63 - 1


def usage() -> str:
    """The help."""
    lines = ["usage: python -m pipelines.sample RUN|CHECKPOINT [-n NUMBER] [--out FILE.png|FOLDER] [--seed SEED]", ""]
    lines += ["  -n      how many images, 64 if left out"]
    lines += ["  --out   samples.png if left out; any other name than .png is a folder for a file each"]
    lines += ["  --seed  of the random numbers, 0 if left out"]
    return "\n".join(lines)


def sample(path: str, number: int, out: Path, seed: int) -> None:
    """Writes the images and prints where they are.

    Args:
        path: a checkpoint, or a run's folder.
        number: how many, at least 1.
        out: a .png file, or a folder.
        seed: of the latents, 0 to 2⁶³ − 1.

    Raises:
        ValueError: a value out of the range given above, no checkpoint, or one of a model that makes no images.
        OSError: a file can't be written.
    """
    if number < 1:
        raise UserError(f"-n is {number}; give at least 1 image.")
    if not 0 <= seed <= _LARGEST_SEED:
        raise UserError(f"--seed is {seed}; give 0 to {_LARGEST_SEED}.")
    if out.suffix.lower() == ".png" and out.is_dir():
        raise UserError(f"{out} is a folder; give --out the name of a file in it, or a folder without .png.")
    run, checkpoint = find_run(path)
    import torch  # it and Lightning take seconds that a typing error need not wait for
    from PIL import Image

    from callbacks.sample_quality import Samples
    from callbacks.samples import tiles
    from pipelines.run.restore import restore, untrained

    model, data = untrained(run)
    if not isinstance(model, Samples):
        raise UserError(
            f"{as_typed(checkpoint)} is of {type(model).__name__}, which makes no images; give a run of gan, lsgan or "
            "dcgan."
        )
    restore(model, data, checkpoint)
    images = model.sample(number, torch.Generator().manual_seed(seed))
    if out.suffix.lower() == ".png":
        out.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tiles(images, ceil(sqrt(number)))).save(out)
    else:
        out.mkdir(parents=True, exist_ok=True)
        for place, image in enumerate(images):
            Image.fromarray(tiles(image[None], 1, zoom=1)).save(out / f"{place:05d}.png")
    print(f"{number:,} images by {as_typed(checkpoint)}, seed {seed}: {as_typed(out)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line; ends with status 2 and one sentence if it can't be carried out."""
    run_command(usage, _work, arguments)


def _work(arguments: list[str]) -> None:
    parser = OptionParser(prog="python -m pipelines.sample", add_help=False, allow_abbrev=False)
    parser.add_argument("checkpoint")
    parser.add_argument("-n", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("samples.png"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    sample(given.checkpoint, given.n, given.out, given.seed)


if __name__ == "__main__":
    main()
