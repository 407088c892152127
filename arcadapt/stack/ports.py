"""Addresses: is a host name this machine only, and a port that nobody else can take in between."""

import errno
import ipaddress
import socket
from contextlib import closing
from typing import Final

from arcadapt.errors import StackError

LOOPBACK: Final = "127.0.0.1"
BACKLOG: Final = 512


def is_loopback(host: str) -> bool:
    """Whether every address of `host` is reachable from this machine only."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise StackError(f"--host {host}: no such address") from error
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)


def free_port() -> int:
    """A loopback TCP port that was free a moment ago."""
    with closing(socket.socket()) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def bind(host: str, *, port: int | None, preferred: int) -> socket.socket:
    """A TCP socket that listens on `port`; without one, to `preferred` or, where that is taken, to any free port.

    The caller hands the socket itself to the server process, so that no other process can take the port meanwhile.
    """
    if port is not None:
        try:
            return _bound(host, port)
        except OSError as error:
            reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
            raise StackError(f"port {port} on {host} {reason}; choose another with --port") from error
    for candidate in (preferred, 0):
        try:
            return _bound(host, candidate)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or candidate == 0:
                raise StackError(f"cannot listen on {host}: {error.strerror}") from error
    raise AssertionError("unreachable")  # pragma: no cover


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # uvicorn cannot tell that an inherited descriptor is TCP and leaves Nagle's algorithm on; Linux passes this
        # option on to every accepted connection.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound.bind(address)
        # Only a listening socket keeps others from binding the same address with SO_REUSEADDR.
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound
