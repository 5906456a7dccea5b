"""The base class of captioners: loss, scores of generated captions, checkpoints, processes, and overfitting."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.vocabulary import split_words
from modules import CaptionLSTM, CaptionRNN, CaptionTransformer
from modules.caption_metrics.bleu import BLEU
from modules.caption_metrics.cider import CIDEr
from modules.caption_metrics.rouge import ROUGE
from modules.captioning.captioner import Captioner
from tests.helpers import trainer_of
from tests.modules.base.test_classifier import Memory
from tests.modules.captioning.captioning import WORDS, random_captions, softmax

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")

SHAPE = (4, 3)
REFERENCES = [
    ["a red circle left of a blue square", "a blue square right of a red circle"],
    ["a blue circle", "A blue circle."],
    ["red square"],
    ["a square left of a red square", "two squares"],
]


class Captions(Dataset[tuple[Tensor, Tensor, list[str]]]):
    """Images with references `REFERENCES[i % 4]` for image i, whose features are those of i % 4 plus noise."""

    def __init__(self, images: int) -> None:
        generator = torch.Generator().manual_seed(0)
        kinds = torch.randn(len(REFERENCES), *SHAPE, generator=generator)
        self.inputs = kinds[torch.arange(images) % len(REFERENCES)]
        self.inputs = self.inputs + 0.1 * torch.randn(images, *SHAPE, generator=generator)
        ids = {word: i for i, word in enumerate(WORDS)}
        self.words = torch.zeros(images, 12, dtype=torch.int64)
        for row, i in zip(self.words, range(images), strict=True):
            reference = [ids.get(word, 3) for word in split_words(REFERENCES[i % len(REFERENCES)][0])]
            row[: len(reference) + 2] = torch.tensor([1, *reference, 2])

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, list[str]]:
        return self.inputs[i], self.words[i], REFERENCES[i % len(REFERENCES)]


def collate(samples: list[tuple[Tensor, Tensor, list[str]]]) -> tuple[Tensor, Tensor, list[list[str]]]:
    inputs, words, references = zip(*samples, strict=True)
    return torch.stack(inputs), torch.stack(words), list(references)


def training_pairs(samples: list[tuple[Tensor, Tensor, list[str]]]) -> tuple[Tensor, Tensor]:
    return collate(samples)[:2]


def loader(images: int, batch_size: int, training: bool = False) -> DataLoader[Any]:
    return DataLoader(Captions(images), batch_size, collate_fn=training_pairs if training else collate)


def topics(**settings: Any) -> list[Captioner]:
    torch.manual_seed(0)
    return [
        CaptionRNN(SHAPE, WORDS, 32, **settings),
        CaptionLSTM(SHAPE, WORDS, 32, **settings),
        CaptionLSTM(SHAPE, WORDS, 32, attention=False, **settings),
        CaptionTransformer(SHAPE, WORDS, 32, 1, 2, **settings),
    ]


IDS = ["rnn", "attention", "lstm", "transformer"]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_a_mean_over_words_and_ends(smoothing: float) -> None:
    torch.manual_seed(0)
    model = CaptionLSTM(SHAPE, WORDS, 8, label_smoothing=smoothing)
    inputs, words = torch.randn(5, *SHAPE), random_captions(5, 6)
    log_probs = np.log(softmax(model(inputs, words[:, :-1]).detach().double().numpy()))
    for mode, epsilon in ((True, smoothing), (False, 0.0)):
        model.train(mode)
        losses = []
        for row, caption in zip(log_probs, words[:, 1:].tolist(), strict=True):
            for scores, word in zip(row, caption, strict=True):
                if word != 0:
                    target = np.full(len(WORDS), epsilon / len(WORDS))
                    target[word] += 1 - epsilon
                    losses.append(-(target * scores).sum())
        assert model.training_step((inputs, words), 0).item() == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("model", topics(), ids=IDS)
def test_more_padding_changes_nothing(model: Captioner) -> None:
    model = model.double()
    inputs, words = torch.randn(5, *SHAPE, dtype=torch.float64), random_captions(5, 6)
    padded = torch.cat([words, torch.zeros(5, 3, dtype=torch.int64)], 1)
    gradients = []
    for caption in (words, padded):
        model.zero_grad()
        loss = model.training_step((inputs, caption), 0)
        loss.backward()
        gradients.append([loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for short, long in zip(*gradients, strict=True):
        torch.testing.assert_close(short, long, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("model", topics(), ids=IDS)
def test_every_parameter_learns(model: Captioner) -> None:
    model.training_step((torch.randn(5, *SHAPE), random_captions(5, 6)), 0).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_scores_are_those_of_the_captions_that_the_model_generates(tmp_path: Path) -> None:
    """10 images in batches of 4, 4 and 2; validation decodes greedily, the test with the beam."""
    torch.manual_seed(3)
    model = CaptionLSTM(SHAPE, WORDS, 16, beam_size=4, length_penalty=0.5, max_length=9)
    trainer = trainer_of(tmp_path, max_epochs=60)
    trainer.fit(model, loader(10, 5, training=True))  # enough for some captions to be right, and some wrong
    data = Captions(10)
    references = [REFERENCES[i % 4] for i in range(10)]
    for split, beam, logged in (
        ("val", 1, trainer.validate(model, loader(10, 4), verbose=False)[0]),
        ("test", 4, trainer.test(model, loader(10, 4), verbose=False)[0]),
    ):
        captions = model.caption(data.inputs, beam_size=beam)
        exact = [text in map(str.lower, texts) for text, texts in zip(captions, references, strict=True)]
        expected = {"exact_match": sum(exact) / 10}
        assert 0 < expected["exact_match"] < 1
        for name, metric in (("cider", CIDEr()), ("rouge_l", ROUGE())):
            metric.update(captions, references)
            expected[name] = float(metric.compute())
        bleu = BLEU()
        bleu.update(captions, references)
        expected |= {f"bleu{n}": float(value) for n, value in enumerate(bleu.compute(), 1)}
        model.eval()
        expected["loss"] = model.loss(model(data.inputs, data.words[:, :-1]), data.words[:, 1:]).item()
        for name, value in expected.items():
            assert logged[f"{split}/{name}"] == pytest.approx(value, rel=1e-5), name
    assert logged["test/images"] == 10
    assert len(logged) == 9


def test_exact_match_ignores_only_case_and_punctuation(tmp_path: Path) -> None:
    class FixedCaptions(CaptionRNN):
        def _generate(self, memory: Any, *_: Any) -> list[str]:
            return ["a blue circle", "a blue", "a blue circle blue"][: len(memory[0])]

    class Three(Captions):
        def __getitem__(self, i: int) -> tuple[Tensor, Tensor, list[str]]:
            return self.inputs[i], self.words[i], ["Nothing.", "A blue   CIRCLE!"]

    logged = trainer_of(tmp_path).validate(
        FixedCaptions(SHAPE, WORDS, 8), DataLoader(Three(3), 3, collate_fn=collate), verbose=False
    )
    assert logged[0]["val/exact_match"] == pytest.approx(1 / 3)


def test_two_processes_give_the_scores_of_one(tmp_path: Path) -> None:
    """And train to the same weights, although their batches of 2 captions have different numbers of words."""
    one, two = (CaptionLSTM(SHAPE, WORDS, 16, beam_size=2) for _ in range(2))
    two.load_state_dict(one.state_dict())
    alone = trainer_of(tmp_path, max_epochs=3)
    alone.fit(one, loader(4, 4, training=True))
    pair = trainer_of(tmp_path, max_epochs=3, devices=2, strategy="ddp_fork")
    pair.fit(two, loader(4, 2, training=True))
    for name, weight in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], weight, rtol=1e-4, atol=1e-5, msg=name)
    two.load_state_dict(one.state_dict())
    expected = alone.test(one, loader(12, 3), verbose=False)[0]
    found = pair.test(two, loader(12, 3), verbose=False)[0]
    assert expected.keys() == found.keys()
    assert found == pytest.approx(expected, rel=1e-6)
    assert found["test/images"] == 12


@pytest.mark.parametrize("model", topics(), ids=IDS)
def test_overfitted_captions_are_generated_word_for_word(model: Captioner, tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, max_epochs=150)
    model.configure_optimizers = lambda: torch.optim.Adam(model.parameters(), 1e-2)  # type: ignore[method-assign]
    trainer.fit(model, loader(4, 4, training=True))
    captions = model.caption(Captions(4).inputs)
    assert captions == [
        "a red circle left of a blue square",
        "a blue circle",
        "red square",
        "a square left of a red square",
    ]
    assert trainer.callback_metrics["train/loss"] < 0.03


def test_train_loss_is_a_mean_over_words_since_the_last_log(tmp_path: Path) -> None:
    """Batches of 3 and 1 captions, of 20 and 10 words."""
    torch.manual_seed(0)
    model, memory = CaptionRNN(SHAPE, WORDS, 8), Memory()
    data = Captions(4)
    model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), 0.0)  # type: ignore[method-assign]
    expected = model.loss(model(data.inputs, data.words[:, :-1]), data.words[:, 1:]).item()
    trainer = trainer_of(tmp_path, max_epochs=1, logger=memory, log_every_n_steps=2)
    trainer.fit(model, loader(4, 3, training=True))
    assert list(memory.of("train/loss").values()) == [pytest.approx(expected, rel=1e-5)]


def test_a_checkpoint_needs_no_other_file(tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("red " + " ".join(["0.5"] * 16) + "\n")
    model = CaptionTransformer(SHAPE, WORDS, 16, 1, 2, word_vectors=str(vectors))
    trainer = trainer_of(tmp_path, max_epochs=1)
    trainer.fit(model, loader(4, 2, training=True))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    vectors.unlink()  # the checkpoint has the weights
    loaded = CaptionTransformer.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    inputs = torch.randn(6, *SHAPE)
    assert loaded.vocabulary == WORDS
    assert loaded.caption(inputs, beam_size=3) == model.caption(inputs, beam_size=3)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            [*WORDS[:5], "green", *WORDS[6:]],
            "has 12 words and the model's 12; word 5 is 'red' there and 'green' in the model",
        ),
        ([*WORDS, "green"], "has 12 words and the model's 13; use the data"),
    ],
)
def test_a_checkpoint_of_other_words_is_refused(tmp_path: Path, words: list[str], sentence: str) -> None:
    trainer = trainer_of(tmp_path, max_epochs=1)
    trainer.fit(CaptionRNN(SHAPE, WORDS, 8), loader(4, 2, training=True))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=sentence):
        CaptionRNN.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True, vocabulary=words)


def test_data_of_other_words_is_refused(tmp_path: Path) -> None:
    from datamodules import ShapeCaptions

    data = ShapeCaptions(num_train=20, num_test=10)
    model = CaptionRNN((3, 48, 48), [*WORDS], 8, channels=[4])
    with pytest.raises(ValueError, match=r"^The data's vocabulary has \d+ words and the model's 12; word 5 is 'large'"):
        trainer_of(tmp_path).validate(model, data, verbose=False)


def test_words_beyond_the_vocabulary_are_refused() -> None:
    model = CaptionRNN(SHAPE, WORDS, 8)
    with pytest.raises(ValueError, match="The largest word id is 12, but the vocabulary has 12 words"):
        model(torch.zeros(1, *SHAPE), torch.tensor([[1, 12]]))


def test_captioning_leaves_a_model_in_training() -> None:
    model = CaptionTransformer(SHAPE, WORDS, 16, 1, 2, dropout=0.5).train()
    inputs = torch.randn(6, *SHAPE)
    assert model.caption(inputs) == model.caption(inputs)  # without dropout
    assert model.training
    torch.manual_seed(0)
    drawn = [tuple(model.caption(inputs, temperature=3.0)) for _ in range(3)]
    assert len(set(drawn)) == 3
    assert model.caption(inputs, top_k=1) == model.caption(inputs, beam_size=1)
    assert all(len(said.split()) <= 2 for said in model.caption(inputs, max_length=2, temperature=3.0))
    assert model.predict_step((inputs, torch.arange(6)), 0) == model.caption(inputs)


@pytest.mark.parametrize(
    ("vocabulary", "sentence"),
    [
        (["a", "b", "c", "d", "e"], "begins with 'a', 'b', 'c', 'd'; its first four words must be <pad>, <start>"),
        ([], "begins with nothing"),
        (WORDS[:4], "contains only the four special words"),
        ([*WORDS, "red"], "contains 'red' more than once"),
    ],
)
def test_refused_vocabularies(vocabulary: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        CaptionRNN(SHAPE, vocabulary)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"width": 0}, "width is 0; it must be at least 1"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0; it must be in \\[0, 1\\)"),
        ({"beam_size": 0}, "beam_size is 0; it must be at least 1"),
        ({"max_length": 0}, "max_length is 0; it must be at least 1 word"),
        ({"length_penalty": -1.0}, "length_penalty is -1.0; it must be at least 0"),
        ({"word_vectors": "no.txt"}, "word_vectors is 'no.txt', and there is no such file"),
    ],
)
def test_refusals(settings: dict[str, object], sentence: str) -> None:
    for topic in (CaptionRNN, CaptionLSTM, CaptionTransformer):
        with pytest.raises(ValueError, match=sentence):
            topic(SHAPE, WORDS, **settings)  # type: ignore[arg-type]
