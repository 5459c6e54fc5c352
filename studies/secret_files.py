"""Secrets read from files.

Environment variables show in listings of processes and containers; a file is readable only by its owner.
"""

__all__ = ["read_secret", "with_password"]

from pathlib import Path
from urllib.parse import quote, urlsplit


def read_secret(file: Path) -> str:
    """Return the secret in a file: its one line, without surrounding white space.

    Raises:
        ValueError: the file cannot be read, or does not hold one line of text.
    """
    try:
        lines = file.read_text(encoding="utf-8").strip().splitlines()
    except OSError as error:
        raise ValueError(f"cannot read the secret file {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(
            f"expected the secret as one line of UTF-8 text in {file}, got binary data"
        ) from None
    if len(lines) != 1:
        raise ValueError(f"expected the secret as one line of text in {file}, got {len(lines)} lines")
    return lines[0]


def with_password(url: str, file: Path | None) -> str:
    """Return a database URL with the password from a file.

    The URL stays as it is if there is no file, or if it has a password already.

    Raises:
        ValueError: the file cannot be read as a secret, or the URL has no user name.
    """
    if file is None:
        return url
    parts = urlsplit(url)
    if parts.password is not None:
        return url
    if not parts.username:
        raise ValueError(
            "a password file needs a database URL with a user name; write postgresql+psycopg://USER@HOST/NAME"
        )
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}:{quote(read_secret(file), safe='')}@{host}").geturl()
