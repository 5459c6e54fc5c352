"""The settings of the service and its client, read once from the environment (`TANGENT_…`)."""

__all__ = ["ServiceSettings", "SettingsInvalid", "is_loopback", "local_url", "service_url"]

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from studies.database_urls import literal_folder, sqlite_url, with_password
from studies.errors import TangentError
from studies.logs import LogFormat, LogLevel
from studies.secret_files import read_secret
from studies.validation_errors import describe_expected

_ROOT_PATH = re.compile(r"(/[A-Za-z0-9_-][A-Za-z0-9._~-]*)*")
# The options whose names differ from their settings'.
_OPTIONS = {"database_url": "database", "ray_address": "ray"}
_OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class SettingsInvalid(TangentError):
    """A setting from the environment or an option is not valid. The message lists every fault on one line."""


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host; False for every name except localhost."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _split(value: Any) -> Any:
    return (
        tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    )


def _networks(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        try:
            ipaddress.ip_network(value)
        except ValueError:
            raise ValueError(
                f"expected addresses or networks such as 10.0.0.0/8, and {value[:80]!r} is neither"
            ) from None
    return values


def _http(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("expected a URL that starts with http:// or https://")
    return value.rstrip("/")


def _path(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    path = value.rstrip("/")
    if not _ROOT_PATH.fullmatch(path):
        raise ValueError("expected a path such as /tangent")
    return path


def service_url(url: str) -> str:
    """Return the URL of a service without a slash at its end, and without the `/v1` of its API."""
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def local_url(host: str, port: int) -> str:
    """Return the URL by which programs on this machine reach a service.

    Args:
        host: the address that it listens on; for one that means every address, the loopback address is used.
        port: its port.
    """
    # Compared, not bound.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1"}.get(host, host)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{port}"


def _default_url(data: dict[str, Any]) -> str:
    return f"{local_url(data.get('host', '127.0.0.1'), data.get('port', 8780))}{data.get('root_path', '')}"


def _own_database(data: dict[str, Any]) -> str:
    return sqlite_url(data["home"] / "tangent.db") if "home" in data else ""


def _matches_file(url: str, info: ValidationInfo) -> str:
    with_password(url, info.data.get("database_password_file"))
    return url


def _or_from_file(token: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
    file: Path | None = info.data.get("token_file")
    return SecretStr(read_secret(file)) if token is None and file is not None else token


class ServiceSettings(BaseSettings):
    """The settings of the service, its command line and its client."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="TANGENT_", env_ignore_empty=True, frozen=True, extra="forbid"
    )

    home: Annotated[Path, AfterValidator(literal_folder)] = Field(
        default=Path("~/.tangent"),
        validate_default=True,
        description="Folder of the embedded database and the logs.",
    )
    database_password_file: Path | None = Field(
        default=None, description="File with the database's password, for a `database_url` without one."
    )
    database_url: Annotated[str, AfterValidator(_matches_file)] = Field(
        default_factory=_own_database,
        validate_default=True,
        repr=False,
        description=(
            "sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/NAME; by default tangent.db in `home`."
        ),
    )
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        max_length=255,
        description="Address to listen on. Any address but loopback requires an API token.",
    )
    port: int = Field(default=8780, ge=1, le=65535, description="Port to listen on.")
    root_path: Annotated[str, BeforeValidator(_path)] = Field(
        default="",
        description=(
            "Path of the service on its host, such as /tangent, if a proxy serves it at "
            "https://lab.example/tangent/; by default none."
        ),
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=(),
        description=(
            "Host names of the service, separated by commas. Loopback names are always accepted. Without "
            "this setting, a service that other machines can reach accepts any name."
        ),
    )
    ray_address: str = Field(
        default="local",
        description=(
            "For the dispatcher: 'local' starts its own Ray, 'head' starts a Ray that other machines "
            "can join, and anything else is the address of a running one."
        ),
    )
    url: Annotated[str, AfterValidator(_http), AfterValidator(service_url)] = Field(
        default_factory=_default_url,
        description="URL of the service for its clients; by default from `host` and `port`.",
    )
    token_file: Path | None = Field(
        default=None, description="File with the API token, if `token` is not set."
    )
    token: Annotated[SecretStr | None, AfterValidator(_or_from_file)] = Field(
        default=None, validate_default=True, description="API token of the command line and the client."
    )
    trusted_proxies: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_networks)
    ] = Field(
        default=(),
        description=(
            "Addresses and networks of proxies in front of the service, separated by commas. The service "
            "trusts their X-Forwarded-For."
        ),
    )
    webhook_allow: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_networks)
    ] = Field(
        default=(),
        description=(
            "Addresses and networks besides the internet that webhooks may call, separated by commas, "
            "such as 127.0.0.0/8 or 10.1.0.0/16."
        ),
    )
    session_hours: float = Field(
        default=12.0,
        gt=0,
        le=24 * 365,
        allow_inf_nan=False,
        description="How long a browser stays logged in.",
    )
    rate_per_s: float = Field(
        default=50.0,
        ge=0,
        le=1e6,
        allow_inf_nan=False,
        description=(
            "Requests per second that a token, or an address without a valid one, may make; 0 means no limit."
        ),
    )
    log_level: LogLevel = Field(default="info", description="Level of the service's log.")
    log_format: LogFormat = Field(
        default="console",
        description="Format of the log: `console` for readers, or `json` with one object per line.",
    )
    otlp_endpoint: Annotated[str, AfterValidator(_http)] | None = Field(
        default=None,
        validation_alias=AliasChoices("otlp_endpoint", _OTLP_ENDPOINT),
        description=(
            "Base URL of the OpenTelemetry collector for traces (OTLP over HTTP); needs "
            "the extra `otel`. By default none."
        ),
    )

    @property
    def database(self) -> str:
        """The database URL, with the password."""
        return with_password(self.database_url, self.database_password_file)

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Return the settings from the environment; arguments that are not None override it.

        Raises:
            SettingsInvalid: a setting is not valid; the message lists every fault on one line.
        """
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            # A default that depends on an invalid setting is not a fault of its own.
            faults = [
                item
                for item in error.errors(include_url=False)
                if item["type"] != "default_factory_not_called"
            ]
            raise SettingsInvalid(
                "; ".join(
                    f"{_source(str(item['loc'][0]), given)}: {_describe_fault(item)}" for item in faults
                )
            ) from None


def _source(name: str, given: Mapping[str, Any]) -> str:
    """Return what set a setting: an option of the command line, or its environment variable."""
    variable, value = _variable(name), given.get(name)
    is_option = value is not None and os.environ.get(variable) != str(value)
    return f"--{_OPTIONS.get(name, name.replace('_', '-'))}" if is_option else variable


def _variable(name: str) -> str:
    """Return the environment variable of a setting; one of them is OpenTelemetry's."""
    return _OTLP_ENDPOINT if name in {"otlp_endpoint", _OTLP_ENDPOINT} else f"TANGENT_{name.upper()}"


def _describe_fault(item: Any) -> str:
    name, text = str(item["loc"][0]), item["input"]
    value = "" if name in {"token", "database_url"} else f", got {str(text)[:80]!r}"
    message = (
        str(item["ctx"]["error"])
        if item["type"] == "value_error"
        else describe_expected(item["type"], item.get("ctx", {})) or str(item["msg"])
    )
    return f"{message[:1].lower()}{message[1:]}{value}"
