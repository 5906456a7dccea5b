"""Mode, server and login state of W&B, found without importing wandb, which is slow."""

import netrc
import os
import socket
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from common.errors import UserError
from common.proxy import address, proxy_of
from pipelines.tracking.wandb_settings import base_url, wandb_setting

_PROBE_SECONDS = 3.0  # for a TCP connection to the server

Mode = Literal["online", "offline", "disabled", "shared"]
# W&B's words for each mode; dryrun and run are its former names.
_MODES: dict[str, Mode] = {
    "online": "online",
    "run": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
    "shared": "shared",
}


def wandb_mode(given: str | None = None) -> Mode:
    """Returns the mode that W&B is set to; otherwise online with an API key for the server, offline without.

    WANDB_MODE sets it, or `wandb offline`, `wandb online`, `wandb disabled` and `wandb enabled` for one folder.

    Args:
        given: Mode of the run's configuration, which precedes these; None if it has none.

    Raises:
        UserError: If W&B has no such mode.
    """
    given = given or wandb_setting("mode")
    if given is None:
        return "online" if logged_in() else "offline"
    if given not in _MODES:
        source = "WANDB_MODE" if os.environ.get("WANDB_MODE") else "The mode in W&B's settings file"
        raise UserError(f"{source} is {given!r}; use online, offline or disabled.")
    return _MODES[given]


def logged_in() -> bool:
    """Returns whether there are credentials for the server, where W&B's client looks for them.

    They are WANDB_API_KEY, WANDB_IDENTITY_TOKEN_FILE, a line in .netrc, which `wandb login` writes, or a settings file.
    """
    return any(wandb_setting(name) for name in ("api_key", "identity_token_file")) or _in_netrc()


def _in_netrc() -> bool:
    """Returns whether .netrc has a password for the server and its port, as `wandb login` writes it."""
    given = os.environ.get("NETRC")
    files = [Path(given)] if given else [Path("~/.netrc"), Path("~/_netrc")]
    file = next((path for path in map(Path.expanduser, files) if path.exists()), None)
    if file is None:
        return False
    try:
        found = netrc.netrc(file).authenticators(urlsplit(base_url()).netloc)
    except (OSError, UnicodeDecodeError, netrc.NetrcParseError):
        return False
    return found is not None and bool(found[2])


def server_name() -> str:
    """Returns host and port of W&B or of a self-hosted server, without a user name and password."""
    return base_url().partition("://")[2].rpartition("@")[2].partition("/")[0]


def reachable() -> bool:
    """Returns whether W&B's server, or the proxy in front of it, accepts a connection."""
    return accepts_connections(base_url())


def accepts_connections(url: str) -> bool:
    """Returns whether a server, or the proxy in front of it, accepts a connection within seconds."""
    try:
        server = proxy_of(url) or url
        socket.create_connection(address(urlsplit(server)), timeout=_PROBE_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True
