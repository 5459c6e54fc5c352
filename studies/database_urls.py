"""Database URLs: of a file, with a password from a file, and without their passwords for readers.

This module does not import SQLAlchemy, because the command line reads its settings too often to wait for it.
"""

__all__ = [
    "has_password",
    "literal_folder",
    "mask_tracebacks",
    "masked",
    "masked_url",
    "sqlite_url",
    "with_password",
]

import re
import sys
import traceback
from pathlib import Path
from types import TracebackType
from urllib.parse import quote, unquote

from studies.secret_files import read_secret

_HIDDEN = "***"
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
# A password that was not percent-encoded may contain / and @, so it reaches to the last @.
_PASSWORD_OF_URL = re.compile(rf"^({_SCHEME}[^:/@]*|(?!.*://)[^:/@]*):.*@", re.DOTALL)
# Within a word that ends with @. The lengths are limited so that the time is proportional to the word's.
_PASSWORD_IN_WORD = re.compile(
    r"((?:postgres|mysql|mariadb|oracle|mssql|sqlite)[a-z0-9+.-]{0,30}://[^\s:/@]*):\S*@", re.IGNORECASE
)
_WORD_TO_LAST_AT = re.compile(r"(?<!\S)\S*@")
# Other URLs may be followed by an @ that does not end a password.
_PASSWORD_OF_ANY_URL = re.compile(r"(://[^\s:/@]*):[^\s/@]+@")
_ARGUMENT = re.compile(r"(?P<before>[?&]|(?<![^\s'\"]))(?P<name>[\w%.-]+)=(?P<value>'[^']*'|[^&\s]*)")
_SECRET_NAME = re.compile(r"password|passwd|secret", re.IGNORECASE)
_USER = re.compile(rf"^({_SCHEME})([^:/@]*)(:.*)?@", re.DOTALL)


def literal_folder(folder: Path) -> Path:
    """Return a folder that the user names as an absolute path.

    Raises:
        ValueError: SQLite cannot open files in it, because its name is not UTF-8.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise ValueError("expected a path in UTF-8; rename the folder, or choose another") from None
    return folder.expanduser().absolute()


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file; every character of the path is part of its name."""
    return f"sqlite:///{quote(str(path), safe='/ +')}"


def with_password(url: str, file: Path | None) -> str:
    """Return a database URL with the password from a file.

    The URL stays as it is if there is no file, or if it has a password already.

    Raises:
        ValueError: the file cannot be read as a secret, or the URL has no user name.
    """
    found = _USER.match(url)
    if file is None or (found is not None and found[3] is not None) or "password=" in url:
        return url
    if found is None or not found[2]:
        raise ValueError(
            "a password file needs a database URL with a user name; write postgresql+psycopg://USER@HOST/NAME"
        )
    return f"{found[1]}{found[2]}:{quote(read_secret(file), safe='')}@{url[found.end() :]}"


def has_password(url: str) -> bool:
    """Return whether a database URL contains a password, in its user information or its query."""
    return masked_url(url) != url


def masked_url(url: str) -> str:
    """Return a database URL without its passwords, whether or not it is valid."""
    return _PASSWORD_OF_URL.sub(rf"\1:{_HIDDEN}@", _without_arguments(url))


def masked(text: str) -> str:
    """Return a text without the passwords of the database URLs and connection strings in it."""
    # Every password has one of these characters before or after it.
    if "@" not in text and "=" not in text:
        return text
    text = _WORD_TO_LAST_AT.sub(
        lambda word: _PASSWORD_IN_WORD.sub(rf"\1:{_HIDDEN}@", word[0]), _without_arguments(text)
    )
    return _PASSWORD_OF_ANY_URL.sub(rf"\1:{_HIDDEN}@", text)


def mask_tracebacks() -> None:
    """Hide passwords in the traceback with which this process may end from now on."""
    sys.excepthook = _print_masked


def _print_masked(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    sys.stderr.write(masked("".join(traceback.format_exception(kind, error, trace))))


def _without_arguments(text: str) -> str:
    def hide(found: re.Match[str]) -> str:
        is_secret = _SECRET_NAME.search(unquote(found["name"])) is not None
        return f"{found['before']}{found['name']}={_HIDDEN}" if is_secret else found[0]

    return _ARGUMENT.sub(hide, text)
