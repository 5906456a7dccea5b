"""A stand-in for W&B's server on loopback, just enough for the real client, its agent and its command line.

What it answers was learned from what wandb 0.31 asks; docs/wandb.md says what was tried against it.
"""

from tests.wandb_server.runs import Run
from tests.wandb_server.server import WandbServer
from tests.wandb_server.sweeps import Sweep

__all__ = ["Run", "Sweep", "WandbServer"]
