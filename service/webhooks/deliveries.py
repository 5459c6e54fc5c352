"""The work of sending deliveries, beside the answering of requests, for as long as the service runs.

Several services on one database share it: see `studies.store.outbox`.
"""

__all__ = ["DeliverySettings", "DeliveryWorker"]

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import anyio
import anyio.to_thread
from structlog.contextvars import bound_contextvars

from service.webhooks.sending import Sender
from studies.errors import StoreUnavailable
from studies.store import Store
from studies.webhooks import AttemptOutcome, Delivery

_LOG = logging.getLogger("tangent.webhooks")
_AT_ONCE = 64
_AT_ONCE_EACH = 2
_THREADS = 4
_LEASE_S = 60.0
_SETTLE_TRIES = 4
_KEPT = timedelta(days=30)
_TIDY_EVERY_S = 3600.0
_T = TypeVar("_T")


@dataclass(frozen=True)
class DeliverySettings:
    """How often deliveries are looked for, and how long they are waited for, in seconds.

    Attributes:
        poll_s: between two looks at the store.
        pause_s: the same while the store does not answer.
        whole_s: how long an attempt may take.
        grace_s: how long attempts under way may go on once the service ends.
    """

    poll_s: float = 1.0
    pause_s: float = 3.0
    whole_s: float = 10.0
    grace_s: float = 2.0


class DeliveryWorker:
    """Sends what is due, at most 64 deliveries at once and two of one webhook.

    Args:
        allow: networks besides the internet that webhooks may lead to.
        version: version of the service.
        count: told what became of each attempt.
        pace: how often it looks.
    """

    def __init__(
        self,
        *,
        allow: Sequence[str],
        version: str,
        count: Callable[[AttemptOutcome], None],
        settings: DeliverySettings | None = None,
    ) -> None:
        self._allow = allow
        self._version = version
        self._count = count
        self._settings = settings or DeliverySettings()
        self._threads: anyio.CapacityLimiter | None = None

    @asynccontextmanager
    async def running(self, store: Store) -> AsyncGenerator[None]:
        """Send what is due from now until the context is left.

        What is under way then has a moment to end, and is given back if it does not.
        """
        # Threads of their own: a database that is slow to answer must not keep requests waiting.
        self._threads = anyio.CapacityLimiter(_THREADS)
        closing = asyncio.Event()
        work = asyncio.create_task(self._work(store, closing), name="webhooks")
        try:
            yield
        finally:
            closing.set()
            await work

    async def _work(self, store: Store, closing: asyncio.Event) -> None:
        try:
            async with Sender(
                allow=self._allow, version=self._version, lookups=_AT_ONCE, whole_s=self._settings.whole_s
            ) as sender:
                await self._send_what_is_due(store, sender, closing)
        except Exception:  # noqa: BLE001 # told in the log
            # Certificates that cannot be read, for one: the service does all else that it is there for.
            _LOG.exception("no webhook is sent any more until the service is started anew")

    async def _send_what_is_due(self, store: Store, sender: Sender, closing: asyncio.Event) -> None:
        under_way: dict[asyncio.Task[None], str] = {}
        something_ended = asyncio.Event()
        tidied_at = -_TIDY_EVERY_S
        is_store_away = False

        def end(task: asyncio.Task[None]) -> None:
            del under_way[task]
            something_ended.set()

        while not closing.is_set():
            wait_s = self._settings.poll_s
            something_ended.clear()
            try:
                if time.monotonic() - tidied_at >= _TIDY_EVERY_S:
                    await self._in_thread(lambda: store.delete_settled_deliveries(older_than=_KEPT))
                    tidied_at = time.monotonic()
                for delivery in await self._claim(
                    store, busy=frozenset(under_way.values()), most=_AT_ONCE - len(under_way)
                ):
                    task = asyncio.create_task(self._deliver(store, sender, delivery))
                    under_way[task] = delivery.webhook_id
                    task.add_done_callback(end)
                is_store_away = False
            except StoreUnavailable as error:
                if not is_store_away:
                    _LOG.warning("webhooks wait for the database: %s", error)
                is_store_away = True
                wait_s = self._settings.pause_s
            except Exception:  # noqa: BLE001 # told in the log
                # Whatever it is, requests are answered on, and the next look may fare better.
                _LOG.exception("webhooks could not be looked for")
                wait_s = self._settings.pause_s
            await _first_of(closing, something_ended, within_s=wait_s)
        await self._end(list(under_way))

    async def _end(self, under_way: list[asyncio.Task[None]]) -> None:
        if not under_way:
            return
        _, late = await asyncio.wait(under_way, timeout=self._settings.grace_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def _claim(self, store: Store, *, busy: frozenset[str], most: int) -> tuple[Delivery, ...]:
        if most <= 0:
            return ()
        return await self._in_thread(
            lambda: store.claim_deliveries(
                lease_s=_LEASE_S, limit=most, limit_per_webhook=_AT_ONCE_EACH, busy=busy
            )
        )

    async def _deliver(self, store: Store, sender: Sender, delivery: Delivery) -> None:
        """Send a delivery and note what came of it."""
        about = {} if delivery.study_id is None else {"study_id": delivery.study_id}
        with bound_contextvars(webhook_id=delivery.webhook_id, delivery_id=delivery.id, **about):
            try:
                answer = await sender.send(delivery)
                became = await self._settle(lambda: store.settle_delivery(delivery, answer))
            except asyncio.CancelledError:
                with suppress(StoreUnavailable):
                    await self._in_thread(lambda: store.release_delivery(delivery))
                raise
            except StoreUnavailable as error:
                # It is sent once more when its lease has ended.
                _LOG.warning("what came of a delivery could not be noted: %s", error)
                return
            except Exception:  # noqa: BLE001 # told in the log
                _LOG.exception("%s could not be delivered", delivery.event)
                return
            self._count(became)
            told = logging.INFO if answer.is_delivered else logging.WARNING
            _LOG.log(
                told,
                "%s to webhook %s, attempt %d: %s%s",
                delivery.event,
                delivery.webhook_id,
                delivery.attempt,
                became,
                _why(answer.error),
            )

    async def _settle(self, note: Callable[[], AttemptOutcome]) -> AttemptOutcome:
        """Return what became of a delivery, asking a database that is just away several times.

        Forgotten, it would be sent again.

        Raises:
            StoreUnavailable: it does not come back.
        """
        for _ in range(_SETTLE_TRIES - 1):
            try:
                return await self._in_thread(note)
            except StoreUnavailable:
                await asyncio.sleep(self._settings.pause_s)
        return await self._in_thread(note)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await anyio.to_thread.run_sync(work, limiter=self._threads)


def _why(error: str | None) -> str:
    return "" if error is None else f", {error}"


async def _first_of(*happened: asyncio.Event, within_s: float) -> None:
    """Return when one of these has happened, or the time is over."""
    waits = [asyncio.create_task(each.wait()) for each in happened]
    try:
        await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
