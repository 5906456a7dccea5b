"""W&B server and login state, read without importing wandb, which is slow."""

import netrc
import os
import socket
from typing import Any, Literal, cast
from urllib.parse import urlsplit

PROJECT = "lightning-231n"

_PROBE_SECONDS = 3.0  # for a TCP connection to the server

Mode = Literal["online", "offline", "disabled"]


def wandb_mode() -> Mode:
    """Returns WANDB_MODE if it is set; otherwise online with an API key for the server, offline without."""
    mode = os.environ.get("WANDB_MODE", "")
    if mode in ("online", "offline", "disabled"):
        return cast(Mode, mode)
    if mode == "dryrun":  # wandb's former name
        return "offline"
    return "online" if logged_in() else "offline"


def logged_in() -> bool:
    """Returns whether there is an API key for the server, in WANDB_API_KEY or where `wandb login` stores it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(_server().hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def server_name() -> str:
    """Returns the host of W&B or of a self-hosted server."""
    return str(_server().netloc)


def reachable() -> bool:
    """Returns whether the server, or the proxy in front of it, accepts a connection."""
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
