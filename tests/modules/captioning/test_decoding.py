"""Decoding against the enumeration of all captions, against decoding without a cache, and against probabilities."""

from collections.abc import Callable
from itertools import product
from math import log

import pytest
import torch
from torch import Tensor, nn

from common.vocabulary import END, NEVER_GENERATED, PAD, START
from modules import CaptionLSTM, CaptionRNN, CaptionTransformer
from modules.captioning.captioner import Captioner
from modules.captioning.decoding import Memory, State, beam_search, greedy, sample
from tests.modules.captioning.captioning import WORDS

LONGEST = 3
TOPICS = ["rnn", "lstm", "attention", "pre-norm", "post-norm"]


class Table:
    """A decoder with a random table P(next word | last two words) for each image.

    Its memory is logits (B, V, V, V), its state the word before the last (B,).
    """

    def start(self, memory: Memory) -> State:
        return (torch.full((len(memory[0]),), START),)

    def step(self, words: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        image = torch.arange(len(memory[0])).repeat_interleave(len(words) // len(memory[0]))
        return memory[0][image, state[0], words], (words,)


class Uncached:
    """Reads all words so far again at each step: the state is the words (B, t)."""

    def __init__(self, model: Captioner) -> None:
        self.model = model

    def start(self, memory: Memory) -> State:
        return (torch.empty(len(memory[0]), 0, dtype=torch.int64),)

    def step(self, words: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        so_far = torch.cat([state[0], words[:, None]], 1)
        repeated = tuple(part.repeat_interleave(len(words) // len(part), 0) for part in memory)
        return self.model.forward_decoder(repeated, so_far)[:, -1], (so_far,)


def table(images: int, words: int, seed: int, spread: float = 2.0) -> Memory:
    """Of END and this many words, the first of them number 4."""
    generator = torch.Generator().manual_seed(seed)
    size = 4 + words
    return (spread * torch.randn(images, size, size, size, generator=generator, dtype=torch.float64),)


def log_probability(logits: Tensor, caption: tuple[int, ...]) -> float:
    """log P(w₁ … wₙ END) of one image, logits (V, V, V)."""
    total, before, last = 0.0, START, START
    for word in (*caption, END):
        allowed = [END, *range(4, len(logits))]
        scores = logits[before, last]
        total += float(scores[word] - scores[allowed].logsumexp(0))
        before, last = last, word
    return total


def all_captions(words: int, longest: int) -> list[tuple[int, ...]]:
    return [said for n in range(longest + 1) for said in product(range(4, 4 + words), repeat=n)]


def rows(captions: Tensor) -> list[tuple[int, ...]]:
    """Captions without the PAD at their ends."""
    found = []
    for caption in captions.tolist():
        length = caption.index(PAD) if PAD in caption else len(caption)
        assert all(word == PAD for word in caption[length:])
        found.append(tuple(caption[:length]))
    return found


@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.0, 2.0])
def test_a_beam_that_holds_all_finds_the_best_of_all_captions(length_penalty: float) -> None:
    memory = table(images=60, words=3, seed=0, spread=1.0)
    captions, scores = beam_search(Table(), memory, LONGEST, 3**LONGEST, length_penalty)
    lengths = set()
    for logits, found, score in zip(memory[0], rows(captions), scores.tolist(), strict=True):
        by_hand = {
            said: log_probability(logits, said) / (len(said) + 1) ** length_penalty for said in all_captions(3, LONGEST)
        }
        best = max(by_hand, key=by_hand.__getitem__)
        assert found == best
        assert score == pytest.approx(by_hand[best], rel=1e-9)
        lengths.add(len(best))
    assert len(lengths) > 1  # the penalty had something to choose among


def greedy_by_hand(logits: Tensor, longest: int) -> tuple[int, ...]:
    said: tuple[int, ...] = ()
    while len(said) < longest:
        before, last = (START, START, *said)[-2:]
        word = max([END, *range(4, len(logits))], key=lambda w: float(logits[before, last, w]))
        if word == END:
            break
        said = (*said, word)
    return said


def score_by_hand(logits: Tensor, caption: tuple[int, ...], length_penalty: float) -> float:
    return log_probability(logits, caption) / (len(caption) + 1) ** length_penalty


def beam_by_hand(logits: Tensor, longest: int, beam: int, length_penalty: float) -> tuple[int, ...]:
    """Beam search of one image, as the docstring says, over lists of (log P, words), without an early end."""
    allowed = [END, *range(4, len(logits))]
    live: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    chosen = greedy_by_hand(logits, longest)
    ended = [(score_by_hand(logits, chosen, length_penalty), chosen)]
    for length in range(longest + 1):
        candidates = []
        for total, said in live:
            before, last = (START, START, *said)[-2:]
            log_probs = logits[before, last][allowed].log_softmax(0).tolist()
            candidates += [
                (total + value, said, word)
                for word, value in zip(allowed, log_probs, strict=True)
                if length < longest or word == END
            ]
        candidates.sort(key=lambda candidate: -candidate[0])
        ended += [
            (total / (length + 1) ** length_penalty, said) for total, said, word in candidates[:beam] if word == END
        ]
        live = [(total, (*said, word)) for total, said, word in candidates if word != END][:beam]
    return max(ended)[1]


@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("beam", [2, 3, 5])
def test_a_small_beam_finds_what_it_finds_over_lists(beam: int, length_penalty: float) -> None:
    """It stops as soon as nothing better can come: the loop that never does finds the same."""
    memory = table(images=40, words=4, seed=1)
    captions, _ = beam_search(Table(), memory, 5, beam, length_penalty)
    assert rows(captions) == [beam_by_hand(logits, 5, beam, length_penalty) for logits in memory[0]]


@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("beam", [1, 2, 3, 5, 10])
def test_no_caption_scores_below_the_greedy_one(beam: int, length_penalty: float) -> None:
    """Of 240 random models each, in which a finished caption may be worse than a longer one, or greedy's be dropped."""
    for seed, spread in ((0, 1.0), (1, 2.0)):
        memory = table(images=120, words=4, seed=seed, spread=spread)
        captions, scores = beam_search(Table(), memory, 8, beam, length_penalty)
        for logits, found, score in zip(memory[0], rows(captions), scores.tolist(), strict=True):
            assert score == pytest.approx(score_by_hand(logits, found, length_penalty), rel=1e-9)
            assert score >= score_by_hand(logits, greedy_by_hand(logits, 8), length_penalty) - 1e-12


def test_no_caption_scores_below_the_greedy_one_if_words_are_equally_probable() -> None:
    """Logits of 0, 1 and 2: greedy decoding takes the first of the most probable words."""
    memory = (table(images=200, words=4, seed=9, spread=1.0)[0].clamp(-1, 1).round() + 1,)
    captions = greedy(Table(), memory, 8)
    for beam in (1, 2, 3):
        _, scores = beam_search(Table(), memory, 8, beam, 0.7)
        for logits, caption, score in zip(memory[0], rows(captions), scores.tolist(), strict=True):
            assert score >= score_by_hand(logits, caption, 0.7) - 1e-12


def test_a_wider_beam_finds_what_greedy_misses() -> None:
    memory = table(images=40, words=4, seed=1)
    narrow, wide = beam_search(Table(), memory, 5, 1)[1], beam_search(Table(), memory, 5, 5)[1]
    assert (wide >= narrow - 1e-12).all() and (wide > narrow + 1e-6).any()


@pytest.mark.parametrize("length_penalty", [0.0, 0.5, 3.0])
def test_a_beam_of_one_is_greedy(length_penalty: float) -> None:
    memory = table(images=60, words=5, seed=2)
    best, _ = beam_search(Table(), memory, 6, 1, length_penalty)
    found = rows(greedy(Table(), memory, 6))
    assert rows(best) == found
    assert {len(caption) for caption in found} > {0, 6}  # some end by themselves, others are cut


def test_greedy_takes_the_most_probable_word_at_each_step() -> None:
    memory = table(images=20, words=3, seed=3)
    assert rows(greedy(Table(), memory, 4)) == [greedy_by_hand(logits, 4) for logits in memory[0]]


def test_an_image_gets_the_same_caption_alone_and_in_a_batch() -> None:
    memory = table(images=15, words=4, seed=4)
    together = rows(beam_search(Table(), memory, 5, 3, 0.7)[0])
    alone = [rows(beam_search(Table(), (logits[None],), 5, 3, 0.7)[0])[0] for logits in memory[0]]
    assert together == alone


@pytest.mark.parametrize("method", ["greedy", "sample", "beam"])
def test_special_words_are_never_generated(method: str) -> None:
    memory = table(images=50, words=3, seed=5)
    for word in NEVER_GENERATED:
        memory[0][..., word] = 50.0  # by far the most probable, if it were not left out
    torch.manual_seed(0)
    if method == "beam":
        captions = beam_search(Table(), memory, 4, 3)[0]
    else:
        captions = greedy(Table(), memory, 4) if method == "greedy" else sample(Table(), memory, 4)
    said = {word for caption in rows(captions) for word in caption}
    assert said == {4, 5, 6}


@pytest.mark.parametrize(
    ("temperature", "top_k"), [(1.0, None), (0.5, None), (2.0, None), (1.0, 2), (0.7, 3), (1.0, 99)]
)
def test_samples_are_as_frequent_as_the_softmax_says(temperature: float, top_k: int | None) -> None:
    """Pearson's chi-squared of 20,000 first words: with 4 degrees of freedom it exceeds 18.5 once in a thousand."""
    draws = 20_000
    memory = (table(images=1, words=4, seed=6)[0].expand(draws, -1, -1, -1),)
    torch.manual_seed(0)
    words = sample(Table(), memory, 1, temperature, top_k)[:, 0]
    logits = memory[0][0, START, START, [END, 4, 5, 6, 7]] / temperature
    least = logits.sort(descending=True).values[min(top_k or 5, 5) - 1]
    expected = logits.masked_fill(logits < least, -torch.inf).softmax(0) * draws
    counts = torch.tensor([int((words == word).sum()) for word in [PAD, 4, 5, 6, 7]]).double()
    assert counts[expected == 0].sum() == 0
    wanted = expected > 0
    assert float(((counts - expected)[wanted] ** 2 / expected[wanted]).sum()) < 18.5


def test_later_words_are_drawn_given_the_earlier_ones() -> None:
    """All captions of up to two words, as often as their probabilities say; after END comes nothing."""
    draws = 20_000
    memory = (table(images=1, words=2, seed=7, spread=1.0)[0].expand(draws, -1, -1, -1),)
    torch.manual_seed(0)
    found = rows(sample(Table(), memory, 2))
    logits = memory[0][0]
    for said in all_captions(2, 1):
        expected = draws * torch.tensor(log_probability(logits, said)).exp().item()
        assert found.count(said) == pytest.approx(expected, abs=5 * expected**0.5)


def captioner(kind: str) -> Captioner:
    shape = (4, 3)
    models: dict[str, Callable[[], Captioner]] = {
        "rnn": lambda: CaptionRNN(shape, WORDS, 8),
        "lstm": lambda: CaptionLSTM(shape, WORDS, 8, attention=False),
        "attention": lambda: CaptionLSTM(shape, WORDS, 8),
        "pre-norm": lambda: CaptionTransformer(shape, WORDS, 8, 2, 2, 16),
        "post-norm": lambda: CaptionTransformer(shape, WORDS, 8, 2, 2, 16, 1, "post"),
    }
    torch.manual_seed(1)
    model = models[kind]().double().eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:  # large biases would give all images the same caption
            nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("kind", TOPICS)
def test_captions_are_the_same_with_and_without_a_cache(kind: str) -> None:
    model = captioner(kind)
    memory = model.encode(torch.randn(9, 4, 3, dtype=torch.float64))
    found = greedy(model, memory, 12)
    assert torch.equal(found, greedy(Uncached(model), memory, 12))
    assert len({tuple(caption) for caption in found.tolist()}) > 1
    for beam, penalty in ((1, 0.0), (4, 0.0), (4, 1.0)):
        captions, scores = beam_search(model, memory, 12, beam, penalty)
        others, other_scores = beam_search(Uncached(model), memory, 12, beam, penalty)
        assert torch.equal(captions, others)
        torch.testing.assert_close(scores, other_scores, rtol=1e-9, atol=1e-12)
    torch.manual_seed(0)
    drawn = sample(model, memory, 12, 1.5, 5)
    torch.manual_seed(0)
    assert torch.equal(drawn, sample(Uncached(model), memory, 12, 1.5, 5))


@pytest.mark.parametrize("kind", TOPICS)
def test_successive_steps_give_the_logits_of_the_parallel_decoder(kind: str) -> None:
    model = captioner(kind)
    memory = model.encode(torch.randn(3, 4, 3, dtype=torch.float64))
    words = torch.randint(4, len(WORDS), (3, 7))
    words[:, 0] = START
    state, steps = model.start(memory), []
    for column in words.unbind(1):
        logits, state = model.step(column, state, memory)
        steps.append(logits)
    torch.testing.assert_close(torch.stack(steps, 1), model.forward_decoder(memory, words), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", TOPICS)
def test_a_later_word_changes_no_earlier_logit(kind: str) -> None:
    model = captioner(kind)
    inputs, words = torch.randn(2, 4, 3, dtype=torch.float64), torch.randint(4, len(WORDS), (2, 6))
    changed = words.clone()
    changed[:, 3] = (words[:, 3] - 4 + 1) % (len(WORDS) - 4) + 4
    before, after = model(inputs, words), model(inputs, changed)
    torch.testing.assert_close(before[:, :3], after[:, :3], rtol=0, atol=0)
    assert ((before - after)[:, 3:].abs().amax(2) > 1e-6).all()


def test_half_precision_logits_are_compared_in_single_precision() -> None:
    memory = (table(images=5, words=3, seed=8)[0].bfloat16(),)
    captions, scores = beam_search(Table(), memory, 4, 3)
    assert scores.dtype == torch.float32
    exact, _ = beam_search(Table(), (memory[0].double(),), 4, 3)
    assert torch.equal(captions, exact)


def test_a_deterministic_model_gives_its_caption_at_any_temperature() -> None:
    memory = (torch.full((2, 6, 6, 6), log(1e-9)),)
    memory[0][..., START, 4] = memory[0][..., 4, 5] = memory[0][..., 5, END] = 0.0
    torch.manual_seed(0)
    for captions in (
        greedy(Table(), memory, 4),
        sample(Table(), memory, 4, 0.5),
        beam_search(Table(), memory, 4, 2)[0],
    ):
        assert rows(captions) == [(4, 5), (4, 5)]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"beam_size": 0}, "beam_size is 0; it must be at least 1"),
        ({"length_penalty": -0.1}, "length_penalty is -0.1; it must be at least 0"),
        ({"length_penalty": float("nan")}, "length_penalty is nan"),
        ({"max_length": 0}, "max_length is 0; it must be at least 1 word"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be greater than 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": 0}, "top_k is 0; it must be at least 1"),
    ],
)
def test_refusals(settings: dict[str, float], sentence: str) -> None:
    model = captioner("lstm")
    with pytest.raises(ValueError, match=sentence):
        model.caption(torch.zeros(1, 4, 3, dtype=torch.float64), **({"beam_size": 2} | settings))  # type: ignore[arg-type]
