"""Captions image files with a trained captioner.

python -m pipelines.caption logs/caption_lstm/RUN photos/ --out captions.json
python -m pipelines.caption RUN dog.jpg cat.jpg --beam 3 --show pictures/     # with captions and attention maps
python -m pipelines.caption RUN photos/ --temperature 0.7 --top-k 20 --seed 1 # drawn at random
python -m pipelines.caption RUN photos/ --consensus 20                        # the one of 20 draws that most agree with

The file is in COCO's format for results, which its evaluation server and pycocotools take: a list of objects with
`image_id`, the number at the end of the file's name (000000391895.jpg and COCO_val2014_000000391895.jpg are 391895) or,
where names have none or share one, the image's place from 0, and `caption`; `file_name` is added.

Source: https://cocodataset.org/#format-results
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError
from pipelines.console.option_parser import OptionParser
from pipelines.console.run_command import run_command
from pipelines.run.run_folder import as_typed, find_run

_SHOWN = (3, 224, 224)  # what the model saw was a square too


def usage() -> str:
    """The help."""
    return "\n".join(
        [
            "usage: python -m pipelines.caption RUN|CHECKPOINT IMAGE|FOLDER… [--out FILE] [--show FOLDER] [OPTIONS]",
            "",
            "  --out FILE            captions in COCO's format for results",
            "  --show FOLDER         a picture for each image: its caption, and where the model looked for each word",
            "  --beam K              the best of a beam of K, 1 is greedy; default: the model's beam_size",
            "  --length-penalty A    of the beam; default: the model's",
            "  --max-length N        words at most; default: the model's",
            "  --temperature T       draw words at random instead; --top-k K among the K most probable alone",
            "  --consensus N         draw N captions of each image and take the one that is most like the others",
            "  --seed N              of the draws; default 0",
        ]
    )


def image_ids(files: Sequence[Path]) -> list[int]:
    """COCO's number of each image, from its name; their places from 0 where a name has none or two share one."""
    numbers = [re.search(r"(\d+)$", file.stem) for file in files]
    ids = [int(number[1]) for number in numbers if number]
    return ids if len(set(ids)) == len(files) else list(range(len(files)))


def _batches(data: Any) -> Iterator[tuple[Any, Any]]:
    """Preprocessed inputs (B, ...) of the image files, and their places in `data.image_files` (B,)."""
    from tqdm import tqdm

    loader = data.predict_dataloader()
    for batch in tqdm(loader, desc="captioning", unit="batch", delay=2, disable=None, leave=False):
        yield data.on_after_batch_transfer(batch, 0)


def caption(
    path: str,
    images: list[str],
    out: Path | None,
    show: Path | None,
    search: dict[str, Any],
    seed: int = 0,
    draws: int | None = None,
) -> None:
    """Captions the images, prints the captions, and writes what was asked for.

    Args:
        path: a checkpoint, or a run's folder.
        images: image files and folders of them.
        out: the JSON file to write, if any.
        show: the folder of pictures to write, if any.
        search: settings of the model's `caption`.
        seed: of captions that are drawn at random.
        draws: how many captions of each image to draw and choose from by consensus; None writes one.

    Raises:
        ValueError: a checkpoint of no captioner, image files that can't be read, or settings out of range.
        OSError: a file can't be written.
    """
    run, checkpoint = find_run(path)
    if draws is not None:
        if draws < 1:
            raise UserError(f"--consensus is {draws}; give at least 1 caption to choose from, such as 20.")
        search = {"temperature": 1.0, **search}
    if out is not None and out.is_dir():
        raise UserError(f"{out} is a folder; give --out the name of a file in it.")
    if show is not None:
        show.mkdir(parents=True, exist_ok=True)  # fails here rather than after the work

    import torch  # seconds that a typing error need not wait for
    from PIL import Image

    from callbacks.caption_pictures import attention_sheet, caption_sheet, stacked
    from callbacks.generated_captions import ShowsAttention, WritesCaptions, attended
    from datamodules.images.image_files import read_images
    from pipelines.run.restore import restore, untrained

    model, data = untrained(run)
    if not isinstance(model, WritesCaptions):
        raise UserError(f"{checkpoint} is a checkpoint of {type(model).__name__}, which writes no captions.")
    restore(model, data, checkpoint)
    data.images = images
    torch.manual_seed(seed)
    attention = isinstance(model, ShowsAttention) and model.attends and "temperature" not in search
    said: list[str] = []
    with torch.inference_mode():
        chosen = None if draws is None else _by_consensus(model, data, search, draws)
        for inputs, places in _batches(data):
            if chosen is None:
                captions = model.caption(inputs, **search)
            else:
                captions = [chosen[place] for place in places.tolist()]
            said += captions
            for row, (place, text) in enumerate(zip(places.tolist(), captions, strict=True)):
                file = data.image_files[place]
                print(f"{file}  {text}", flush=True)
                if show is None:
                    continue
                pixels = read_images([file], _SHOWN)[0] / 255
                sheets = [caption_sheet(pixels[None], [text], [[]])]
                if attention:
                    sheets += [
                        attention_sheet(pixels, *seen) for seen in attended(model, inputs[row : row + 1], **search)
                    ]
                Image.fromarray(stacked(sheets)).save(show / f"{place:05d}_{file.stem}.png")
    files = data.image_files
    if show is not None:
        print(f"{len(files):,} pictures in {as_typed(show)}")
    if out is not None:
        _write(out, files, said)
        print(f"{len(files):,} captions in {as_typed(out)}")


def _by_consensus(model: Any, data: Any, search: dict[str, Any], draws: int) -> dict[int, str]:
    """The caption of each image, by its place; all images are read first, since they say which words are rare."""
    from modules.captioning.consensus import consensus

    drawn: dict[int, tuple[str, ...]] = {}
    for inputs, places in _batches(data):
        captions = [model.caption(inputs, **search) for _ in range(draws)]
        drawn.update(zip(places.tolist(), zip(*captions, strict=True), strict=True))
    return dict(zip(drawn, consensus(list(drawn.values())), strict=True))


def _write(out: Path, files: Sequence[Path], captions: Sequence[str]) -> None:
    rows = [
        {"image_id": number, "caption": text, "file_name": file.name}
        for number, text, file in zip(image_ids(files), captions, files, strict=True)
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(rows, ensure_ascii=False, indent=1))
    temporary.replace(out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line; ends with status 2 and one sentence if it can't be carried out."""
    run_command(usage, _work, arguments)


def _work(arguments: list[str]) -> None:
    parser = OptionParser(prog="python -m pipelines.caption", add_help=False, allow_abbrev=False)
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
    caption(given.checkpoint, given.images, given.out, given.show, search, given.seed, given.consensus)


if __name__ == "__main__":
    main()
