"""Where the official files of MNIST and CIFAR-10 lie, also under the names that programs give them while unpacking."""

from pathlib import Path


def find_mnist_file(folder: Path, name: str) -> Path | None:
    """Returns the path of one of MNIST's files, unpacked or not; None if it is in no usual place.

    7-Zip and many file managers unpack `train-images-idx3-ubyte.gz` to `train-images.idx3-ubyte`, the name that is
    stored in it, or into a folder; users often put the files into the folder above `raw`.

    Args:
        folder: The folder `raw` of the data set.
        name: Official name without `.gz`.
    """
    spellings = (name, name.replace("-idx", ".idx"))
    for place in (folder, folder.parent):
        inside = [place / outer for outer in (*spellings, *(f"{spelling}.gz" for spelling in spellings))]
        for parent in (place, *inside):
            for spelling in spellings:
                for file in (parent / spelling, parent / f"{spelling}.gz"):
                    if file.is_file():
                        return file
    return None


def cifar10_folder(root: Path) -> Path:
    """Returns the folder of CIFAR-10's batches: the one that has them, else the official one.

    Programs that unpack an archive into a folder of its name make `cifar-10-python/cifar-10-batches-py`.
    """
    official = root / "cifar-10-batches-py"
    inside = root / "cifar-10-python"
    places = (official, inside / official.name, inside, official / official.name)
    return next((place for place in places if (place / "test_batch").is_file()), official)
