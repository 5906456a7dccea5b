"""How a captioner writes: greedily, at random, or by beam search; a batch of images at once, on the device.

A model gives P(w_t | w_1 … w_{t−1}, image); a caption w_1 … w_n ends with END or after `max_length` words.

    greedy    w_t = argmax_w P(w | …)
    sampling  w_t ~ softmax(logits / temperature), over the top_k most probable words if that is set
    beam      the K most probable beginnings are kept at each step. Those that END are set aside, at most K, and the
              one with the largest  log P(w_1 … w_n END) / (n + 1)^α  is the caption. α, the length penalty, is 0 for
              log P itself and 1 for its mean over the words: every further word makes a caption less probable, so
              α = 0 favors short ones.

PAD, START and UNK are never said: they are left out of P. A beam of 1 is greedy decoding.

Sources: O. Vinyals et al., arXiv 1411.4555 for beam search in captioning; A. Fan et al., arXiv 1805.04833 for top-k;
Y. Wu et al., arXiv 1609.08144, section 7, for length penalties; L. Huang et al., Proc. EMNLP 2017, pages 2134-2139, for
when to stop.

Shapes: B images in a batch, K beams of an image, V words in the vocabulary, T words in the longest caption.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from common.caption_words import END, NEVER_SAID, PAD, START
from common.errors import UserError

Memory = tuple[Tensor, ...]  # what a model keeps of the images, (B, ...) each
State = tuple[Tensor, ...]  # what it keeps of the words so far, (B·K, ...) each


class Writer(Protocol):
    """A model that writes word by word, K captions of an image side by side."""

    def start(self, memory: Memory) -> State:
        """The state before the first word, (B, ...): K is 1."""

    def step(self, words: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        """Reads the last words (B·K,), START at first, all K of an image after those of the image before.

        The memory is not repeated K times: the beams of an image ask it together.

        Returns:
            Logits (B·K, V) of the words that come next, which may be written into, and the new state.
        """


@torch.no_grad()
def greedy(writer: Writer, memory: Memory, max_length: int) -> Tensor:
    """The most probable word at each step: words (B, T), PAD after the last of each caption."""
    return _roll_out(writer, memory, max_length, lambda logits: logits.argmax(1))


@torch.no_grad()
def sample(
    writer: Writer, memory: Memory, max_length: int, temperature: float = 1.0, top_k: int | None = None
) -> Tensor:
    """Words drawn at random: (B, T), PAD after the last of each caption.

    Raises:
        ValueError: a temperature that is not above 0, or a top_k or max_length below 1.
    """
    if not temperature > 0:
        raise UserError(f"temperature is {temperature}; give a number above 0, or decode greedily.")
    if top_k is not None and top_k < 1:
        raise UserError(f"top_k is {top_k}; give at least 1 word to draw from, or leave it out for all.")

    def draw(logits: Tensor) -> Tensor:
        if top_k is not None:
            least = logits.topk(min(top_k, logits.shape[1])).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        return (logits / temperature).softmax(1).multinomial(1)[:, 0]

    return _roll_out(writer, memory, max_length, draw)


def _roll_out(writer: Writer, memory: Memory, max_length: int, choose: Callable[[Tensor], Tensor]) -> Tensor:
    check_search(max_length)
    words = _starts(len(memory[0]), memory)
    finished = torch.zeros_like(words, dtype=torch.bool)
    captions: list[Tensor] = []
    state = writer.start(memory)
    while len(captions) < max_length and not bool(finished.all()):
        logits, state = writer.step(words, state, memory)
        words = choose(_sayable(logits))
        finished = finished | (words == END)
        captions.append(words.masked_fill(finished, PAD))
    return torch.stack(captions, 1)


@torch.no_grad()
def beam_search(
    writer: Writer, memory: Memory, max_length: int, beam_size: int, length_penalty: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The best caption that a beam finds: words (B, T), PAD after the last, and the scores of the captions (B,).

    An image is done when K captions have ended, or as soon as no beginning can be continued to a better one: log P
    only falls, so that no caption beats the log P of its beginning over the largest (n + 1)^α.

    Raises:
        ValueError: a setting out of range.
    """
    check_search(max_length, beam_size, length_penalty)
    images, device = len(memory[0]), memory[0].device
    state = tuple(part.repeat_interleave(beam_size, 0) for part in writer.start(memory))
    words = _starts(images * beam_size, memory)
    captions = torch.full((images, beam_size, max_length), PAD, device=device)
    scores = _at_least_float32(memory[0]).new_full((images, beam_size), -torch.inf)  # log P of each beginning
    scores[:, 0] = 0.0  # at first all beams are the same, and only one counts
    best, best_score = captions[:, 0], scores.new_full((images,), -torch.inf)
    ended = torch.zeros(images, dtype=torch.int64, device=device)
    done = torch.zeros(images, dtype=torch.bool, device=device)
    image = torch.arange(images, device=device)

    for length in range(max_length + 1):
        logits, state = writer.step(words, state, memory)
        log_probs = _sayable(logits).log_softmax(1)  # (B·K, V)
        if length == max_length:  # nothing but END can follow
            log_probs[:, :END] = log_probs[:, END + 1 :] = -torch.inf
        # Of the 2K best continuations at most K end, since each beam ends in one way: K are left to go on with. None
        # of the 2K is beyond the 2K best of its beam.
        likely, likely_words = log_probs.topk(min(2 * beam_size, logits.shape[1]))  # (B·K, 2K)
        ranked = (scores[:, :, None] + likely.unflatten(0, (images, beam_size))).flatten(1).topk(2 * beam_size)
        beams = ranked.indices // likely.shape[1]  # (B, 2K)
        chosen = likely_words.reshape(images, -1).gather(1, ranked.indices)
        ends = chosen == END

        ending = ranked.values.masked_fill(~ends, -torch.inf)[:, :beam_size]  # those among the K best
        score, place = (ending / (length + 1) ** length_penalty).max(1)
        better = (score > best_score) & ~done
        best_score = torch.where(better, score, best_score)
        ended_captions = captions[image, beams[image, place]]
        best = torch.where(better[:, None], ended_captions, best)
        ended += ending.isfinite().sum(1)

        going_on = ends.int().argsort(dim=1, stable=True)[:, :beam_size]  # the K best that don't end
        if length < max_length:
            scores = ranked.values.gather(1, going_on)
            rows = (image[:, None] * beam_size + beams.gather(1, going_on)).flatten()
            words = chosen.gather(1, going_on).flatten()
            captions = captions.flatten(0, 1).index_select(0, rows).unflatten(0, (images, beam_size))
            captions[:, :, length] = words.unflatten(0, (images, beam_size))
            state = tuple(part.index_select(0, rows) for part in state)
        hope = scores[:, 0] / (max_length + 1) ** length_penalty
        done = done | (ended >= beam_size) | (hope <= best_score)
        if bool(done.all()):
            break
    return best, best_score


def check_search(max_length: int, beam_size: int = 1, length_penalty: float = 0.0) -> None:
    """Refuses settings out of range.

    Raises:
        ValueError: a caption or a beam below 1, or a negative length penalty.
    """
    if max_length < 1:
        raise UserError(f"max_length is {max_length}; give at least 1 word.")
    if beam_size < 1:
        raise UserError(f"beam_size is {beam_size}; give at least 1, which is greedy decoding.")
    if not length_penalty >= 0:
        raise UserError(f"length_penalty is {length_penalty}; give 0 (none) or more.")


def _starts(number: int, memory: Memory) -> Tensor:
    return torch.full((number,), START, device=memory[0].device)


def _sayable(logits: Tensor) -> Tensor:
    """Logits (B, V) without the words that are never said, in place if they can be."""
    logits = _at_least_float32(logits)
    for word in NEVER_SAID:
        logits[:, word] = -torch.inf
    return logits


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
