"""The dispatcher's settings, from environment variables (`TANGENT_…`) or the command line.

The service reads the same names.
"""

__all__ = ["JOIN", "DispatcherSettings", "describe_invalid_setting"]

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, ValidationInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from studies.child_environment import passed_variables
from studies.database_urls import literal_folder, sqlite_url, with_password
from studies.logs import LogFormat
from workers.packages import package_folders

JOIN = "join:"
"""Prefix of an address whose cluster this machine first joins with a node of its own."""


def _matches_url(file: Path | None, info: ValidationInfo) -> Path | None:
    with_password(info.data.get("database_url", ""), file)
    return file


def _parsed(parse: Callable[[str], tuple[str, ...]]) -> BeforeValidator:
    """Return a validator that parses text; a default is not text."""

    def validate(value: Any) -> Any:
        return parse(value) if isinstance(value, str) else value

    return BeforeValidator(validate)


class DispatcherSettings(BaseSettings):
    """Where a dispatcher finds its database and its Ray cluster, and how many studies it runs."""

    model_config = SettingsConfigDict(env_prefix="TANGENT_", frozen=True, extra="ignore")

    home: Annotated[Path, AfterValidator(literal_folder)] = Field(
        default=Path.home() / ".tangent", description="Folder of the embedded database and the logs."
    )
    database_url: str = Field(
        default="", repr=False, description="Database URL; SQLite in `home` by default."
    )
    database_password_file: Annotated[Path | None, AfterValidator(_matches_url)] = Field(
        default=None, description="File with the database's password, if `database_url` has none."
    )
    checkpoints: str = Field(
        default="",
        description=(
            "Folder or URL for checkpoints and kept files, such as s3://bucket/tangent; any URL that fsspec "
            "supports. A folder in `home` by default. All machines of a cluster must reach it, and the "
            "service must read it to hand out what studies keep."
        ),
    )
    ray_address: str = Field(
        default="local",
        description=(
            "Ray cluster to run on. `local` starts one for this machine alone; `head` starts one that others "
            "can join and that trains nothing itself; `HOST:PORT` uses a cluster that this machine already "
            "has a node of; `join:HOST:PORT` first starts that node, which trains nothing."
        ),
    )
    ray_port: int = Field(default=6379, ge=1, le=65535, description="Port of a Ray `head`.")
    node_address: str = Field(
        default="",
        description=(
            "This machine's address or name, as the other nodes reach it; the address of its default route "
            "by default."
        ),
    )
    cpus: int | None = Field(default=None, gt=0, description="CPU cores of a local Ray; all by default.")
    max_runs: int = Field(default=2, gt=0, description="Studies that this dispatcher runs at once.")
    turn_s: float = Field(
        default=120.0,
        ge=1,
        description=(
            "Seconds of a time slice: how long a study keeps its run when more studies wait than can run. "
            "Must be the same for all dispatchers."
        ),
    )
    lease_s: float = Field(
        default=10.0,
        gt=1,
        description="Seconds without a heartbeat after which a study's run counts as lost.",
    )
    log_format: LogFormat = Field(
        default="console",
        description="Log format: `console` for readable lines, or `json` for one object per line.",
    )
    packages: Annotated[tuple[str, ...], NoDecode, _parsed(package_folders)] = Field(
        default=(),
        description=(
            "Absolute paths of folders with packages of your own, separated by colons. The dispatcher and "
            "all workers import from them too, as from installed packages."
        ),
    )
    trial_environment: Annotated[tuple[str, ...], NoDecode, _parsed(passed_variables)] = Field(
        default=(),
        description=(
            "Environment variables that trials receive besides the usual ones, separated by commas; HF_TOKEN "
            "or WANDB_*, for example."
        ),
    )
    parent_pid: int | None = Field(
        default=None, description="End when this process, which must be the parent, has ended."
    )

    @property
    def database(self) -> str:
        """The database URL, with the password."""
        if not self.database_url:
            return sqlite_url(self.home / "tangent.db")
        return with_password(self.database_url, self.database_password_file)

    @property
    def checkpoint_folder(self) -> str:
        """The folder of all checkpoints, as an absolute path or a URL."""
        folder = self.checkpoints or f"{self.home}/checkpoints"
        return folder.rstrip("/") if "://" in folder else str(Path(folder).expanduser().resolve())

    @property
    def name(self) -> str:
        """This dispatcher's name in leases: host and process."""
        return f"{socket.gethostname()}:{os.getpid()}"

    def checkpoints_of(self, study_id: str) -> str:
        """Return the folder of a study's checkpoints, as a path or URL."""
        return f"{self.checkpoint_folder}/{study_id}"

    @property
    def artifact_folder(self) -> str:
        """The folder of all files that studies keep, as an absolute path or a URL."""
        # No study has such an id, so it is not the folder of a study's checkpoints.
        return f"{self.checkpoint_folder}/kept-files"

    def artifacts_of(self, study_id: str) -> str:
        """Return the folder of the files that a study keeps, as a path or URL."""
        return f"{self.artifact_folder}/{study_id}"

    def log_of(self, study_id: str) -> Path:
        """Return the log file of a study's runs."""
        return self.home / "logs" / f"run-{study_id}.log"


def describe_invalid_setting(error: ValidationError) -> str:
    """Return the first problem with the settings, in one sentence."""
    first = error.errors()[0]
    variable = f"TANGENT_{first['loc'][0]}".upper() if first["loc"] else "settings"
    reason = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected", 1)
    return f"{variable}: {reason}, got {first['input']!r}"
