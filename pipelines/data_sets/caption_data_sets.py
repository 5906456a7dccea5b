"""Downloads and verifies caption data sets."""

import warnings
from pathlib import Path

from common.machine.cores import usable_cores
from pipelines.console.formatting import count

_NAMED = 10  # unreadable images that are named; the others are counted
COCO_YEARS = {"coco": 2017, "coco2014": 2014}  # by name on the command line


def download(name: str, root: Path) -> None:
    """Prints the size of the missing files of COCO and downloads them.

    Raises:
        ValueError: If there is not enough disk space, no mirror has the right files, or the folder can't be written.
    """
    from datamodules.captions.coco_download import download_coco

    download_coco(root, COCO_YEARS[name])


def verify(name: str, root: Path, sizes: tuple[int, int]) -> tuple[list[str], str]:
    """Reads every caption and decodes every image.

    Args:
        name: Name of the data set.
        root: Folder of the data sets.
        sizes: Official numbers of training and test images.

    Returns:
        Lines with the counts and what can't be used, and which images can't be read, empty if all can be.

    Raises:
        ValueError: If files are missing or damaged.
    """
    from datamodules import CaptionDataModule, COCOCaptions, ShapeCaptions
    from datamodules.captions.caption_data_module import Split

    data: CaptionDataModule
    if name in COCO_YEARS:
        # A few pixels are enough to see whether an image can be decoded.
        year = COCO_YEARS[name]
        data = COCOCaptions(str(root), year, image_size=8, min_count=1, num_workers=usable_cores())
    else:
        data = ShapeCaptions()
    parts: dict[str, list[Split]] = {"train": ["train", "val"], "test": ["test"]}
    lines, unreadable = [name], list[str]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is skipped is counted below
        for (part, splits), official in zip(parts.items(), sizes, strict=True):
            captions = [of_image for split in splits for of_image in data.captions(split)]
            verdict = "the official count" if len(captions) == official else f"not the official count of {official:,}"
            texts = count(sum(map(len, captions)), "caption")
            lines.append(f"  {part:<5}  {count(len(captions), 'image')} with {texts}: {verdict}")
        if isinstance(data, COCOCaptions):
            for split in ("train", "val", "test"):
                for _ in data.evaluation_dataloader(split) if len(data.rows(split)) else ():
                    pass
            data.left_out["images that can't be read"] = data.num_unreadable
            unreadable = [str(file) for file in data.unreadable_files]
    lines += [f"  left out  {reason}: {number:,}" for reason, number in sorted(data.left_out.items()) if number]
    if not unreadable:
        return lines, ""
    named = ", ".join(unreadable[:_NAMED]) + (f" and {len(unreadable) - _NAMED:,} more" * (len(unreadable) > _NAMED))
    return lines, f"{count(len(unreadable), 'image')} can't be read, {named}"
