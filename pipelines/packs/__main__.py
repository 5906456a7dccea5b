"""Trains a pack in a process: `python -m pipelines.packs DESCRIPTOR`.

The process that starts it sends the trials through a socket, may stop single trials by their numbers, and is told how
each ends.
"""

import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipelines.console.lightning_messages import quiet
from pipelines.console.resources import allow_many_files
from pipelines.console.signals import stop_signals
from pipelines.packs.member import Member
from pipelines.packs.member_cli import SharedParts
from pipelines.packs.pack import Pack
from pipelines.run.allocator import keep_freed_memory


def main(descriptor: int) -> None:
    """Trains the trials that are received, and sends ("ended", number, exit status), ("alone", number, reason) or
    ("note", None, sentence)."""
    allow_many_files()
    keep_freed_memory()
    quiet()
    connection = Connection(descriptor)
    shared = SharedParts()
    jobs: list[tuple[int, list[str], dict[str, str], Path]] = connection.recv()
    members = [Member(*job, shared) for job in jobs]

    def stop_all(signum: int, frame: Any) -> None:
        for member in members:
            member.stop(signum)

    def poll() -> None:
        while connection.poll():
            number = connection.recv()
            next(member for member in members if member.number == number).stop(signal.SIGTERM)

    def ended(member: Member) -> None:
        kind, value = ("alone", member.alone) if member.alone is not None else ("ended", member.exit_code)
        connection.send((kind, member.number, value))

    for number in stop_signals():
        signal.signal(number, stop_all)
    Pack(members, poll, ended, lambda sentence: connection.send(("note", None, sentence))).run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
