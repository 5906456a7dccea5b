"""Decoding of captions: greedy, sampling and beam search, for a batch of images at once on the device.

A model gives P(w_t | w_1 … w_{t−1}, image); a caption w_1 … w_n ends with END or after `max_length` words.

    greedy    w_t = argmax_w P(w | …)
    sampling  w_t ~ softmax(logits / temperature), over the top_k most probable words if that is set
    beam      the K most probable partial captions (hypotheses) are kept at each step. Of those that END, the one with
              the largest  log P(w_1 … w_n END) / (n + 1)^α  is the caption. The length penalty α is 0 for log P itself
              and 1 for its mean over the words: every further word makes a caption less probable, so α = 0 favors short
              ones.

PAD, START and UNK are never generated: they are left out of P. A beam of 1 is greedy decoding. A wider beam can drop
the greedy hypothesis, if K others are more probable so far, so the greedy caption is scored as well.

Sources: O. Vinyals et al., arXiv 1411.4555 for beam search in captioning; A. Fan et al., arXiv 1805.04833 for top-k;
Y. Wu et al., arXiv 1609.08144, section 7, for length penalties; L. Huang et al., Proc. EMNLP 2017, pages 2134-2139, for
when to stop.

Shapes: B images in a batch, K beams of an image, V words in the vocabulary, T words in the longest caption.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from common.ranges import check_range
from common.vocabulary import END, NEVER_GENERATED, PAD, START
from modules.base.half_precision import at_least_float32

Memory = tuple[Tensor, ...]  # a model's encoding of the images, (B, ...) each
State = tuple[Tensor, ...]  # its state after the words so far, (B·K, ...) each


class Decoder(Protocol):
    """A model that predicts captions word by word, K of an image in parallel."""

    def start(self, memory: Memory) -> State:
        """Returns the state before the first word, (B, ...), for K = 1."""

    def step(self, words: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        """Reads one word of each caption.

        Args:
            words: Ids of the last words, START at first, the K of each image in succession: (B·K,).
            state: State before these words.
            memory: Encoding of the images, not repeated K times: the beams of an image share it. K can change from step
                to step.

        Returns:
            Logits (B·K, V) of the next words, which may be modified in place, and the new state.
        """


@torch.no_grad()
def greedy(decoder: Decoder, memory: Memory, max_length: int) -> Tensor:
    """Chooses the most probable word at each step: words (B, T), PAD after the last of each caption."""
    return _generate(decoder, memory, max_length, lambda logits: logits.argmax(1))


@torch.no_grad()
def sample(
    decoder: Decoder, memory: Memory, max_length: int, temperature: float = 1.0, top_k: int | None = None
) -> Tensor:
    """Draws words at random: (B, T), PAD after the last of each caption.

    Raises:
        ValueError: If the temperature is not above 0, or `top_k` or `max_length` is below 1.
    """
    check_range("temperature", temperature, temperature > 0, "greater than 0")
    check_range("top_k", top_k, top_k is None or top_k >= 1, "at least 1, or left out for all words")

    def draw(logits: Tensor) -> Tensor:
        if top_k is not None:
            least = logits.topk(min(top_k, logits.shape[1])).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        return (logits / temperature).softmax(1).multinomial(1)[:, 0]

    return _generate(decoder, memory, max_length, draw)


def _generate(decoder: Decoder, memory: Memory, max_length: int, choose: Callable[[Tensor], Tensor]) -> Tensor:
    check_search(max_length)
    words = _start_words(len(memory[0]), memory)
    finished = torch.zeros_like(words, dtype=torch.bool)
    captions: list[Tensor] = []
    state = decoder.start(memory)
    while len(captions) < max_length and not bool(finished.all()):
        logits, state = decoder.step(words, state, memory)
        words = choose(_mask_special_words(logits))
        finished = finished | (words == END)
        captions.append(words.masked_fill(finished, PAD))
    return torch.stack(captions, 1)


@torch.no_grad()
def beam_search(
    decoder: Decoder, memory: Memory, max_length: int, beam_size: int, length_penalty: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Finds the best caption of each image by beam search; none scores below the greedy caption.

    The search for an image ends as soon as no hypothesis can lead to a better caption: log P decreases with every word,
    so the score of a caption is at most log P of its hypothesis over the largest (n + 1)^α. It does not end when K
    captions are finished, because for α > 0 a longer one can still be better.

    The greedy hypothesis is followed through the beam. From the step that drops it, it is one more hypothesis of its
    image, until it ends or can't become the best.

    Returns:
        Words (B, T), PAD after the last of each caption, and the scores of the captions (B,).

    Raises:
        ValueError: If a setting is out of its range.
    """
    check_search(max_length, beam_size, length_penalty)
    images, device = len(memory[0]), memory[0].device
    state = tuple(part.repeat_interleave(beam_size, 0) for part in decoder.start(memory))
    words = _start_words(images * beam_size, memory)
    captions = torch.full((images, beam_size, max_length), PAD, device=device)  # (B, K + 1, T) with a dropped one
    scores = at_least_float32(memory[0]).new_full((images, beam_size), -torch.inf)  # log P of each hypothesis
    scores[:, 0] = 0.0  # at first all hypotheses are the same, and only one counts
    best, best_score = captions[:, 0], scores.new_full((images,), -torch.inf)
    greedy_score, greedy_beam = torch.zeros_like(best_score), torch.zeros_like(best[:, 0])  # log P; index, K if dropped
    done = torch.zeros(images, dtype=torch.bool, device=device)
    greedy_done = done
    image = torch.arange(images, device=device)
    largest_divisor = (max_length + 1) ** length_penalty

    for length in range(max_length + 1):
        logits, state = decoder.step(words, state, memory)
        logits = _mask_special_words(logits)  # (B·K, V), or (B·(K + 1), V) with a dropped greedy hypothesis
        greedy_row = image * captions.shape[1] + greedy_beam
        greedy_word = logits[greedy_row].argmax(1)  # (B,)
        log_probs = logits.log_softmax(1)
        if length == max_length:  # only END can follow
            log_probs[:, :END] = log_probs[:, END + 1 :] = -torch.inf
            greedy_word = torch.full_like(greedy_word, END)
        # The 2K best continuations include at least K that don't END, since each hypothesis has one END. Each of the 2K
        # is among the 2K best of its own hypothesis.
        top, top_words = log_probs.unflatten(0, (images, -1))[:, :beam_size].topk(min(2 * beam_size, logits.shape[1]))
        ranked = (scores[:, :, None] + top).flatten(1).topk(2 * beam_size)
        beams = ranked.indices // top.shape[2]  # (B, 2K)
        next_words = top_words.flatten(1).gather(1, ranked.indices)
        ends = next_words == END

        greedy_score = greedy_score + log_probs[greedy_row, greedy_word]
        greedy_ends = (greedy_word == END) & ~greedy_done
        finished = torch.cat(  # those among the K best, and the greedy one
            [
                ranked.values.masked_fill(~ends, -torch.inf)[:, :beam_size],
                greedy_score.masked_fill(~greedy_ends, -torch.inf)[:, None],
            ],
            1,
        )
        score, index = (finished / (length + 1) ** length_penalty).max(1)
        better = (score > best_score) & ~done
        best_score = torch.where(better, score, best_score)
        origins = torch.cat([beams[:, :beam_size], greedy_beam[:, None]], 1)
        best = torch.where(better[:, None], captions[image, origins[image, index]], best)
        if length == max_length:
            break

        unfinished = ends.int().argsort(dim=1, stable=True)[:, :beam_size]  # the K best that don't END
        scores = ranked.values.gather(1, unfinished)
        beams, next_words = beams.gather(1, unfinished), next_words.gather(1, unfinished)
        greedy_done = greedy_done | greedy_ends | (greedy_score / largest_divisor <= best_score)
        done = done | greedy_done & (scores[:, 0] / largest_divisor <= best_score)
        if beam_size == 1:
            done = greedy_done
        if bool(done.all()):
            break
        is_greedy = (beams == greedy_beam[:, None]) & (next_words == greedy_word[:, None])  # (B, K)
        kept = is_greedy.any(1)
        if bool((~kept & ~greedy_done).any()):
            beams = torch.cat([beams, greedy_beam[:, None]], 1)
            next_words = torch.cat([next_words, greedy_word[:, None]], 1)
        greedy_beam = torch.where(kept, is_greedy.int().argmax(1), beams.shape[1] - 1)

        rows = (image[:, None] * captions.shape[1] + beams).flatten()
        captions = captions.flatten(0, 1).index_select(0, rows).unflatten(0, beams.shape)
        captions[:, :, length] = next_words
        words = next_words.flatten()
        state = tuple(part.index_select(0, rows) for part in state)
    return best, best_score


def check_search(max_length: int, beam_size: int = 1, length_penalty: float = 0.0) -> None:
    """Refuses settings of decoding that are out of range.

    Raises:
        ValueError: If `max_length` or `beam_size` is below 1, or the length penalty is negative.
    """
    check_range("max_length", max_length, max_length >= 1, "at least 1 word")
    check_range("beam_size", beam_size, beam_size >= 1, "at least 1, which is greedy decoding")
    check_range("length_penalty", length_penalty, length_penalty >= 0, "at least 0")


def _start_words(number: int, memory: Memory) -> Tensor:
    return torch.full((number,), START, device=memory[0].device)


def _mask_special_words(logits: Tensor) -> Tensor:
    """Sets the logits (B, V) of words that are never generated to −∞, in place unless the dtype changes."""
    logits = at_least_float32(logits)
    for word in NEVER_GENERATED:
        logits[:, word] = -torch.inf
    return logits
