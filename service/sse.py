"""Server-sent events as a reader meets them: lines in, events out."""

__all__ = ["parse_events"]

from collections.abc import Iterable, Iterator

from studies.views import EventView


def parse_events(lines: Iterable[str]) -> Iterator[EventView]:
    """Yield the events in a stream's lines; comments and fields that say nothing of an event are passed over.

    Source: HTML Living Standard, section 9.2.6. An event that was cut off before its empty line is none.
    """
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield EventView.model_validate_json("\n".join(data))
            data = []
