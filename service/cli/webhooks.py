"""`tangent webhook create | list | show | test | enable | remove`."""

__all__ = ["app"]

import time
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.commands import Commands
from service.cli.connection import Token, Url, connected
from service.cli.errors import FAILED, CommandError
from service.cli.output import AsJson, console, print_json, print_raw
from studies.standard_error import write_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.client import Client
    from studies.webhooks import DeliveryView, WebhookView

WebhookId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of a webhook; `tangent webhook list` shows it.")
]

_POLL_S = 0.25

app = Commands(help="Send study events to your own URL.", no_args_is_help=True)


@app.command()
def create(
    address: Annotated[
        str,
        typer.Argument(
            metavar="ADDRESS", help="URL that receives the events, e.g. https://hooks.example/tangent."
        ),
    ],
    *,
    event: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "Send only this event; may be repeated: study.queued, study.running, study.paused, "
                "study.completed, study.cancelled, study.failed, study.noted. All events by default."
            ),
            metavar="EVENT",
            show_default=False,
        ),
    ] = None,
    of_all: Annotated[
        bool, typer.Option("--all", help="Send events of all studies, not only of your own; for admins.")
    ] = False,
    suite: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Send only events of studies in this suite.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Create a webhook and print its signing secret, which is not shown again."""
    request = {"url": address, "studies": "all" if of_all else "own", "suite": suite} | (
        {"events": event} if event else {}
    )
    with connected(url, token) as service:
        created = service.client.create_webhook(request)
    if as_json:
        print_json(created.model_dump(mode="json"))
        return
    write_line(
        f"Created webhook {created.id}. Its secret is shown only once; receivers verify signatures with it:"
    )
    print_raw(created.secret)


@app.command("list")
def list_(*, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """List your webhooks; admins see all webhooks."""
    from service.cli import webhook_tables

    with connected(url, token) as service:
        found = list(islice(_every(service.client), 10_000))
    if as_json:
        print_json([webhook.model_dump(mode="json") for webhook in found])
    else:
        console().print(
            webhook_tables.webhooks(found)
            if found
            else "There are no webhooks; create one with `tangent webhook create ADDRESS`."
        )


def _every(client: "Client") -> "Iterator[WebhookView]":
    page_token: str | None = None
    while True:
        page = client.webhooks(page_size=500, page_token=page_token)
        yield from page.items
        page_token = page.next_page_token
        if page_token is None:
            return


@app.command()
def show(webhook: WebhookId, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """Show a webhook and its latest deliveries, with their responses and next attempts."""
    from service.cli import webhook_tables

    with connected(url, token) as service:
        found = service.client.webhook(webhook)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    out = console()
    out.print(webhook_tables.webhook(found))
    if found.deliveries:
        out.print()
        out.print(webhook_tables.deliveries(found.deliveries))


@app.command("test")
def send_ping(
    webhook: WebhookId,
    *,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, max=600, help="How long to wait for the result.")
    ] = 20.0,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Send a ping and show the result."""
    with connected(url, token) as service:
        ping = service.client.test_webhook(webhook)
        deadline = time.monotonic() + wait
        while ping.state == "pending" and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            ping = next(
                (each for each in service.client.webhook(webhook).deliveries if each.id == ping.id), ping
            )
    if as_json:
        print_json(ping.model_dump(mode="json"))
        raise typer.Exit(0 if ping.state == "delivered" else FAILED)
    _print_result(ping)


def _print_result(ping: "DeliveryView") -> None:
    match ping.state:
        case "delivered":
            print_raw(f"delivered: the receiver answered {ping.status_code}")
        case "failed":
            raise CommandError(f"the ping was not delivered: {ping.error}")
        case _:
            raise CommandError("the ping has not been delivered yet; `tangent webhook show` shows its state")


@app.command()
def enable(webhook: WebhookId, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """Enable a disabled webhook; it receives events from now on."""
    with connected(url, token) as service:
        enabled = service.client.enable_webhook(webhook)
    if as_json:
        print_json(enabled.model_dump(mode="json"))
    else:
        print_raw(f"{enabled.id} is enabled")


@app.command()
def remove(webhook: WebhookId, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """Remove a webhook and its pending deliveries."""
    with connected(url, token) as service:
        service.client.remove_webhook(webhook)
    if as_json:
        print_json({"id": webhook, "removed": True})
    else:
        print_raw(f"{webhook} is removed")
