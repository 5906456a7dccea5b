"""The batch loader: every sample exactly once, the same data on any number of ranks, and an exact resume anywhere."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from common.errors import UserError
from datamodules.loader import Batch, BatchLoader


def fetch(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """The samples of a step, and the random numbers of their augmentation."""
    return batch.indices, batch.randint(1000), batch.rand()


def loader(num_samples: int, batch_size: int, **settings: Any) -> BatchLoader:
    return BatchLoader(fetch, num_samples, batch_size, **settings)


def indices(epoch: BatchLoader) -> list[list[int]]:
    return [batch[0].tolist() for batch in epoch]


def plain(batches: Any) -> list[list[list[float]]]:
    return [[part.tolist() for part in batch] for batch in batches]


SIZES = [(1, 1), (1, 4), (3, 4), (7, 3), (12, 4), (13, 4), (23, 5), (24, 5), (25, 5), (100, 7)]


# --------------------------------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize(
    ("num_samples", "batch_size", "world_size"),
    # Fewer batches than ranks are cut finer: test_no_rank_goes_without_a_batch_in_evaluation.
    [(num, size, ranks) for num, size in SIZES for ranks in (1, 2, 3) if -(-num // size) >= ranks],
)
def test_evaluation_assigns_whole_batches_to_the_ranks_in_turn(
    num_samples: int, batch_size: int, world_size: int
) -> None:
    single = [list(range(num_samples))[start : start + batch_size] for start in range(0, num_samples, batch_size)]
    for rank in range(world_size):
        ours = loader(num_samples, batch_size, rank=rank, world_size=world_size)
        for _ in range(2):  # each epoch alike
            assert indices(ours) == single[rank::world_size]
        assert len(ours) == len(single[rank::world_size])


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_random_draws_in_evaluation_depend_on_the_batch_and_not_on_the_rank(world_size: int) -> None:
    single = plain(loader(23, 4, seed=5))
    for rank in range(world_size):
        assert plain(loader(23, 4, seed=5, rank=rank, world_size=world_size)) == single[rank::world_size]


# ----------------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize(("num_samples", "batch_size"), SIZES)
def test_training_takes_no_sample_twice_and_drops_the_remainder_only(
    num_samples: int, batch_size: int, world_size: int
) -> None:
    if num_samples < world_size:
        return  # refused, see below
    ranks = [loader(num_samples, batch_size, training=True, rank=r, world_size=world_size) for r in range(world_size)]
    together = batch_size * world_size
    for _ in range(3):
        epochs = [indices(rank) for rank in ranks]
        assert {len(epoch) for epoch in epochs} == {len(rank) for rank in ranks} == {max(1, num_samples // together)}
        seen = Counter(index for epoch in epochs for batch in epoch for index in batch)
        assert set(seen.values()) == {1}
        assert set(seen) <= set(range(num_samples))
        assert len(seen) == (num_samples // together * together or num_samples)
        sizes = {len(batch) for epoch in epochs for batch in epoch}
        assert sizes == {batch_size} if num_samples >= together else max(sizes) - min(sizes) <= 1


def test_the_remainder_of_one_epoch_is_not_that_of_the_next() -> None:
    ours = loader(11, 4, training=True)
    left_out = [frozenset(range(11)) - {i for batch in indices(ours) for i in batch} for _ in range(40)]
    assert all(len(left) == 3 for left in left_out)
    assert frozenset.union(*left_out) == frozenset(range(11))


@pytest.mark.parametrize(("world_size", "batch_size"), [(2, 3), (3, 2), (6, 1)])
@pytest.mark.parametrize("num_samples", [6, 13, 24])
def test_ranks_together_get_the_batches_of_one_process(num_samples: int, world_size: int, batch_size: int) -> None:
    ranks = [
        loader(num_samples, batch_size, training=True, seed=3, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    single = loader(num_samples, batch_size * world_size, training=True, seed=3)
    for _ in range(3):
        joined = [[torch.cat(parts) for parts in zip(*step, strict=True)] for step in zip(*ranks, strict=True)]
        assert plain(joined) == plain(single)


def test_a_data_set_smaller_than_a_global_batch_is_shared_without_repeats() -> None:
    ranks = [loader(5, 4, training=True, seed=1, rank=rank, world_size=2) for rank in range(2)]
    joined = [torch.cat(parts).tolist() for parts in zip(*(next(iter(rank)) for rank in ranks), strict=True)]
    assert [joined] == plain(loader(5, 8, training=True, seed=1))
    assert sorted(joined[0]) == list(range(5))


def test_epochs_and_seeds_differ_and_the_same_seed_repeats() -> None:
    ours = loader(64, 8, training=True, seed=7)
    epochs = [plain(ours) for _ in range(4)]
    again = loader(64, 8, training=True, seed=7)
    assert [plain(again) for _ in range(4)] == epochs
    others = [plain(loader(64, 8, training=True, seed=seed)) for seed in range(7)]
    orders = [[i for batch in epoch for i in batch[0]] for epoch in epochs + others]
    assert len({tuple(order) for order in orders}) == 11
    streams = [tuple(batch[2]) for epoch in epochs + others for batch in epoch]
    assert len(set(streams)) == 11 * 8  # no two steps of any epoch or seed draw alike


def test_torchs_own_random_stream_is_neither_used_nor_moved() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = plain(loader(20, 4, training=True, num_workers=1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert plain(loader(20, 4, training=True)) == first


def test_a_shuffle_puts_each_sample_anywhere() -> None:
    ours = loader(10, 10, training=True)
    places = torch.zeros(10, 10)
    for _ in range(2000):
        places[torch.arange(10), next(iter(ours))[0]] += 1
    # Each of the 100 cells is binomial: mean 200, standard deviation 13.4.
    assert (places - 200).abs().max() < 5 * 13.4


def test_draws_are_uniform_and_independent_of_each_other() -> None:
    batch = Batch(torch.arange(20_000), seed=11, global_size=20_000, start=0)
    whole, unit = batch.randint(8), batch.rand()
    assert (torch.bincount(whole, minlength=8) - 2500).abs().max() < 5 * 47
    assert unit.min() >= 0
    assert unit.max() < 1
    assert abs(unit.mean() - 0.5) < 5 * 0.289 / 20_000**0.5
    assert not torch.equal(whole, batch.randint(8))  # one draw after the other


# ------------------------------------------------------------------------------------------------------------- resume


def steps(ours: BatchLoader, epochs: int) -> Iterator[tuple[Any, dict[str, int]]]:
    """Each batch of some epochs, with the state right after it."""
    for _ in range(epochs):
        for batch in ours:
            yield plain([batch]), ours.state_dict()


@pytest.mark.parametrize(
    "settings",
    [
        {"training": True},
        {"training": False},
        {"training": True, "rank": 1, "world_size": 2},
        {"rank": 1, "world_size": 2},
    ],
)
def test_a_run_resumes_identically_from_every_step_of_three_epochs(settings: dict[str, Any]) -> None:
    beginning = loader(22, 3, seed=4, **settings).state_dict()
    whole = list(steps(loader(22, 3, seed=4, **settings), 3))
    per_epoch = len(whole) // 3
    states = [beginning, *(state for _, state in whole)]
    for done, state in enumerate(states):
        resumed = loader(22, 3, seed=99, **settings)  # the state brings its seed along
        resumed.load_state_dict(state)
        assert resumed.state_dict() == state
        # At the end of an epoch the next pass is a new epoch, so what is left is counted in whole passes.
        rest = list(steps(resumed, 3 - done // per_epoch))
        assert rest == whole[done:], f"after {done} steps"


def test_states_are_taken_one_from_another_without_drift() -> None:
    whole = [batch for batch, _ in steps(loader(22, 3, training=True), 3)]
    seen: list[Any] = []
    state = loader(22, 3, training=True).state_dict()
    while len(seen) < len(whole):  # killed after every second batch
        ours = loader(22, 3, training=True)
        ours.load_state_dict(state)
        seen += [plain([batch]) for batch in islice(ours, 2)]
        state = ours.state_dict()
    assert seen == whole


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_interrupted_epoch_ends_for_its_loader_and_resumes_from_its_state(num_workers: int) -> None:
    whole = [batch for batch, _ in steps(loader(22, 3, training=True), 3)]
    ours = loader(22, 3, training=True, num_workers=num_workers)
    for batch in islice(ours, 3):
        assert batch[0].shape == (3,)
    broken_off = ours.state_dict()
    assert broken_off == {"epoch": 0, "step": 3, "seed": 0}
    assert [plain([batch]) for batch in ours] == whole[7:14]  # the next epoch, not the rest of this one

    resumed = loader(22, 3, training=True)
    resumed.load_state_dict(broken_off)
    assert [batch for batch, _ in steps(resumed, 3)] == whole[3:]

    second = loader(22, 3, training=True)
    next(iter(second))
    two_more = [plain([batch]) for batch in islice(second, 2)]
    after = loader(22, 3, training=True)
    after.load_state_dict(second.state_dict())
    assert two_more + [plain([batch]) for batch in after] == whole[7:14]


def test_a_state_is_kept_by_an_iterator_that_was_created_but_not_used() -> None:
    ours = loader(22, 3, training=True)
    list(ours)
    before = ours.state_dict()
    iter(ours)
    assert ours.state_dict() == before


@pytest.mark.parametrize("done", [0, 3, 7])
def test_set_epoch_begins_the_epoch_that_lightning_counts_unless_it_was_resumed_within(done: int) -> None:
    whole = [batch for batch, _ in steps(loader(22, 3, training=True), 3)]
    ours = loader(22, 3, training=True)
    ours.batch_sampler.sampler.set_epoch(0)
    for _ in islice(ours, done):
        pass
    state = ours.state_dict()
    ours.set_epoch(1)
    assert [plain([batch]) for batch in ours] == whole[7:14]
    ours.set_epoch(2)
    assert [plain([batch]) for batch in ours] == whole[14:]
    resumed = loader(22, 3, training=True)
    resumed.load_state_dict(state)
    resumed.set_epoch(0 if done < 7 else 1)
    assert [plain([batch]) for batch in resumed] == (whole[done:7] if done < 7 else whole[7:14])


# ------------------------------------------------------------------------------------------------------------ workers


def test_workers_return_the_same_batches_and_the_state_counts_those_consumed() -> None:
    for training in (True, False):
        here, there = (loader(40, 4, training=training, seed=2, num_workers=n) for n in (0, 2))
        for (expected, state), (batch, other_state) in zip(steps(here, 2), steps(there, 2), strict=True):
            assert batch == expected
            assert other_state == state  # although workers are already ahead


def test_resume_with_workers_in_the_middle_of_an_epoch() -> None:
    whole = [batch for batch, _ in steps(loader(40, 4, training=True), 2)]
    ours = loader(40, 4, training=True, num_workers=2)
    ours.load_state_dict({"epoch": 0, "step": 6, "seed": 0})
    assert [batch for batch, _ in steps(ours, 2)] == whole[6:]


def test_an_error_in_a_worker_reaches_the_caller() -> None:
    def broken(batch: Batch) -> None:
        raise ValueError("Sample 3 is broken; repair it.")

    for num_workers in (0, 1):  # its sentence and no more: no traceback of the worker's
        with pytest.raises(ValueError, match=r"^Sample 3 is broken; repair it\.$"):
            next(iter(BatchLoader(broken, 4, 2, num_workers=num_workers)))


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 0}, "has no samples"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"num_workers": -1}, "num_workers is -1; it must be at least 0"),
        ({"training": True, "world_size": 11}, "10 samples can't be shared by 11 processes; .* at most 10"),
        ({"training": False, "world_size": 11}, "10 samples can't be shared by 11 processes; .* at most 10"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loader(**{"num_samples": 10, "batch_size": 2, **settings})


@pytest.mark.parametrize(
    ("num_samples", "batch_size", "world_size"), [(144, 500, 2), (7, 4, 3), (5, 100, 5), (9, 3, 3)]
)
def test_no_rank_goes_without_a_batch_in_evaluation(num_samples: int, batch_size: int, world_size: int) -> None:
    """Lightning stops or waits forever if a rank has no batch to evaluate."""
    seen: list[int] = []
    for rank in range(world_size):
        ours = BatchLoader(
            lambda batch: batch.indices.tolist(), num_samples, batch_size, rank=rank, world_size=world_size
        )
        batches = list(ours)
        assert len(batches) == len(ours) >= 1
        assert all(1 <= len(batch) <= batch_size for batch in batches)
        seen += [index for batch in batches for index in batch]
    assert sorted(seen) == list(range(num_samples))


# ------------------------------------------------------------------------------------------------------------ lengths


def by_length(num_samples: int, batch_size: int, lengths: Tensor | None = None, **settings: Any) -> BatchLoader:
    generator = torch.Generator().manual_seed(0)
    found = torch.randint(5, 20, (num_samples,), generator=generator) if lengths is None else lengths
    return loader(num_samples, batch_size, training=True, lengths=found, **settings)


def waste(ours: BatchLoader) -> float:
    """Fraction of padding among one epoch's tokens."""
    assert ours.lengths is not None
    batches = [ours.lengths[batch[0]] for batch in ours]
    return 1 - sum(int(b.sum()) for b in batches) / sum(len(b) * int(b.max()) for b in batches)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize(("num_samples", "batch_size"), SIZES)
def test_grouped_by_length_each_sample_still_comes_at_most_once_an_epoch(
    num_samples: int, batch_size: int, world_size: int
) -> None:
    if num_samples < world_size:
        return
    together = batch_size * world_size
    ranks = [by_length(num_samples, batch_size, rank=rank, world_size=world_size) for rank in range(world_size)]
    for _ in range(2):
        epochs = [indices(rank) for rank in ranks]
        seen = Counter(index for epoch in epochs for batch in epoch for index in batch)
        assert set(seen.values()) == {1}
        assert len(seen) == (num_samples // together * together or num_samples)
        assert {len(epoch) for epoch in epochs} == {max(1, num_samples // together)}


def test_batches_of_samples_of_about_equal_length_in_no_order_of_length() -> None:
    ours = by_length(3000, 10)
    assert waste(loader_without_lengths(ours)) > 0.2
    assert waste(ours) < 0.03
    assert ours.lengths is not None
    longest = [float(ours.lengths[batch[0]].max()) for batch in ours]
    steps_ = torch.arange(len(longest), dtype=torch.float32)
    assert abs(float(torch.corrcoef(torch.stack([steps_, torch.tensor(longest)]))[0, 1])) < 0.25


def loader_without_lengths(ours: BatchLoader) -> BatchLoader:
    """The same samples, shuffled only; the lengths are there for `waste` to count."""
    plain_ = loader(ours.num_samples, ours.batch_size, training=True)
    plain_._shuffled = lambda epoch: torch.randperm(ours.num_samples).split(ours.batch_size)  # type: ignore[method-assign]
    plain_.lengths = ours.lengths
    return plain_


def test_the_batches_are_mixed_again_in_each_epoch() -> None:
    ours = by_length(600, 6)
    first, second = ({frozenset(batch) for batch in indices(ours)} for _ in range(2))
    assert len(first & second) < 5


def test_the_longest_samples_are_not_the_ones_left_over() -> None:
    lengths = torch.cat([torch.full((9,), 5), torch.tensor([50])])
    ours = by_length(10, 9, lengths=lengths)
    with_longest = sum(9 in batch for _ in range(300) for batch in indices(ours))
    assert abs(with_longest - 270) < 5 * 5.2  # binomial: 300 epochs, probability 0.9


@pytest.mark.parametrize(("world_size", "batch_size"), [(2, 3), (3, 2)])
def test_grouped_by_length_ranks_together_get_the_batches_of_one_process(world_size: int, batch_size: int) -> None:
    for num_samples in (5, 24, 700):
        ranks = [by_length(num_samples, batch_size, rank=rank, world_size=world_size) for rank in range(world_size)]
        single = by_length(num_samples, batch_size * world_size)
        for _ in range(2):
            joined = [[torch.cat(parts) for parts in zip(*step, strict=True)] for step in zip(*ranks, strict=True)]
            assert plain(joined) == plain(single)


def test_grouped_by_length_a_run_resumes_identically_from_every_step() -> None:
    whole = list(steps(by_length(40, 3, seed=4), 2))
    for done, (_, state) in enumerate(whole[:-1], start=1):
        resumed = by_length(40, 3, seed=99)
        resumed.load_state_dict(state)
        assert list(steps(resumed, 2 - done // 13)) == whole[done:]


def test_padding_is_the_fraction_in_the_batches() -> None:
    ours = by_length(100, 8, seed=3)
    for epoch in range(3):
        ours.set_epoch(epoch)
        announced = ours.padding()
        assert announced == pytest.approx(waste(ours), abs=1e-12)
    with pytest.raises(ValueError, match="has no lengths to compute the padding from; give it lengths"):
        loader(4, 2, training=True).padding()


def test_the_order_without_lengths_has_not_changed() -> None:
    """Pins the order of a run without lengths: checkpoints of older runs resume with the same batches."""
    assert indices(loader(7, 3, training=True, seed=5)) == [[2, 3, 1], [0, 4, 5]]


def test_lengths_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"lengths has shape \(3,\); it must have shape \(4,\)"):
        loader(4, 2, training=True, lengths=torch.ones(3))


@pytest.mark.parametrize("damage", [{"epoch": "x"}, {"step": None}, {"seed": 2.5}, {"step": -1}, {"epoch": True}])
def test_a_position_that_is_none_is_refused(damage: dict[str, Any]) -> None:
    training = loader(7, 3, training=True)
    state = training.state_dict()
    for damaged in ({**state, **damage}, {name: state[name] for name in state.keys() - damage.keys()}, 5):
        with pytest.raises(UserError, match=r"^The position in the training data in the checkpoint is "):
            training.load_state_dict(damaged)  # type: ignore[arg-type]
    assert training.state_dict() == state
