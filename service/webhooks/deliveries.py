"""The worker that sends webhook deliveries while the service runs.

Several services on one database share the work: see `studies.store.outbox`.
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
_MAX_RUNNING = 64
_MAX_RUNNING_PER_WEBHOOK = 2
_THREADS = 4
_LEASE_S = 60.0
_SETTLE_ATTEMPTS = 4
_KEPT = timedelta(days=30)
_CLEAN_EVERY_S = 3600.0
_T = TypeVar("_T")


@dataclass(frozen=True)
class DeliverySettings:
    """The intervals of the worker, in seconds.

    Attributes:
        poll_s: between two reads of the store.
        pause_s: the same while the store does not answer.
        timeout_s: how long an attempt may take.
        grace_s: how long running attempts may go on once the service ends.
    """

    poll_s: float = 1.0
    pause_s: float = 3.0
    timeout_s: float = 10.0
    grace_s: float = 2.0


class DeliveryWorker:
    """Sends due deliveries, at most 64 at once and two of one webhook.

    Args:
        allow: networks besides the internet that webhooks may call.
        version: version of the service.
        count: called with the outcome of each attempt.
        settings: its intervals.
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
        """Send due deliveries until the context is left.

        Attempts that are still running then have a moment to end, and are released otherwise.
        """
        # Its own threads: a slow database must not delay requests.
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
                allow=self._allow,
                version=self._version,
                lookups=_MAX_RUNNING,
                timeout_s=self._settings.timeout_s,
            ) as sender:
                await self._send_due(store, sender, closing)
        except Exception:  # noqa: BLE001 # logged
            # For example certificates that cannot be read. The rest of the service goes on.
            _LOG.exception("webhook deliveries have stopped; restart the service to send them again")

    async def _send_due(self, store: Store, sender: Sender, closing: asyncio.Event) -> None:
        running_tasks: dict[asyncio.Task[None], str] = {}
        attempt_ended = asyncio.Event()
        cleaned_at = -_CLEAN_EVERY_S
        is_store_down = False

        def end(task: asyncio.Task[None]) -> None:
            del running_tasks[task]
            attempt_ended.set()

        while not closing.is_set():
            wait_s = self._settings.poll_s
            attempt_ended.clear()
            try:
                if time.monotonic() - cleaned_at >= _CLEAN_EVERY_S:
                    await self._in_thread(lambda: store.delete_settled_deliveries(older_than=_KEPT))
                    cleaned_at = time.monotonic()
                for delivery in await self._claim(
                    store, busy=frozenset(running_tasks.values()), limit=_MAX_RUNNING - len(running_tasks)
                ):
                    task = asyncio.create_task(self._deliver(store, sender, delivery))
                    running_tasks[task] = delivery.webhook_id
                    task.add_done_callback(end)
                is_store_down = False
            except StoreUnavailable as error:
                if not is_store_down:
                    _LOG.warning("webhooks wait for the database: %s", error)
                is_store_down = True
                wait_s = self._settings.pause_s
            except Exception:  # noqa: BLE001 # logged
                # The next read of the store may succeed.
                _LOG.exception("due webhook deliveries could not be read")
                wait_s = self._settings.pause_s
            await _wait_for_any(closing, attempt_ended, within_s=wait_s)
        await self._end(list(running_tasks))

    async def _end(self, running_tasks: list[asyncio.Task[None]]) -> None:
        if not running_tasks:
            return
        _, late = await asyncio.wait(running_tasks, timeout=self._settings.grace_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def _claim(self, store: Store, *, busy: frozenset[str], limit: int) -> tuple[Delivery, ...]:
        if limit <= 0:
            return ()
        return await self._in_thread(
            lambda: store.claim_deliveries(
                lease_s=_LEASE_S, limit=limit, limit_per_webhook=_MAX_RUNNING_PER_WEBHOOK, busy=busy
            )
        )

    async def _deliver(self, store: Store, sender: Sender, delivery: Delivery) -> None:
        """Send a delivery and store the outcome."""
        context = {} if delivery.study_id is None else {"study_id": delivery.study_id}
        with bound_contextvars(webhook_id=delivery.webhook_id, delivery_id=delivery.id, **context):
            try:
                answer = await sender.send(delivery)
                outcome = await self._settle(lambda: store.settle_delivery(delivery, answer))
            except asyncio.CancelledError:
                with suppress(StoreUnavailable):
                    await self._in_thread(lambda: store.release_delivery(delivery))
                raise
            except StoreUnavailable as error:
                # It is sent once more when its lease has expired.
                _LOG.warning("the outcome of a delivery could not be stored: %s", error)
                return
            except Exception:  # noqa: BLE001 # logged
                _LOG.exception("%s could not be delivered", delivery.event)
                return
            self._count(outcome)
            level = logging.INFO if answer.is_delivered else logging.WARNING
            _LOG.log(
                level,
                "%s to webhook %s, attempt %d: %s%s",
                delivery.event,
                delivery.webhook_id,
                delivery.attempt,
                outcome,
                _suffix(answer.error),
            )

    async def _settle(self, settle: Callable[[], AttemptOutcome]) -> AttemptOutcome:
        """Store the outcome of a delivery and return it, with retries while the database is away.

        An outcome that is not stored causes a duplicate delivery.

        Raises:
            StoreUnavailable: the database does not come back.
        """
        for _ in range(_SETTLE_ATTEMPTS - 1):
            try:
                return await self._in_thread(settle)
            except StoreUnavailable:
                await asyncio.sleep(self._settings.pause_s)
        return await self._in_thread(settle)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await anyio.to_thread.run_sync(work, limiter=self._threads)


def _suffix(error: str | None) -> str:
    return "" if error is None else f", {error}"


async def _wait_for_any(*events: asyncio.Event, within_s: float) -> None:
    """Wait until one of these events is set, or for `within_s` at most."""
    waits = [asyncio.create_task(each.wait()) for each in events]
    try:
        await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
