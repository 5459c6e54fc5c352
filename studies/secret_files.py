"""Secrets that lie in files.

An environment shows in listings of processes and containers, a file only to whom it is given.
"""

__all__ = ["read_secret", "with_password"]

from pathlib import Path
from urllib.parse import quote, urlsplit


def read_secret(file: Path) -> str:
    """Return the secret that a file holds: its one line, without what surrounds it.

    Raises:
        ValueError: the file cannot be read, or does not hold one line of text.
    """
    try:
        lines = file.read_text(encoding="utf-8").strip().splitlines()
    except OSError as error:
        raise ValueError(f"the secret's file {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"the secret's file {file} holds no text; expected the secret on one line") from None
    if len(lines) != 1:
        raise ValueError(
            f"the secret's file {file} has {len(lines)} lines; expected the secret alone, on one line"
        )
    return lines[0]


def with_password(url: str, file: Path | None) -> str:
    """Return a database's URL with the password that a file holds.

    Unchanged where there is no file, or the URL has a password already.

    Raises:
        ValueError: the file holds no secret, or the URL names no user whose password it could be.
    """
    if file is None:
        return url
    parts = urlsplit(url)
    if parts.password is not None:
        return url
    if not parts.username:
        raise ValueError(
            "a password's file goes with a database URL that names a user, such as "
            "postgresql+psycopg://USER@HOST/NAME"
        )
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}:{quote(read_secret(file), safe='')}@{host}").geturl()
