"""The certificates that the client trusts: from `SSL_CERT_FILE`, from `SSL_CERT_DIR`, or certifi's."""

__all__ = ["tls_context"]

import os
import ssl
from pathlib import Path

import httpx

from service.service_unreachable import ServiceUnreachable


def tls_context(url: str) -> ssl.SSLContext:
    """Return the context for connections to a service; without https, it trusts no certificate.

    Raises:
        ServiceUnreachable: a variable of the environment names no certificates.
    """
    if not url.lower().startswith("https:"):
        # Loading the certificates takes longer than a request.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file:
        try:
            return ssl.create_default_context(cafile=file)
        except ssl.SSLError:
            reason = "it contains no certificate in PEM format"
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
        raise ServiceUnreachable(
            f"SSL_CERT_FILE: cannot read certificates from {file}: {reason}; correct or unset the variable"
        )
    if folder:
        if not Path(folder).is_dir():
            raise ServiceUnreachable(f"SSL_CERT_DIR: {folder} is not a folder; correct or unset the variable")
        return ssl.create_default_context(capath=folder)
    return httpx.create_ssl_context(trust_env=False)
