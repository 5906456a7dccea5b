"""Trains several runs in one process, with the training steps of those that can share them as one computation.

    1. Every run goes on by itself until its next training step: configuration, data, model, checkpoint to resume from.
    2. The runs that are at the same step of the same epoch, and whose models differ in numbers alone, are stacked, and
       their steps are computed together until the end of the epoch.
    3. Each goes on by itself: validation, checkpoints, pictures, until the first step of its next epoch, or its end.

A run whose model can't be stacked trains the epoch in its own turn. So each run does what it would do alone, and leaves
the same files.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import torch

from common.messages.counting import count
from pipelines.packs.grouping import stack_key, why_alone
from pipelines.packs.member import Member
from pipelines.packs.stacked_models import StackedModels

_COPIES = 5  # of the weights of a run: its own, stacked, gradients and two of the optimizer


class Pack:
    """Runs that are trained together.

    Args:
        members: The runs.
        poll: Called between two steps, so that runs can be stopped.
        ended: Called with each run that has ended.
        note: Called with a sentence for the user.
    """

    def __init__(
        self,
        members: Sequence[Member],
        poll: Callable[[], None],
        ended: Callable[[Member], None],
        note: Callable[[str], None],
    ) -> None:
        self._members = list(members)
        self._poll, self._ended, self._note = poll, ended, note
        self._stack: StackedModels | None = None
        self._stacked: list[Member] = []  # whose models are in it
        self._full = False  # whether it was noticed that memory is short
        self._checked: set[Member] = set()  # whose models were found to compute in a stack what they do alone
        self._refused: set[object] = set()  # keys of models that can't be stacked

    def run(self) -> None:
        """Trains all runs to their ends."""
        waiting, running = deque(self._members), list[Member]()
        while waiting or running:
            while waiting and self._has_room(running):
                running.append(waiting.popleft())
                self._go_on(running[-1])
            running = [member for member in running if member.exit_code is None]
            if not running:
                continue
            group = self._next_group(running)
            if len(group) > 1:
                group = self._train_epoch(group)
            else:
                self._release()
            for member in group:
                self._go_on(member)

    def _has_room(self, running: list[Member]) -> bool:
        """Returns whether there is memory for another run; each has its weights, in the stack too, and activations."""
        models = [member.loop.model for member in running if member.exit_code is None]
        if not models:
            return True
        weights = sum(parameter.nbytes for parameter in models[0].parameters())
        fits = free_memory(models[0].device) > 2 * _COPIES * weights * (len(models) + 1)
        if not fits and not self._full:
            self._full = True
            self._note(f"memory is enough for {count(len(models), 'trial')} of a pack at a time; the others follow")
        return fits

    def _go_on(self, member: Member) -> None:
        self._poll()
        if member.exit_code is None:  # else it was stopped before it began
            member.go_on(self._poll)
        if member.exit_code is not None:
            member.release()
            self._ended(member)

    def _next_group(self, running: list[Member]) -> list[Member]:
        """Returns the least advanced run, with all others that can share its training steps."""
        first = min(running, key=lambda member: (member.loop.trainer.current_epoch, member.loop.batch_idx))
        reason = why_alone(first.loop)
        key = stack_key(first.loop)
        if reason is not None:
            self._refuse(key[0], reason)
            return [first]
        if key[:-2] in self._refused:
            return [first]
        return [member for member in running if why_alone(member.loop) is None and stack_key(member.loop) == key]

    def _train_epoch(self, members: list[Member]) -> list[Member]:
        """Takes the steps of the rest of an epoch for all members; leaves it to them if they can't be stacked.

        A member that ends within the epoch, such as one that is stopped, goes on immediately: the others may take
        minutes to the end of theirs.

        Returns:
            The members that have to go on.
        """
        source, key = members[0].loop, stack_key(members[0].loop)[:-2]
        is_first, is_last = True, False
        while True:
            self._poll()
            in_process = {m: is_first or m.stopping or m.loop.needs_process for m in members}
            is_first = False  # in which a resumed run takes over the random numbers of its checkpoint
            if source is not members[0].loop:  # whose loader it was has ended
                source = members[0].loop
                source.put_back()
            batch, is_last = source.next_batch()
            index = source.batch_idx + 1
            if not self._checked.issuperset(members):
                reason = self._stack_of(members).refusal(batch, index)
                if reason is not None:
                    self._refuse(key, reason)
                    self._release()
                    source.put_back()
                    return members
                self._checked.update(members)
            members = self._left(
                members,
                [self._act(member, in_process[member], member.loop.begin_step, batch, is_last) for member in members],
            )
            if not members:
                return []
            states = [member.random_state for member in members]
            with members[0].loop.trainer.precision_plugin.train_step_context():
                steps = self._stack_of(members).step(batch, states, index)
            stay = []
            for member, state, step in zip(members, states, steps, strict=True):
                member.random_state = state
                ended = self._act(member, in_process[member], member.loop.end_step, batch, step)
                stay.append(ended and (is_last or not member.loop.done))
            members = self._left(members, stay)
            if is_last or not members:
                return members

    def _left(self, members: list[Member], stay: list[bool]) -> list[Member]:
        """Returns the members that stay in the epoch; lets the others go on."""
        for member, stays in zip(members, stay, strict=True):
            if not stays:
                self._go_on(member)
        return [member for member, stays in zip(members, stay, strict=True) if stays]

    def _act(self, member: Member, in_process: bool, action: Callable[..., None], *arguments: Any) -> bool:
        """Calls an action of a member with its random numbers; returns whether it raised nothing.

        Args:
            member: The run.
            in_process: Whether all that belongs to a process has to be that of the run, which takes 0.2 ms.
            action: The action.
            arguments: Arguments of the action.
        """
        try:
            with member.in_its_process() if in_process else _random_numbers_of(member):
                action(*arguments)
        except BaseException as error:  # of this run alone, which raises it in its own turn
            member.loop.error = error
            return False
        return True

    def _stack_of(self, members: list[Member]) -> StackedModels:
        if self._stack is None or self._stacked != members:
            self._release()
            self._stack, self._stacked = StackedModels([member.loop.model for member in members]), members
        return self._stack

    def _release(self) -> None:
        if self._stack is not None:
            self._stack.release()
        self._stack, self._stacked = None, []

    def _refuse(self, key: object, reason: str) -> None:
        if key not in self._refused:
            self._refused.add(key)
            self._note(f"trials are trained one after the other: {reason}")


@contextmanager
def _random_numbers_of(member: Member) -> Iterator[None]:
    torch.set_rng_state(member.random_state)
    try:
        yield
    finally:
        member.random_state = torch.get_rng_state()


def free_memory(device: torch.device) -> int:
    """Returns the bytes of memory of a device that are free."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)
