"""Secrets read from files.

Environment variables show in listings of processes and containers; a file is readable only by its owner.
"""

__all__ = ["read_secret"]

from pathlib import Path


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
