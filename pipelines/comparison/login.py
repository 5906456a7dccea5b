"""Whether W&B knows who the user is: an API key in the environment or in .netrc, as `wandb login` leaves it."""

import netrc
import os
from urllib.parse import urlsplit


def logged_in() -> bool:
    """Whether there is an API key for the W&B server in use."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
