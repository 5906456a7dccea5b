"""Makes docs/pictures/gan_density.gif, gan_density.png and gan_accuracy.png from a finished run of gan_1d.

python docs/draw/gan_density.py logs/gan_1d/RUN
"""

import sys
from pathlib import Path

from PIL import Image

_PICTURES = Path(__file__).resolve().parents[1] / "pictures"
_EPOCHS = (1, 2, 3, 4, 6, 8, 9, 10, 11, 12, 14, 17, 20, 25, 30, 40)
_STILL = (1, 3, 10, 40)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    pictures = Path(sys.argv[1]) / "pictures"
    files = sorted((pictures / "density").glob("*.png"))
    frames = [Image.open(files[epoch - 1]).convert("RGB") for epoch in _EPOCHS]
    palette = frames[-1].quantize(32, dither=Image.Dither.NONE)
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    out, durations = _PICTURES / "gan_density.gif", [600] * (len(indexed) - 1) + [3000]
    indexed[0].save(out, save_all=True, append_images=indexed[1:], duration=durations, loop=0, optimize=True)
    stills = [Image.open(files[epoch - 1]).convert("RGB") for epoch in _STILL]
    width, height = stills[0].size
    sheet = Image.new("RGB", (2 * width, 2 * height))
    for index, still in enumerate(stills):
        sheet.paste(still, (index % 2 * width, index // 2 * height))
    sheet.quantize(64, dither=Image.Dither.NONE).save(_PICTURES / "gan_density.png", optimize=True)
    accuracy = sorted((pictures / "discriminator_accuracy").glob("*.png"))[-1]
    (_PICTURES / "gan_accuracy.png").write_bytes(accuracy.read_bytes())
    print(f"{out.name}: {out.stat().st_size // 1000} KB")


if __name__ == "__main__":
    main()
