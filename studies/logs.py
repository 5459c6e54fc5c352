"""Logs of every process of Tangent.

Lines for people, or one JSON object a line, each with the study, trial or request that it is about.

What is logged goes through the standard library (`logging.getLogger("tangent.…")`), from libraries too;
structlog writes it down. Fields come from `extra={…}` of one message, from `structlog.contextvars` for as
long as something lasts, and from `configure_logging` for the whole process.
"""

__all__ = ["LogFormat", "LogLevel", "LogStream", "configure_logging", "message_of"]

import io
import json
import logging
import re
from collections.abc import Callable, MutableMapping
from typing import Annotated, Any, Literal, TextIO, cast

from pydantic import BeforeValidator


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


LogFormat = Annotated[Literal["console", "json"], BeforeValidator(_lower)]
LogLevel = Annotated[Literal["critical", "error", "warning", "info", "debug"], BeforeValidator(_lower)]

_Event = MutableMapping[str, Any]
_Processor = Callable[[Any, str, _Event], _Event | str | bytes | bytearray | tuple[Any, ...]]

# Written below their line, as they are.
_LONG = frozenset({"exception", "stack"})
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class _Handler(logging.StreamHandler[TextIO]):
    """The handler that a second call of `configure_logging` replaces."""


def configure_logging(form: LogFormat, *, level: LogLevel = "info", **always: str | int) -> None:
    """Send what this process logs to standard error from now on; called again, it changes how.

    A process that has set up logging before, and a test, keeps its own handlers; then only the level of our
    own messages is set.

    Args:
        form: `console` for people, `json` for machines.
        level: how much of our own messages is written; of libraries' only warnings, unless it is `debug`.
        always: fields of every line, such as `study_id`.
    """
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, _Handler):
            root.removeHandler(handler)
    if not root.handlers:
        handler = _Handler()
        handler.setFormatter(_formatter(form, always))
        root.addHandler(handler)
        # What libraries have to say of their starting and ending is noise beside our own.
        root.setLevel("DEBUG" if level == "debug" else "WARNING")
    logging.getLogger("tangent").setLevel(level.upper())


class LogStream(io.TextIOBase):
    """Standard output of a process whose libraries print: each line becomes a warning of a logger."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._begun = ""

    def write(self, text: str, /) -> int:
        """Log the lines that this completes."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            if line.strip():
                self._logger.warning("%s", _COLOUR.sub("", line))
        return len(text)


def message_of(line: str) -> str:
    """Return what a line of a log tells a person.

    Of a JSON object the last line of its error, else its message; any other line as it is.
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
    # Its import takes a tenth of a second, and the command line, which reads the same settings, needs none of
    # it.
    import structlog

    def add_always(_logger: Any, _method: str, event: _Event) -> _Event:
        # What one message says of itself goes before what all say.
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
            _drop_foreign,
            *_written(form),
        ],
    )


def _written(form: LogFormat) -> list[_Processor]:
    import structlog

    if form == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    # Its own way with exceptions shows the values of variables, and a token may be one.
    show = structlog.dev.ConsoleRenderer(
        colors=False, pad_event_to=0, pad_level=False, exception_formatter=structlog.dev.plain_traceback
    )
    return [_on_one_line, show]


def _drop_foreign(_logger: Any, _method: str, event: _Event) -> _Event:
    """Leave out what libraries add to every record.

    Uvicorn a copy with the terminal's colours, Ray a time of its own.
    """
    for name in ("color_message", "_ray_timestamp_ns"):
        event.pop(name, None)
    return event


def _on_one_line(_logger: Any, _method: str, event: _Event) -> _Event:
    """Escape what would end a line or steer a terminal: parts of requests stand in messages."""
    return {
        name: _CONTROL.sub(_escaped, value) if isinstance(value, str) and name not in _LONG else value
        for name, value in event.items()
    }


def _escaped(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode("ascii")
