"""Downloads and verifies the data sets of captions, for `pipelines/data.py`."""

import os
import warnings
from pathlib import Path

COCO_YEARS = {"coco": 2017, "coco2014": 2014}  # by the name on the command line


def download(name: str, root: Path) -> None:
    """Downloads what is missing of COCO, after saying how much that is.

    Raises:
        ValueError: too little space, no mirror that delivers the right files, or a folder that can't be written.
    """
    from datamodules.captions.coco_download import download_coco

    download_coco(root, COCO_YEARS[name])


def verify(name: str, root: Path, sizes: tuple[int, int]) -> str:
    """Reads every caption and decodes every image: what is in a data set, and what of it can't be used, a line each.

    Args:
        name: of the data set.
        root: folder of the data files.
        sizes: the official numbers of training and test images.

    Raises:
        ValueError: files that are missing or damaged.
    """
    from datamodules import CaptionDataModule, COCOCaptions, ShapeCaptions
    from datamodules.captions.caption_data_module import Split

    data: CaptionDataModule
    if name in COCO_YEARS:
        # Decoded to a few pixels: what counts is whether it can be done.
        workers = len(os.sched_getaffinity(0))
        data = COCOCaptions(str(root), COCO_YEARS[name], image_size=8, min_count=1, num_workers=workers)
    else:
        data = ShapeCaptions()
    parts: dict[str, list[Split]] = {"train": ["train", "val"], "test": ["test"]}
    lines = [name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is skipped is counted below
        for (part, splits), official in zip(parts.items(), sizes, strict=True):
            captions = [texts for split in splits for texts in data.captions(split)]
            verdict = "the official count" if len(captions) == official else f"not the official count of {official:,}"
            count = sum(map(len, captions))
            lines.append(f"  {part:<5}  {len(captions):,} images with {count:,} captions: {verdict}")
        if isinstance(data, COCOCaptions):
            for split in ("train", "val", "test"):
                for _ in data.evaluation_dataloader(split) if len(data.rows(split)) else ():
                    pass
            data.left_out["images that can't be read"] = data.num_unreadable
    lines += [f"  left out  {count:,} {reason}" for reason, count in sorted(data.left_out.items()) if count]
    return "\n".join(lines)
