"""The dispatcher's settings, from the environment (`TANGENT_…`) or the command line; the service reads the same names."""

__all__ = ["Settings"]

import os
import socket
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Where a dispatcher finds its database and its Ray, and how it watches over runs."""

    model_config = SettingsConfigDict(env_prefix="TANGENT_", frozen=True, extra="ignore")

    home: Path = Field(default=Path.home() / ".tangent", description="Folder of the embedded database and of the logs.")
    database_url: str = Field(default="", description="Database; by default SQLite in `home`.")
    checkpoints: str = Field(
        default="",
        description="Folder or URL (any that fsspec knows, such as s3://…) of what trials leave at a rung; by default in `home`. All machines of a "
        "cluster must reach it.",
    )
    ray_address: str = Field(default="local", description="Ray to run on: `local` starts one on this machine, else `HOST:PORT` of a cluster's head.")
    cpus: int | None = Field(default=None, gt=0, description="CPU cores of a local Ray; by default all.")
    max_runs: int = Field(default=2, gt=0, description="Studies that this dispatcher runs at once.")
    lease_s: float = Field(default=10.0, gt=1, description="Seconds without a sign of life after which a study's run counts as lost.")
    parent_pid: int | None = Field(default=None, description="End when this process, which must be the parent, has ended.")

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.home.expanduser()}/tangent.db"

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
