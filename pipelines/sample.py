"""Generates images with a trained generative model, as one picture or as one file per image.

python -m pipelines.sample logs/dcgan/RUN -n 64 --out samples.png            # a grid of 64, from the best checkpoint
python -m pipelines.sample logs/dcgan/RUN/checkpoints/last.ckpt -n 10000 --out samples/ --seed 1

The same checkpoint, number and seed give the same images. If --out ends in .png, .jpg or the like, it is a picture of
all images; otherwise it is a folder of 00000.png, 00001.png and so on, each of the size of the training images.
"""

from collections.abc import Sequence
from math import ceil, sqrt
from pathlib import Path

from common.errors import UserError
from pipelines.console.formatting import count
from pipelines.console.option_parser import OptionParser
from pipelines.console.outputs import check_out_file, check_out_folder
from pipelines.console.png import is_picture, write_png
from pipelines.console.run_command import run_command
from pipelines.run.run_folder import as_typed, find_run

_MAX_SEED = 2**63 - 1


def usage() -> str:
    """Returns the help text."""
    lines = ["usage: python -m pipelines.sample RUN|CHECKPOINT [-n NUMBER] [--out FILE.png|FOLDER] [--seed SEED]", ""]
    lines += ["  -n NUMBER      number of images (default: 64)"]
    lines += ["  --out FILE     picture of all images, if it ends in .png, .jpg or the like; otherwise a folder"]
    lines += ["                 (default: samples.png)"]
    lines += ["  --seed SEED    seed of the latents (default: 0)"]
    return "\n".join(lines)


def sample(path: str, number: int, out: Path, seed: int) -> None:
    """Generates images, writes them and prints the path.

    Args:
        path: Checkpoint file or run folder.
        number: Number of images, ≥ 1.
        out: A picture, such as a .png or .jpg file, or a folder.
        seed: Seed of the latents, in [0, 2⁶³).

    Raises:
        ValueError: If the number or seed is out of range, or the checkpoint does not exist or is not of a generator.
        OSError: If a file can't be written.
    """
    if number < 1:
        raise UserError(f"-n is {number}; it must be at least 1.")
    if not 0 <= seed <= _MAX_SEED:
        raise UserError(f"--seed is {seed}; it must be in [0, {_MAX_SEED}].")
    if is_picture(out) and out.is_dir():
        raise UserError(f"{out} is a folder; set --out to the name of a file, or of a folder without .png.")
    run, checkpoint = find_run(path)
    if is_picture(out):
        check_out_file(out)
    else:
        check_out_folder(out)
    import torch  # takes seconds; a typing error is reported before

    from callbacks.sample_quality import ImageSampler
    from callbacks.samples import tiles
    from pipelines.run.load_model import restore, untrained

    model, data = untrained(run, checkpoint)
    if not isinstance(model, ImageSampler):
        raise UserError(
            f"{as_typed(checkpoint)} is of {type(model).__name__}, which does not generate images; use a run of gan, "
            "lsgan or dcgan."
        )
    if tuple(data.input_shape) == (1, 1, 1):
        raise UserError(
            f"{as_typed(checkpoint)} generates numbers, not images; their density is in pictures/density of the run."
        )
    restore(model, data, checkpoint)
    images = model.sample(number, torch.Generator().manual_seed(seed))
    if is_picture(out):
        write_png(tiles(images, ceil(sqrt(number))), out)
    else:
        for index, image in enumerate(images):
            write_png(tiles(image[None], 1, zoom=1), out / f"{index:05d}.png")
    print(f"{count(number, 'image')} from {as_typed(checkpoint)}, seed {seed}: {as_typed(out)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line; a user's mistake ends with one sentence and exit status 2."""
    run_command(usage, _work, arguments)


def _work(arguments: list[str]) -> None:
    parser = OptionParser(prog="python -m pipelines.sample", add_help=False)
    parser.add_argument("checkpoint")
    parser.add_argument("-n", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("samples.png"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    sample(given.checkpoint, given.n, given.out, given.seed)


if __name__ == "__main__":
    main()
