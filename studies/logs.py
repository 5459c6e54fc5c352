"""Logging for every process of Tangent: readable lines, or one JSON object per line.

Our code and libraries log through the standard library (`logging.getLogger("tangent.…")`); structlog formats
the records. Fields such as the study, trial or request come from `extra={…}` for one message, from
`structlog.contextvars` for a scope, and from `configure_logging` for the whole process.
"""

__all__ = ["LogFormat", "LogLevel", "LogStream", "configure_logging", "message_of", "without_colours"]

import io
import json
import logging
import re
from collections.abc import Callable, MutableMapping
from typing import Annotated, Any, Literal, TextIO, cast

from pydantic import BeforeValidator

from studies.control_characters import escape_controls
from studies.database_urls import mask_tracebacks, masked


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


LogFormat = Annotated[Literal["console", "json"], BeforeValidator(_lower)]
LogLevel = Annotated[Literal["critical", "error", "warning", "info", "debug"], BeforeValidator(_lower)]

_Event = MutableMapping[str, Any]
_Processor = Callable[[Any, str, _Event], _Event | str | bytes | bytearray | tuple[Any, ...]]

# Fields that are written below their line, as several lines.
_MULTILINE = frozenset({"exception", "stack"})
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class _Handler(logging.StreamHandler[TextIO]):
    """The handler that a second call of `configure_logging` replaces."""


def configure_logging(form: LogFormat, *, level: LogLevel = "info", **always: str | int) -> None:
    """Log to standard error from now on; call again to change the format or level.

    If the process (or a test) has set up other handlers, they stay, and only the level of our own loggers
    changes.

    Args:
        form: `console` for readable lines, `json` for log collectors.
        level: of our own loggers; libraries log only warnings unless it is `debug`.
        always: fields in every line, such as `study_id`.
    """
    mask_tracebacks()
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, _Handler):
            root.removeHandler(handler)
    if not root.handlers:
        handler = _Handler()
        handler.setFormatter(_formatter(form, always))
        root.addHandler(handler)
        # Below warnings, libraries log mostly their own start and stop.
        root.setLevel("DEBUG" if level == "debug" else "WARNING")
    logging.getLogger("tangent").setLevel(level.upper())


class LogStream(io.TextIOBase):
    """A replacement for standard output that logs each printed line as a warning.

    For processes whose libraries print.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._partial = ""

    def write(self, text: str, /) -> int:
        """Log every line that `text` completes."""
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            if line.strip():
                self._logger.warning("%s", without_colours(line))
        return len(text)


def without_colours(line: str) -> str:
    """Return a printed line without the escape sequences of its colours."""
    return _COLOUR.sub("", line)


def message_of(line: str) -> str:
    """Return the message of a log line.

    For a JSON line this is the last line of its exception, or else its event; other lines are returned as
    they are.
    """
    try:
        found = json.loads(line)
    except ValueError:
        return line
    if not isinstance(found, dict) or "event" not in found:
        return line
    fields = cast("dict[str, Any]", found)
    error = str(fields.get("exception") or "").strip().splitlines()
    return error[-1] if error else str(fields["event"])


def _formatter(form: LogFormat, always: dict[str, str | int]) -> logging.Formatter:
    # The import takes a tenth of a second, and the command line, which reads the same settings, does not log.
    import structlog

    def add_always(_logger: Any, _method: str, event: _Event) -> _Event:
        # Fields of the message override fields of the process.
        return {**always, **event}

    gather: list[_Processor] = [
        structlog.stdlib.ExtraAdder(),
        structlog.contextvars.merge_contextvars,
        add_always,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=gather,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _drop_library_fields,
            *_renderers(form),
        ],
    )


def _renderers(form: LogFormat) -> list[_Processor]:
    import structlog

    if form == "json":
        return [structlog.processors.format_exc_info, _mask, structlog.processors.JSONRenderer(default=str)]
    # structlog's default traceback shows the values of variables, which may be tokens.
    show = structlog.dev.ConsoleRenderer(
        colors=False, pad_event_to=0, pad_level=False, exception_formatter=structlog.dev.plain_traceback
    )
    return [structlog.processors.format_exc_info, _mask, _escape, show]


def _drop_library_fields(_logger: Any, _method: str, event: _Event) -> _Event:
    """Drop fields that libraries add to every record: Uvicorn's coloured copy and Ray's own timestamp."""
    for name in ("color_message", "_ray_timestamp_ns"):
        event.pop(name, None)
    return event


def _mask(_logger: Any, _method: str, event: _Event) -> _Event:
    """Hide passwords of database URLs, which messages and exceptions of libraries may quote."""
    return {name: masked(value) if isinstance(value, str) else value for name, value in event.items()}


def _escape(_logger: Any, _method: str, event: _Event) -> _Event:
    """Escape line breaks and terminal control characters, because messages may quote requests."""
    return {
        name: escape_controls(value, multiline=name in _MULTILINE) if isinstance(value, str) else value
        for name, value in event.items()
    }
