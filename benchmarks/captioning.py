"""Speed of captioning: words per second of training the Transformer, and captions per second of beam search.

    python -m benchmarks.captioning [--root data] [--rounds R] [--steps N] [--images N]

**Training.** The bare loop is what one writes without this project: nn.TransformerDecoder of the same size (width 256,
3 layers, 4 heads, 1,024 hidden units, pre-norm) with sinusoidal positions, a mask, AdamW and clipping, on shuffled
batches of 64 captions padded to the longest. It has no metrics, logs or checkpoints; our side has all of
`pipelines.train fit`. `bare loop, our batches` is the same loop on our batches of captions of similar length, which
leaves the difference of model and Trainer. Both get random grid features (49, 320) and captions of random words whose
lengths are distributed as in COCO. Counted are words and END, not padding.

**Beam search** with a beam of 3 to captions of exactly 20 words, with the key-value cache, and without, where each step
computes all words so far again. Both must return the same captions.

**Padding**: fraction of PAD among the targets, in batches of similar length and in shuffled ones, for the captions of
COCO in `root`, if there are any, and for random words.

One thread, CPU time, alternating rounds. `caption_metrics.py` measures the metrics.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from benchmarks.timing import Clock, Comparison, Rate, Variant, one_thread
from benchmarks.trainer_overhead import Stopwatch, tracked
from callbacks import TrainingHealth
from common.vocabulary import END, PAD
from datamodules import COCOCaptions
from datamodules.captions.caption_batches import StoredInputs
from datamodules.captions.caption_data_module import CaptionDataModule, OfficialCaptions
from modules import CaptionTransformer, WarmupCosine
from modules.captioning.caption_transformer import positional_encoding
from modules.captioning.decoding import Memory, State, beam_search
from pipelines.checkpoints.checkpoint_io import AtomicCheckpointIO
from pipelines.console.lightning_messages import quiet
from pipelines.run.resume import RandomState
from pipelines.run.schedule_length import ScheduleLength, configure_optimizers

BARE, GROUPED, OURS = "bare loop", "bare loop, our batches", "this project"
CACHED, UNCACHED = "beam of 3, key-value cache", "beam of 3, no cache"
WIDTH, LAYERS, HEADS, HIDDEN, DROPOUT = 256, 3, 4, 1024, 0.1
GRID = (49, 320)  # positions and features of EfficientNet-Lite0 on images of 224 pixels
BATCH_SIZE, WORDS, BEAM, LENGTH = 64, 5000, 3, 20
WARM_UP = 10  # steps before timing starts, as in Stopwatch


class RandomCaptions(CaptionDataModule):
    """Random grid features with captions of random words; lengths as in COCO, 10.5 words on average."""

    input_shape = GRID

    def __init__(self, images: int) -> None:
        super().__init__(batch_size=BATCH_SIZE, max_length=LENGTH, val_fraction=0.01)
        self.number = images

    def read(self, train: bool) -> OfficialCaptions:
        generator = torch.Generator().manual_seed(0)
        lengths = (8 + torch.empty(self.number).exponential_(0.4, generator=generator)).long().clamp(max=LENGTH)
        # Ranks from a distribution close to Zipf's law, as in natural language.
        words = (WORDS ** torch.rand(self.number, LENGTH, generator=generator)).long()
        rows = zip(words.tolist(), lengths.tolist(), strict=True)
        return OfficialCaptions([[" ".join(f"w{word}" for word in row[:length])] for row, length in rows])

    def inputs(self, split: str, training: bool) -> StoredInputs:
        pool = torch.randn(256, *GRID, generator=torch.Generator().manual_seed(1)).half()
        return StoredInputs(pool[torch.arange(len(self.rows("train" if split == "train" else "val"))) % 256])

    def evaluation_images(self, split: str, indices: Tensor) -> Tensor:
        return torch.zeros(len(indices), 3, 1, 1)  # there are none


class Bare(nn.Module):
    """A captioner of torch's own layers."""

    positions: Tensor

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.project = nn.Linear(GRID[1], WIDTH)
        self.embedding = nn.Embedding(vocabulary, WIDTH)
        layer = nn.TransformerDecoderLayer(WIDTH, HEADS, HIDDEN, DROPOUT, batch_first=True, norm_first=True)
        self.decoder = nn.TransformerDecoder(layer, LAYERS, nn.LayerNorm(WIDTH))
        self.output = nn.Linear(WIDTH, vocabulary)
        self.register_buffer("positions", positional_encoding(torch.arange(LENGTH + 2.0), WIDTH))

    def forward(self, features: Tensor, words: Tensor) -> Tensor:
        x = self.embedding(words) * WIDTH**0.5 + self.positions[: words.shape[1]]
        mask = nn.Transformer.generate_square_subsequent_mask(words.shape[1])
        logits: Tensor = self.output(self.decoder(x, self.project(features), tgt_mask=mask, tgt_is_causal=True))
        return logits


class Counter(Stopwatch):
    """Also counts the words of the timed steps."""

    def __init__(self, steps: int) -> None:
        super().__init__(steps)
        self.words = 0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if self.first <= batch_idx < self.last:
            self.words += int((batch[1][:, 1:] != PAD).sum())


def bare(data: RandomCaptions, steps: int, grouped: bool) -> Rate:
    """Measures the loop that one would write without this project."""
    model = Bare(len(data.vocabulary)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    loader = data.train_dataloader()
    if not grouped:
        loader.lengths = None
    batches = iter(loader)
    words, started = 0, Clock.now()
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            words, started = 0, Clock.now()
        features, tokens = next(batches)
        logits = model(features.float(), tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=PAD)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        words += int((tokens[:, 1:] != PAD).sum())
    return Rate.of(words, Clock.now() - started)


def ours(data: RandomCaptions, steps: int) -> Rate:
    """Measures the Trainer as `pipelines.train fit` builds it."""
    model = captioner(data.vocabulary)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    configured = configure_optimizers(model, optimizer, WarmupCosine(optimizer))
    model.configure_optimizers = lambda: configured  # type: ignore
    counter = Counter(steps)
    with TemporaryDirectory() as folder, tracked(Path(folder)) as loggers:
        trainer = L.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=1,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            default_root_dir=folder,
            enable_model_summary=False,
            enable_progress_bar=False,
            gradient_clip_val=1.0,
            logger=loggers,
            callbacks=[
                TrainingHealth(),
                RandomState(),
                ScheduleLength(),
                ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False),
                counter,
            ],
        )
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        trainer.fit(model, data)
    data.trainer = None
    return Rate.of(counter.words, counter.time)


def captioner(vocabulary: list[str]) -> CaptionTransformer:
    return CaptionTransformer(
        GRID, vocabulary, WIDTH, LAYERS, HEADS, HIDDEN, dropout=DROPOUT, tie_embeddings=False, max_length=LENGTH
    )


class WithoutCache:
    """A decoder for `beam_search` without key-value cache: its state is the words so far."""

    def __init__(self, model: CaptionTransformer) -> None:
        self.model = model

    def start(self, memory: Memory) -> State:
        return (torch.empty(len(memory[0]), 0, dtype=torch.int64),)

    def step(self, words: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        words = torch.cat([state[0], words[:, None]], 1)
        return self.model.forward_decoder(memory, words)[:, -1], (words,)


def decoding(images: int, rounds: int) -> Comparison:
    """Compares beam search with and without the key-value cache."""
    torch.manual_seed(0)
    model = captioner(["<pad>", "<start>", "<end>", "<unk>", *(f"w{i}" for i in range(WORDS))]).eval()
    model.output.bias.data[END] = -1e4  # END is never chosen, so all captions have the full length
    with torch.no_grad():
        memory = model.encode(torch.randn(images, *GRID))
    captions: dict[str, Tensor] = {}

    def measure(name: str, decoder: Any) -> Rate:
        started = Clock.now()
        captions[name], _ = beam_search(decoder, memory, LENGTH, BEAM)
        return Rate.of(images, Clock.now() - started)

    decoders: dict[str, Any] = {CACHED: model, UNCACHED: WithoutCache(model)}
    variants = {name: Variant(partial(measure, name, decoder)) for name, decoder in decoders.items()}
    comparison = Comparison(variants, rounds)
    if not torch.equal(captions[CACHED], captions[UNCACHED]):
        raise RuntimeError("Beam search returns different captions with and without the key-value cache.")
    return comparison


def padding(data: CaptionDataModule, grouped: bool) -> float:
    """Returns the fraction of PAD in the batches of an epoch, grouped by length or in random order."""
    loader = data.train_dataloader()
    assert loader.lengths is not None
    if grouped:
        return loader.padding()
    shuffled = loader.lengths[torch.randperm(len(loader.lengths), generator=torch.Generator().manual_seed(0))]
    batches = shuffled.split(data.batch_size)[: len(loader)]
    return 1 - sum(int(batch.sum()) for batch in batches) / sum(len(batch) * int(batch.max()) for batch in batches)


def print_padding(root: str, random: RandomCaptions) -> None:
    sets: dict[str, CaptionDataModule] = {"random words": random}
    if (Path(root) / "coco" / "annotations").is_dir():
        sets = {"COCO": COCOCaptions(root=root, image_size=32, val_fraction=0.0, min_count=1)} | sets
    print(f"\n{'padding':<20}{'captions':>9}{'batch':>7}   grouped   shuffled")
    for name, data in sets.items():
        data.setup("fit")
        for data.batch_size in (32, 64, 128):
            lengths = data.train_dataloader().lengths
            assert lengths is not None
            shares = [f"{padding(data, grouped):8.1%}" for grouped in (True, False)]
            print(f"{name:<20}{len(lengths):>9,}{data.batch_size:>7}  {shares[0]}  {shares[1]}", flush=True)
        data.batch_size = BATCH_SIZE


def main(arguments: Sequence[str] | None = None) -> dict[str, Comparison]:
    parser = argparse.ArgumentParser(description="Words per second in training, captions per second of beam search.")
    parser.add_argument("--root", default="data", help="folder of the data sets, with COCO")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="training steps per measurement")
    parser.add_argument("--images", type=int, default=16, help="batch size of beam search")
    options = parser.parse_args(arguments)
    quiet()
    data = RandomCaptions(BATCH_SIZE * (WARM_UP + options.steps + 40))
    data.setup("fit")
    functions: dict[str, Callable[[], Rate]] = {
        BARE: partial(bare, data, options.steps, grouped=False),
        GROUPED: partial(bare, data, options.steps, grouped=True),
        OURS: partial(ours, data, options.steps),
    }
    print_padding(options.root, data)
    with one_thread():
        training = Comparison({name: Variant(function) for name, function in functions.items()}, options.rounds)
        print(f"\n{'training':<34}{'words/s':>9}   of the bare loop        of the {GROUPED}")
        for name in functions:
            against = [str(training.ratio(name, reference)) for reference in (BARE, GROUPED)]
            print(f"{name:<34}{training.rate(name):>9,.0f}   {against[0]:<24}{against[1]}", flush=True)
        print(f"\n{options.images} captions of {LENGTH} words{'':<13}captions/s   times as fast")
        search = decoding(options.images, options.rounds)
        for name in search.variants:
            print(f"{name:<34}{search.rate(name):>9,.2f}   {search.ratio(name, UNCACHED)}")
    return {"training": training, "search": search}


if __name__ == "__main__":
    main()
