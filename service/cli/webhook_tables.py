"""What webhooks and their deliveries look like in a terminal."""

__all__ = ["deliveries", "webhook", "webhooks"]

from collections.abc import Iterable
from datetime import datetime

from rich.table import Table
from rich.text import Text

from service.cli.output import table
from studies.formatting import ABSENT, ago
from studies.webhooks import DeliveryView, WebhookDetail, WebhookView


def _moment(at: datetime | None) -> str:
    return ABSENT if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _studies(found: WebhookView) -> str:
    return ("everybody's" if found.studies == "all" else "own") + (
        f", of suite {found.suite}" if found.suite else ""
    )


def webhooks(found: Iterable[WebhookView]) -> Table:
    """Return one row a webhook."""
    made = table(None, "id", "owner", "address", "events", "studies", "last taken", "state")
    for each in found:
        made.add_row(
            each.id,
            each.owner or ABSENT,
            each.url,
            ", ".join(each.events),
            _studies(each),
            ago(each.delivered_at),
            each.standing,
        )
    return made


def webhook(found: WebhookDetail) -> Table:
    """Return what there is to know of a webhook but its deliveries, one fact a row."""
    made = table(None, "", "")
    made.show_header = False
    rows = {
        "id": found.id,
        "address": found.url,
        "owner": found.owner or ABSENT,
        "events": ", ".join(found.events),
        "studies": _studies(found),
        "made": ago(found.created_at),
        "last taken": ago(found.delivered_at),
        "state": found.standing,
    }
    for name, value in rows.items():
        made.add_row(Text(name, style="dim"), value)
    return made


def deliveries(found: Iterable[DeliveryView]) -> Table:
    """Return one row a delivery."""
    made = table(
        None, "event", "study", "since", "state", "attempts", "answer", "next attempt", right=("attempts",)
    )
    for each in found:
        answer = each.error or (ABSENT if each.status_code is None else str(each.status_code))
        made.add_row(
            each.event,
            each.study_id or ABSENT,
            ago(each.created_at),
            each.state,
            str(each.attempts),
            answer,
            _moment(each.due_at),
        )
    return made
