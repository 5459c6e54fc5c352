"""The file with Ray's token for clusters of this user, which Ray creates readable for everyone."""

__all__ = ["create_ray_token", "ray_token_file"]

import os
import secrets
from pathlib import Path

from studies.private_files import create_private_folder, make_private, open_privately


def ray_token_file() -> Path:
    """Return the file from which Ray reads its token, whether or not it exists."""
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(named) if named else Path.home() / ".ray" / "auth_token"


def create_ray_token() -> None:
    """Create Ray's default token file if it is missing; in any case keep it from other users.

    A file that RAY_AUTH_TOKEN_PATH names is left as it is.

    Raises:
        OSError: the file cannot be written.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    file = ray_token_file()
    if not file.exists():
        create_private_folder(file.parent)
        part = file.with_name(f"{file.name}.{os.getpid()}")
        try:
            with open(part, "w", opener=open_privately) as writer:
                writer.write(secrets.token_hex(32))
            # A complete file appears at once, and the first of several processes wins.
            os.link(part, file)
        except FileExistsError:
            pass
        finally:
            part.unlink(missing_ok=True)
    make_private(file.parent)
    make_private(file)
