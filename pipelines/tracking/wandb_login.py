"""Where W&B's server is, and whether the user is logged in there. It needs no import that takes time."""

import netrc
import os
import socket
from typing import Any, Literal, cast
from urllib.parse import urlsplit

PROJECT = "lightning-231n"

_PROBE_SECONDS = 3.0  # for a TCP connection to the server

Mode = Literal["online", "offline", "disabled"]


def wandb_mode() -> Mode:
    """What `WANDB_MODE` says; without it online if an API key is known for the server, offline otherwise."""
    asked = os.environ.get("WANDB_MODE", "")
    if asked in ("online", "offline", "disabled"):
        return cast(Mode, asked)
    if asked == "dryrun":  # wandb's older word
        return "offline"
    return "online" if logged_in() else "offline"


def logged_in() -> bool:
    """Whether there is an API key for the W&B server in use, in the environment or as `wandb login` leaves it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(_server().hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def server_name() -> str:
    """W&B's host, or that of the company's own server."""
    return str(_server().netloc)


def reachable() -> bool:
    """Whether W&B's server, or the proxy before it, accepts a connection."""
    server = _server()
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    if proxy:
        server = urlsplit(proxy)
    try:
        port = server.port or (80 if server.scheme == "http" else 443)
        socket.create_connection((server.hostname, port), timeout=_PROBE_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True


def _server() -> Any:
    return urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai")
