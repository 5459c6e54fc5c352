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
    ray_address: str = Field(default="local", description="Ray to run on: `local` starts one on this machine, else `HOST:PORT` of a cluster's head.")
    cpus: int | None = Field(default=None, gt=0, description="CPU cores of a local Ray; by default all.")
    max_runs: int = Field(default=2, gt=0, description="Studies that this dispatcher runs at once.")
    lease_s: float = Field(default=10.0, gt=1, description="Seconds without a sign of life after which a study's run counts as lost.")
    parent_pid: int | None = Field(default=None, description="End when this process, which must be the parent, has ended.")

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.home.expanduser()}/tangent.db"

    def log_of(self, study_id: str) -> Path:
        """Return the log of a study's runs."""
        return self.home.expanduser() / "logs" / f"run-{study_id}.log"

    @property
    def name(self) -> str:
        """This dispatcher, as it signs leases: host and process."""
        return f"{socket.gethostname()}:{os.getpid()}"
