"""Start a Ray on this machine, for it alone or as the head of a cluster, or join one as a worker.

`python -m workers.node HOST:PORT` is what `tangent worker join` runs: it lends this machine's cores and GPUs
to the Ray cluster whose head is at that address. This module does not import Ray.
"""

__all__ = ["check_token_mode", "join", "main", "start_head", "start_local"]

import argparse
import logging
import os
import signal
import socket
import sys
import threading

from pydantic import ValidationError

from studies.logs import configure_logging
from studies.process_tree import adopt_orphans
from studies.secret_files import read_secret
from studies.standard_error import write_line
from workers.node_process import LOCAL_ENVIRONMENT, OBJECT_STORE_BYTES, NodeFailed, NodeProcess
from workers.package_versions import describe_packages
from workers.packages import use_packages
from workers.ray_token import ray_token_file
from workers.settings import DispatcherSettings, describe_invalid_setting

_log = logging.getLogger("tangent.node")
_CONNECT_WITHIN_S = 5.0
# Reserved for documentation (RFC 5737). Nothing is sent to it: the route to it shows which of this machine's
# addresses faces outwards.
_OUTSIDE_ADDRESS = ("192.0.2.1", 9)


def check_token_mode() -> None:
    """Raise NodeFailed unless this process, and so the Ray that it starts or joins, requires a token.

    Ray reads the variable when it is imported, so setting it here would be too late.
    """
    if os.environ.get("RAY_AUTH_MODE") != "token":
        raise NodeFailed(
            "a Ray cluster without a token lets anyone who can reach it run programs on it; set "
            "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the token's file"
        )


def start_local(*, cpus: int | None) -> NodeProcess:
    """Start a Ray for this machine alone; it ends with this process, and may not be ready yet.

    Args:
        cpus: cores to lend to trials; None for all.
    """
    options = [] if cpus is None else [f"--cpus={cpus}"]
    command = _command("workers.local_node", *options)
    return NodeProcess(command, environment=LOCAL_ENVIRONMENT, has_workers=True)


def start_head(*, port: int, node_address: str, cpus: int) -> NodeProcess:
    """Start a head that other nodes can join; it ends with this process, and may not be ready yet.

    Args:
        port: where other nodes reach it.
        node_address: this machine's address or name, as others reach it; empty for the address of its default
            route.
        cpus: cores that the head itself lends to trials.

    Raises:
        NodeFailed: the head cannot be started.
    """
    _check_token()
    host = _own_address(node_address, towards=_OUTSIDE_ADDRESS)
    if host.startswith("127."):
        raise NodeFailed(
            f"other machines cannot reach a Ray head at {host}; set TANGENT_NODE_ADDRESS to this machine's "
            "address on the network of its workers"
        )
    options = ["--head", f"--port={port}", "--include-dashboard=false", *_options(host, cpus=cpus, gpus=0)]
    return NodeProcess(
        _command("workers.ray_start", *options, "--block"), address=f"{host}:{port}", has_workers=cpus > 0
    )


def join(address: str, *, node_address: str, cpus: int | None, gpus: int | None) -> NodeProcess:
    """Join the cluster whose head is at `HOST:PORT`.

    The new node ends with this process, and may not be ready yet.

    Args:
        address: the head's.
        node_address: this machine's address or name, as others reach it; empty for the address from which it
            reaches the head.
        cpus: cores to lend to trials; None for all.
        gpus: GPUs to lend to trials; None for all.

    Raises:
        NodeFailed: no head answers there, it rejects this machine's token, or the node cannot be started.
    """
    name, colon, port = address.rpartition(":")
    if not (name and colon and port.isdecimal() and 0 < int(port) < 2**16):
        raise NodeFailed(f"expected HOST:PORT of a Ray head, such as 10.0.0.1:6379, got {address!r}")
    _check_token()
    try:
        with socket.create_connection((name, int(port)), timeout=_CONNECT_WITHIN_S) as connection:
            # Ray needs an address. A name may have several; this one answered.
            head = str(connection.getpeername()[0])
    except OSError as error:
        raise NodeFailed(
            f"no Ray head answers at {address}: {error.strerror or error}; start one there with "
            "`python -m workers --ray head`, or give another address"
        ) from error
    host = _own_address(node_address, towards=(head, int(port)))
    options = [f"--address={head}:{port}", *_options(host, cpus=cpus, gpus=gpus)]
    return NodeProcess(
        _command("workers.ray_start", *options, "--block"),
        address=f"{head}:{port}",
        has_workers=(cpus, gpus) != (0, 0),
    )


def main() -> int:
    """Lend this machine until SIGTERM or SIGINT, and return 0.

    Return 1, with an error on stderr, if the node cannot be started or ends by itself.
    """
    parser = argparse.ArgumentParser(
        prog="python -m workers.node", description="Lend this machine's cores and GPUs to a Ray cluster."
    )
    parser.add_argument("address", help="HOST:PORT of the head")
    parser.add_argument("--cpus", type=int, help="CPU cores to lend (default: all)")
    parser.add_argument("--gpus", type=int, help="GPUs to lend (default: all)")
    parser.add_argument(
        "--node-address", default="", help="this machine's address or name, as the other nodes reach it"
    )
    arguments = parser.parse_args()
    try:
        configure_logging(DispatcherSettings().log_format, process="worker", node=socket.gethostname())
    except ValidationError as error:
        write_line(f"error: {describe_invalid_setting(error)}")
        return 1
    adopt_orphans()
    is_ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: is_ending.set())
    try:
        node = join(
            arguments.address,
            node_address=arguments.node_address,
            cpus=arguments.cpus,
            gpus=arguments.gpus,
        )
        node.wait_until_ready()
    except NodeFailed as error:
        write_line(f"error: {error}")
        return 1
    use_packages(os.environ.get("TANGENT_PACKAGES", "").split(os.pathsep))
    _log.info("joined %s; packages of workloads and optimizers: %s", arguments.address, describe_packages())
    node.call_when_ended(is_ending.set)
    is_ending.wait()
    has_ended = node.has_ended
    node.stop()
    if has_ended:
        write_line(
            f"error: this machine's node of the Ray cluster at {arguments.address} has ended: "
            f"{node.last_line}"
        )
    return 1 if has_ended else 0


def _command(module: str, *options: str) -> list[str]:
    # -P keeps the working directory off the path: it may contain another package named `workers`.
    return [sys.executable, "-u", "-P", "-m", module, *options]


def _options(host: str, *, cpus: int | None, gpus: int | None) -> list[str]:
    lent = [
        f"--num-{kind}={number}" for kind, number in (("cpus", cpus), ("gpus", gpus)) if number is not None
    ]
    return [
        f"--node-ip-address={host}",
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        "--disable-usage-stats",
        *lent,
    ]


def _check_token() -> None:
    """Raise NodeFailed unless Ray will find its token, or is configured not to use one."""
    if os.environ.get("RAY_AUTH_MODE", "token") != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    try:
        read_secret(ray_token_file())
    except ValueError as error:
        raise NodeFailed(
            f"{error}; set RAY_AUTH_TOKEN_PATH to the file with this cluster's token, the same on all its "
            "machines"
        ) from None


def _own_address(named: str, *, towards: tuple[str, int]) -> str:
    """Return this machine's IPv4 address: that of `named` if given, else of the route to `towards`."""
    try:
        if named:
            return socket.gethostbyname(named)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # This sends nothing: connecting a datagram socket only looks up its route.
            probe.connect(towards)
            return str(probe.getsockname()[0])
    except OSError as error:
        if named:
            raise NodeFailed(
                f"{named!r} is not an address of this machine: {error.strerror}; set TANGENT_NODE_ADDRESS to "
                "one that is"
            ) from error
        return "127.0.0.1"


if __name__ == "__main__":
    sys.exit(main())
