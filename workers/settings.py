"""The dispatcher's settings, from the environment (`TANGENT_…`) or the command line.

The service reads the same names.
"""

__all__ = ["JOIN", "DispatcherSettings", "fault"]

import os
import socket
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from studies.logs import LogFormat
from studies.secret_files import with_password

JOIN = "join:"
"""What an address begins with when a node of its Ray is to be started on this machine first."""


def _goes_with_url(file: Path | None, info: ValidationInfo) -> Path | None:
    with_password(info.data.get("database_url", ""), file)
    return file


class DispatcherSettings(BaseSettings):
    """Where a dispatcher finds its database and its Ray, and how it watches over runs."""

    model_config = SettingsConfigDict(env_prefix="TANGENT_", frozen=True, extra="ignore")

    home: Path = Field(
        default=Path.home() / ".tangent", description="Folder of the embedded database and of the logs."
    )
    database_url: str = Field(default="", repr=False, description="Database; by default SQLite in `home`.")
    database_password_file: Annotated[Path | None, AfterValidator(_goes_with_url)] = Field(
        default=None, description="File with the database's password, for a `database_url` that has none."
    )
    checkpoints: str = Field(
        default="",
        description=(
            "Folder or URL (any that fsspec knows, such as s3://…) of what trials leave at a rung; by "
            "default in `home`. All machines of a cluster must reach it."
        ),
    )
    ray_address: str = Field(
        default="local",
        description=(
            "Ray to run on: `local` starts one for this machine alone, `head` one that others can join and "
            "that trains nothing itself, `HOST:PORT` is a cluster's head whose node on this machine runs "
            "already, `join:HOST:PORT` starts that node, which trains nothing, first."
        ),
    )
    ray_port: int = Field(default=6379, ge=1, le=65535, description="Port of a Ray's `head`.")
    node_address: str = Field(
        default="",
        description=(
            "Address or name of this machine by which the other nodes of its Ray reach it; by "
            "default where its routes lead out."
        ),
    )
    cpus: int | None = Field(default=None, gt=0, description="CPU cores of a local Ray; by default all.")
    max_runs: int = Field(default=2, gt=0, description="Studies that this dispatcher runs at once.")
    turn_s: float = Field(
        default=120.0,
        ge=1,
        description=(
            "Seconds for which a study keeps its place where more want one than there "
            "are; the same for all dispatchers."
        ),
    )
    lease_s: float = Field(
        default=10.0,
        gt=1,
        description="Seconds without a sign of life after which a study's run counts as lost.",
    )
    log_format: LogFormat = Field(
        default="console",
        description="How logs are written: `console`, lines for people, or `json`, one object a line.",
    )
    parent_pid: int | None = Field(
        default=None, description="End when this process, which must be the parent, has ended."
    )

    @property
    def database(self) -> str:
        """The database's URL, password included."""
        if not self.database_url:
            return f"sqlite:///{self.home.expanduser()}/tangent.db"
        return with_password(self.database_url, self.database_password_file)

    @property
    def owns_ray(self) -> bool:
        """Whether the dispatcher starts a Ray, or a node of one, and so ends with it."""
        return self.ray_address in {"local", "head"} or self.ray_address.startswith(JOIN)

    def checkpoints_of(self, study_id: str) -> str:
        """Return the folder of a study's checkpoints, as a path or URL."""
        return f"{self.checkpoint_folder}/{study_id}"

    def log_of(self, study_id: str) -> Path:
        """Return the log of a study's runs."""
        return self.home.expanduser() / "logs" / f"run-{study_id}.log"

    @property
    def checkpoint_folder(self) -> str:
        """The folder of all checkpoints, as an absolute path or a URL."""
        given = self.checkpoints or f"{self.home}/checkpoints"
        return given.rstrip("/") if "://" in given else str(Path(given).expanduser().resolve())

    @property
    def name(self) -> str:
        """This dispatcher, as it signs leases: host and process."""
        return f"{socket.gethostname()}:{os.getpid()}"


def fault(error: ValidationError) -> str:
    """Return the first fault of settings in one sentence."""
    first = error.errors()[0]
    return f"setting {'.'.join(map(str, first['loc']))}: {first['msg']}, got {first['input']!r}"
