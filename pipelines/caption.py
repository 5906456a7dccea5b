"""Captions image files with a trained captioner.

python -m pipelines.caption logs/caption_lstm/RUN photos/ --out captions.json
python -m pipelines.caption RUN dog.jpg cat.jpg --beam 3 --show pictures/     # with captions and attention maps
python -m pipelines.caption RUN photos/ --temperature 0.7 --top-k 20 --seed 1 # sampled
python -m pipelines.caption RUN photos/ --consensus 20                        # the consensus of 20 samples

The output is in COCO's results format, as read by its evaluation server and pycocotools: a list of objects with
`image_id`, the number at the end of the file name (391895 for 000000391895.jpg and COCO_val2014_000000391895.jpg), and
`caption`; `file_name` is added, with its subfolders below the folder given. If a name has no number, or two names have
the same one, `image_id` is the index of the image, from 0. An image that can't be read has no entry; the exit status is
1 if there was one.

Source: https://cocodataset.org/#format-results
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.atomic_files import atomic_write
from common.errors import UserError
from pipelines.console.formatting import count
from pipelines.console.option_parser import OptionParser
from pipelines.console.outputs import check_out_file, check_out_folder, print_report, printable
from pipelines.console.png import write_png
from pipelines.console.run_command import run_command
from pipelines.run.run_folder import as_typed, find_run

if TYPE_CHECKING:
    from datamodules.files.given_images import GivenImages

_PICTURE_SHAPE = (3, 224, 224)  # a square, like the model's input


def usage() -> str:
    """Returns the help text."""
    return "\n".join(
        [
            "usage: python -m pipelines.caption RUN|CHECKPOINT IMAGE|FOLDER… [--out FILE] [--show FOLDER] [OPTIONS]",
            "",
            "  --out FILE            JSON file of the captions, in COCO's results format",
            "  --show FOLDER         folder of pictures: each image with its caption and the attention of each word",
            "  --beam K              beam size; 1 decodes greedily (default: the model's beam_size)",
            "  --length-penalty A    length penalty of beam search (default: the model's)",
            "  --max-length N        largest number of words (default: the model's)",
            "  --temperature T       sample words at this temperature instead of beam search",
            "  --top-k K             sample from the K most probable words",
            "  --consensus N         sample N captions of each image and choose the one most similar to the others",
            "  --seed N              seed of the sampling (default: 0)",
        ]
    )


def image_ids(files: Sequence[Path]) -> list[int]:
    """Returns COCO's image ids from the file names; the indices if a name has no number or two have the same one."""
    numbers = [re.search(r"(\d+)$", file.stem) for file in files]
    ids = [int(number[1]) for number in numbers if number]
    return ids if len(set(ids)) == len(files) else list(range(len(files)))


def _batches(data: Any) -> Iterator[tuple[Any, Any]]:
    """Yields inputs (B, ...) of the readable image files, and their indices in `data.image_files`, (B,)."""
    from tqdm import tqdm

    loader = data.predict_dataloader()
    for batch in tqdm(loader, desc="captioning", unit="batch", delay=2, disable=None, leave=False):
        inputs, indices = data.on_after_batch_transfer(batch, 0)
        readable = [row for row, index in enumerate(indices.tolist()) if index not in data.given_images.unreadable]
        if readable:
            yield inputs[readable], indices[readable]


def caption(
    path: str,
    images: list[str],
    out: Path | None,
    show: Path | None,
    search: dict[str, Any],
    seed: int = 0,
    draws: int | None = None,
) -> bool:
    """Captions images, prints the captions, and writes them to a file and as pictures; False if one can't be read.

    Args:
        path: Checkpoint file or run folder.
        images: Image files and folders.
        out: JSON file to write; None for none.
        show: Folder of pictures to write; None for none.
        search: Settings of the model's `caption`.
        seed: Seed of the sampling.
        draws: Number of sampled captions per image from which the consensus is chosen; None for a single caption.

    Raises:
        ValueError: If the checkpoint is not of a captioner, no image can be read, or a setting is out of range.
        OSError: If a file can't be written.
    """
    run, checkpoint = find_run(path)
    if draws is not None:
        if draws < 1:
            raise UserError(f"--consensus is {draws}; it must be at least 1, such as 20.")
        search = {"temperature": 1.0, **search}
    if out is not None:
        check_out_file(out, [checkpoint, *run.files_to_keep()])
    if show is not None:
        check_out_folder(show, option="--show")

    import torch  # takes seconds; a typing error is reported before

    from callbacks.caption_pictures import attention_sheet, caption_sheet, stacked
    from callbacks.generated_captions import CaptionGenerator, HasAttentionMaps, captions_with_attention
    from datamodules.files.given_images import find_images
    from datamodules.images.image_files import read_images
    from pipelines.run.load_model import restore, untrained

    model, data = untrained(run, checkpoint)
    if not isinstance(model, CaptionGenerator):
        raise UserError(
            f"{checkpoint} is of {type(model).__name__}, which does not write captions; use a run of a captioner."
        )
    restore(model, data, checkpoint)
    given = find_images(images)
    if out is not None:
        check_out_file(out, given.files)
    if show is not None:
        check_out_folder(show, given.files, "--show")
    data.images = images
    torch.manual_seed(seed)
    attention = isinstance(model, HasAttentionMaps) and model.attends and "temperature" not in search
    written: dict[int, str] = {}  # by the image's index
    with torch.inference_mode():
        chosen = None if draws is None else _by_consensus(model, data, search, draws)
        for inputs, indices in _batches(data):
            if chosen is None:
                captions = model.caption(inputs, **search)
            else:
                captions = [chosen[index] for index in indices.tolist()]
            written |= zip(indices.tolist(), captions, strict=True)
            for row, (index, text) in enumerate(zip(indices.tolist(), captions, strict=True)):
                file = data.image_files[index]
                print(f"{printable(file)}  {text}", flush=True)
                if show is None:
                    continue
                pixels = read_images([file], _PICTURE_SHAPE)[0] / 255
                sheets = [caption_sheet(pixels[None], [text], [[]])]
                if attention:
                    attentions = captions_with_attention(model, inputs[row : row + 1], **search)
                    sheets += [attention_sheet(pixels, words, maps) for words, maps in attentions]
                write_png(stacked(sheets), show / f"{index:05d}_{file.stem}.png")
    data.given_images.check_any_readable()
    print_report(data.given_images.report())
    if show is not None:
        print(f"{count(len(written), 'picture')} in {as_typed(show)}")
    if out is not None:
        _write(out, data.given_images, written)
        print(f"{count(len(written), 'caption')} in {as_typed(out)}")
    return not data.given_images.unreadable


def _by_consensus(model: Any, data: Any, search: dict[str, Any], draws: int) -> dict[int, str]:
    """Returns the consensus caption of each image by its index; rare words are counted over all images first."""
    from modules.captioning.consensus import consensus

    samples: dict[int, tuple[str, ...]] = {}
    for inputs, indices in _batches(data):
        captions = [model.caption(inputs, **search) for _ in range(draws)]
        samples.update(zip(indices.tolist(), zip(*captions, strict=True), strict=True))
    return dict(zip(samples, consensus(list(samples.values())), strict=True))


def _write(out: Path, given: "GivenImages", captions: dict[int, str]) -> None:
    ids = image_ids(given.files)
    rows = [
        {"image_id": ids[index], "caption": text, "file_name": given.names[index]} for index, text in captions.items()
    ]
    with atomic_write(out) as temporary:
        # Bytes of a name that are not UTF-8 become JSON's own escapes, which read back as the same name.
        temporary.write_bytes(json.dumps(rows, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line; exit status 1 if an image could not be read, 2 after a user's mistake."""
    run_command(usage, _work, arguments)


def _work(arguments: list[str]) -> bool:
    parser = OptionParser(prog="python -m pipelines.caption", add_help=False)
    parser.add_argument("checkpoint")
    parser.add_argument("images", nargs="+")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", type=Path)
    parser.add_argument("--beam", type=int, dest="beam_size")
    parser.add_argument("--length-penalty", type=float)
    parser.add_argument("--max-length", type=int)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--consensus", type=int)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    names = ("beam_size", "length_penalty", "max_length", "temperature", "top_k")
    search = {name: value for name in names if (value := getattr(given, name)) is not None}
    return caption(given.checkpoint, given.images, given.out, given.show, search, given.seed, given.consensus)


if __name__ == "__main__":
    main()
