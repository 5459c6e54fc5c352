"""Terminal tables of webhooks and their deliveries."""

__all__ = ["deliveries", "webhook", "webhooks"]

from collections.abc import Iterable
from datetime import datetime

from rich.table import Table

from service.cli.fitted_table import FittedTable, facts
from studies.formatting import ABSENT, ago
from studies.webhooks import DeliveryView, WebhookDetail, WebhookView


def _time(at: datetime | None) -> str:
    return ABSENT if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _studies(webhook: WebhookView) -> str:
    return ("all" if webhook.studies == "all" else "own") + (
        f", in suite {webhook.suite}" if webhook.suite else ""
    )


def webhooks(rows: Iterable[WebhookView]) -> FittedTable:
    """Return a table with one row per webhook."""
    result = FittedTable(
        "id",
        "owner",
        "URL",
        "events",
        "studies",
        "last delivery",
        "state",
        text={"URL": 24, "events": 16, "studies": 12},
    )
    for each in rows:
        result.add_row(
            each.id,
            each.owner or ABSENT,
            each.url,
            ", ".join(each.events),
            _studies(each),
            ago(each.delivered_at),
            each.standing,
        )
    return result


def webhook(detail: WebhookDetail) -> Table:
    """Return a table with one fact about a webhook per row, without its deliveries."""
    rows = {
        "id": detail.id,
        "URL": detail.url,
        "owner": detail.owner or ABSENT,
        "events": ", ".join(detail.events),
        "studies": _studies(detail),
        "created": ago(detail.created_at),
        "last delivery": ago(detail.delivered_at),
        "state": detail.standing,
    }
    return facts(rows)


def deliveries(rows: Iterable[DeliveryView]) -> FittedTable:
    """Return a table with one row per delivery."""
    result = FittedTable(
        "event",
        "study",
        "created",
        "state",
        "attempts",
        "response",
        "next attempt",
        right=("attempts",),
        text={"response": 16},
    )
    for each in rows:
        response = each.error or (ABSENT if each.status_code is None else str(each.status_code))
        result.add_row(
            each.event,
            each.study_id or ABSENT,
            ago(each.created_at),
            each.state,
            str(each.attempts),
            response,
            _time(each.due_at),
        )
    return result
