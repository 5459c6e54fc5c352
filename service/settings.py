"""Where the service listens and what it serves.

One frozen `ServiceSettings`, read from the environment (`TANGENT_…`) once, at the start.
"""

__all__ = ["ServiceSettings", "SettingsInvalid", "is_loopback", "local_url"]

import ipaddress
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

from studies.errors import TangentError
from studies.logs import LogFormat, LogLevel
from studies.secret_files import read_secret, with_password

_OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class SettingsInvalid(TangentError):
    """A setting, from the environment or an option, cannot be used.

    The message names each on the one line.
    """


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address.

    A name other than localhost counts as reachable by others.
    """
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
    return local_url(data.get("host", "127.0.0.1"), data.get("port", 8780))


def _own_database(data: dict[str, Any]) -> str:
    return f"sqlite:///{data['home'] / 'tangent.db'}" if "home" in data else ""


def _complete(url: str, info: ValidationInfo) -> str:
    return with_password(url, info.data.get("database_password_file"))


def _or_from_file(token: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
    file: Path | None = info.data.get("token_file")
    return SecretStr(read_secret(file)) if token is None and file is not None else token


class ServiceSettings(BaseSettings):
    """Everything that the environment can say to the service, its command line and its client."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="TANGENT_", env_ignore_empty=True, frozen=True, extra="forbid"
    )

    home: Annotated[Path, AfterValidator(Path.expanduser)] = Field(
        default=Path("~/.tangent"),
        validate_default=True,
        description="Folder of the embedded database and of logs.",
    )
    database_password_file: Path | None = Field(
        default=None, description="File with the database's password, for a `database_url` that has none."
    )
    database_url: Annotated[str, AfterValidator(_complete)] = Field(
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
        description="Address to listen on; any but loopback needs an API token to exist.",
    )
    port: int = Field(default=8780, ge=1, le=65535, description="Port to listen on.")
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=(),
        description=(
            "Names that the service may be called by, apart by commas; loopback names always count, and "
            "while none are given any name does for a service that others can reach."
        ),
    )
    ray_address: str = Field(
        default="local",
        description=(
            "For the dispatcher: 'local' starts a Ray of its own, 'head' one that other machines "
            "can join, else the address of one."
        ),
    )
    url: Annotated[str, AfterValidator(_http)] = Field(
        default_factory=_default_url,
        description="Where the command line and the client find the service; by default `host` and `port`.",
    )
    token_file: Path | None = Field(
        default=None, description="File with the API token, where `token` is not given."
    )
    token: Annotated[SecretStr | None, AfterValidator(_or_from_file)] = Field(
        default=None, validate_default=True, description="API token of the command line and the client."
    )
    trusted_proxies: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_networks)
    ] = Field(
        default=(),
        description=(
            "Addresses and networks of proxies before the service, apart by commas: what they say in "
            "X-Forwarded-For of where a request came from is believed."
        ),
    )
    webhook_allow: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_networks)
    ] = Field(
        default=(),
        description=(
            "Addresses and networks besides the internet that webhooks may lead to, apart by commas, "
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
            "Requests a second that a token, or an address without one, may make "
            "of this service; 0 for any number."
        ),
    )
    log_level: LogLevel = Field(default="info", description="How much the service writes to its log.")
    log_format: LogFormat = Field(
        default="console",
        description="How it is written: `console`, lines for people, or `json`, one object a line.",
    )
    otlp_endpoint: Annotated[str, AfterValidator(_http)] | None = Field(
        default=None,
        validation_alias=AliasChoices("otlp_endpoint", _OTLP_ENDPOINT),
        description=(
            "Base URL of an OpenTelemetry collector that gets traces (OTLP over HTTP); needs "
            "the extra `otel`. By default none."
        ),
    )

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Return the settings of the environment; whatever is given here, and not None, goes before it.

        Raises:
            SettingsInvalid: with every fault, on one line.
        """
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            # A default made from a faulty setting is no fault of its own.
            faults = [
                item
                for item in error.errors(include_url=False)
                if item["type"] != "default_factory_not_called"
            ]
            raise SettingsInvalid(
                "; ".join(f"{_variable(str(item['loc'][0]))}: {_sentence(item)}" for item in faults)
            ) from None


def _variable(name: str) -> str:
    """Return the environment variable of a setting; one belongs to OpenTelemetry."""
    return _OTLP_ENDPOINT if name in {"otlp_endpoint", _OTLP_ENDPOINT} else f"TANGENT_{name.upper()}"


def _sentence(item: Any) -> str:
    name, given = str(item["loc"][0]), item["input"]
    came = "" if name in {"token", "database_url"} else f", got {str(given)[:80]!r}"
    message = str(item["ctx"]["error"]) if item["type"] == "value_error" else str(item["msg"])
    return f"{message[:1].lower()}{message[1:]}{came}"
