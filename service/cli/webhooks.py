"""`tangent webhook create | list | show | test | enable | remove`."""

__all__ = ["app"]

import time
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.connection import AsJson, Token, Url, connected
from service.cli.errors import CommandError
from service.cli.output import console, print_json, print_raw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.client import Client
    from studies.webhooks import DeliveryView, WebhookView

WebhookId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of a webhook; `tangent webhook list` shows it.")
]

_POLL_S = 0.25

app = typer.Typer(
    help="Be told, at an address of your own, of what happens to studies.", no_args_is_help=True
)


@app.command()
def create(
    address: Annotated[
        str,
        typer.Argument(metavar="ADDRESS", help="Where to send it, such as https://hooks.example/tangent."),
    ],
    *,
    event: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "Tell of this; may be given several times: study.queued, study.running, study.paused, "
                "study.completed, study.cancelled, study.failed. By default of all."
            ),
            metavar="EVENT",
            show_default=False,
        ),
    ] = None,
    of_all: Annotated[
        bool, typer.Option("--all", help="Tell of everybody's studies, not only of yours; for admins.")
    ] = False,
    suite: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Tell only of studies with this label.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Make a webhook and print its secret, which is never shown again: receivers check signatures with it."""
    asked = {"url": address, "studies": "all" if of_all else "own", "suite": suite} | (
        {"events": event} if event else {}
    )
    with connected(url, token) as service:
        made = service.client.create_webhook(asked)
    if as_json:
        print_json(made.model_dump(mode="json"))
        return
    typer.echo(f"Webhook {made.id}. This is shown once; receivers check signatures with it:", err=True)
    print_raw(made.secret)


@app.command("list")
def list_(*, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """List your webhooks; an admin's list has everybody's."""
    from service.cli import webhook_tables

    with connected(url, token) as service:
        found = list(islice(_every(service.client), 10_000))
    if as_json:
        print_json([webhook.model_dump(mode="json") for webhook in found])
    else:
        console().print(
            webhook_tables.webhooks(found)
            if found
            else "There are no webhooks; make one with `tangent webhook create ADDRESS`."
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
    """Show a webhook and its newest deliveries: what came of each, and when it is tried again."""
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
        float, typer.Option(metavar="SECONDS", min=0, max=600, help="Wait so long for what comes of it.")
    ] = 20.0,
    url: Url = None,
    token: Token = None,
) -> None:
    """Send a ping and tell what came of it."""
    with connected(url, token) as service:
        ping = service.client.test_webhook(webhook)
        deadline = time.monotonic() + wait
        while ping.state == "pending" and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            ping = next(
                (each for each in service.client.webhook(webhook).deliveries if each.id == ping.id), ping
            )
    _tell(ping)


def _tell(ping: "DeliveryView") -> None:
    match ping.state:
        case "delivered":
            print_raw(f"the receiver took it: {ping.status_code}")
        case "failed":
            raise CommandError(f"the ping was not taken: {ping.error}")
        case _:
            raise CommandError("the ping is still on its way; `tangent webhook show` tells what comes of it")


@app.command()
def enable(webhook: WebhookId, *, url: Url = None, token: Token = None) -> None:
    """Enable a webhook that was disabled: it is told what happens from now on."""
    with connected(url, token) as service:
        print_raw(f"{service.client.enable_webhook(webhook).id} is enabled")


@app.command()
def remove(webhook: WebhookId, *, url: Url = None, token: Token = None) -> None:
    """Remove a webhook, and what was still to be sent to it."""
    with connected(url, token) as service:
        service.client.remove_webhook(webhook)
    print_raw(f"{webhook} is removed")
