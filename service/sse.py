"""Parses server-sent events on the client."""

__all__ = ["parse_events"]

from collections.abc import Iterable, Iterator

from studies.views import EventView


def parse_events(lines: Iterable[str]) -> Iterator[EventView]:
    """Yield the events in a stream's lines, without comments and other fields.

    Source: HTML Living Standard, section 9.2.6. An event without its final empty line is
    incomplete and dropped.
    """
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield EventView.model_validate_json("\n".join(data))
            data = []
