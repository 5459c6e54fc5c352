"""Ports for servers that tests start."""

__all__ = ["free_port"]

import socket


def free_port() -> int:
    """Return a port of the loopback address that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
