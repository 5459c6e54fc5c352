"""Real servers between a client and a service: an HTTP proxy, one that terminates TLS, and nginx's binary."""

import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["certificate", "http_proxy", "nginx_binary", "tls_front"]


def nginx_binary() -> str | None:
    """Return the path of nginx, which Debian installs outside the search path of users; None without it."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def certificate(folder: Path, *, names: str = "DNS:localhost,IP:127.0.0.1") -> tuple[Path, Path]:
    """Return the files of a new self-signed certificate and of its key."""
    made, key = folder / "cert.pem", folder / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-days", "2", "-subj", "/CN=lab", "-addext", f"subjectAltName={names}"]
    subprocess.run([*words, "-keyout", key, "-out", made], check=True, capture_output=True)
    return made, key


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(65536):
            sink.sendall(content)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _join(near: socket.socket, far: socket.socket) -> None:
    """Pass bytes both ways until one end closes."""
    back = threading.Thread(target=_pump, args=(far, near), daemon=True)
    back.start()
    _pump(near, far)
    back.join()
    near.close()
    far.close()


@contextmanager
def _listening(handle: Callable[[socket.socket], None]) -> Generator[int]:
    """Accept connections, each handled in a thread of its own, and yield the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(near,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@contextmanager
def tls_front(target: int, cert: Path, key: Path) -> Generator[int]:
    """Terminate TLS in front of a local port, and yield the port that speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    def handle(near: socket.socket) -> None:
        with suppress(OSError):
            _join(
                context.wrap_socket(near, server_side=True), socket.create_connection(("127.0.0.1", target))
            )
        near.close()

    with _listening(handle) as port:
        yield port


@contextmanager
def http_proxy(target: int, *, refusal: bytes | None = None) -> Generator[str]:
    """Run an HTTP proxy that knows every host by one local port, and yield its URL.

    Args:
        target: the port.
        refusal: the status line with which it refuses every request.
    """

    def handle(near: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (more := near.recv(65536)):
                near.close()
                return
            head += more
        method, address, rest = head.split(b" ", 2)
        if refusal is not None:
            near.sendall(b"HTTP/1.1 " + refusal + b"\r\ncontent-length: 0\r\n\r\n")
            near.close()
            return
        far = socket.create_connection(("127.0.0.1", target))
        if method == b"CONNECT":
            near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            path = b"/" + address.split(b"/", 3)[3]
            far.sendall(b" ".join([method, path, rest]))
        _join(near, far)

    with _listening(handle) as port:
        yield f"http://127.0.0.1:{port}"
