"""Addresses and ports for test servers."""

__all__ = ["free_port", "own_address"]

import socket

import pytest


def free_port() -> int:
    """Return a free port on the loopback address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def own_address() -> str:
    """Return a non-loopback address of this machine; Ray replaces a loopback address by its own choice."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Reserved for documentation; nothing is sent.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("needs a network interface besides the loopback")
        return str(probe.getsockname()[0])
