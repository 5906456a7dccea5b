"""Proxy in front of a server, chosen by the environment as W&B's client chooses it; for downloads too.

The rules are those of Go's net/http, in which the client is written; ALL_PROXY, which curl and requests also know, is
added. https://pkg.go.dev/golang.org/x/net/http/httpproxy
"""

import ipaddress
import os
from typing import Any
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


def proxy_of(url: str) -> str | None:
    """Returns the URL of the proxy for a server, such as "http://10.0.0.1:3128", or None for a direct connection.

    A proxy without a scheme is an HTTP proxy. A server on loopback, or one that NO_PROXY names, has none.

    Args:
        url: URL of the server.
    """
    server = urlsplit(url)
    proxy = _variable(f"{server.scheme}_proxy") or _variable("all_proxy")
    if not proxy or _excluded(server.hostname or "", address(server)[1]):
        return None
    return proxy if urlsplit(proxy).scheme in _PORTS and "://" in proxy else f"http://{proxy}"


def pass_on_all_proxy() -> None:
    """Gives W&B's client the proxy of ALL_PROXY, which it does not look at, in this process and those it starts."""
    if proxy := _variable("all_proxy"):
        for name in ("http_proxy", "https_proxy"):
            if not _variable(name):
                os.environ[name] = proxy


def address(server: Any) -> tuple[str, int]:
    """Returns host and port of a split URL.

    Raises:
        ValueError: If the port is not a number in [0, 65535].
    """
    return server.hostname or "", server.port or _PORTS.get(server.scheme, 443)


def _variable(name: str) -> str | None:
    return os.environ.get(name.upper()) or os.environ.get(name)


def _excluded(host: str, port: int) -> bool:
    """Returns whether a host is on loopback or in NO_PROXY: `*`, names with their subdomains, addresses, networks."""
    number = _ip(host)
    if host == "localhost" or (number is not None and number.is_loopback):
        return True
    for entry in (_variable("no_proxy") or "").lower().split(","):
        pattern, _, own_port = entry.strip().partition(":") if entry.count(":") == 1 else (entry.strip(), "", "")
        if not pattern or (own_port and own_port != str(port)):
            continue
        if pattern == "*" or pattern.strip("[]") == host:
            return True
        if number is not None and "/" in pattern and _in_network(number, pattern):
            return True
        suffix = pattern.removeprefix("*")
        if host.endswith(suffix if suffix.startswith(".") else f".{suffix}"):
            return True
    return False


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _in_network(number: ipaddress.IPv4Address | ipaddress.IPv6Address, network: str) -> bool:
    try:
        return number in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
