"""Signs of life of trials in training: the step that they have taken, published every few seconds.

An epoch may take hours. From these signs the run knows that its trials go on. They give an epoch no more
time: a trial that takes steps for ever is ended all the same.
"""

__all__ = ["EVERY_S", "Sign", "end_signs", "note", "note_again", "publish_signs"]

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel

_log = logging.getLogger("tangent.training")
EVERY_S = 10.0
"""Seconds from one sign to the next, and from a pack's start to its first."""


class Sign(BaseModel):
    """A sign of life of a pack's trials.

    Attributes:
        trial_ids: the trials that are being trained.
        step: the steps that they have taken since their last epoch; None if that is not known.
        number: counts the signs of a process, so that an old one is not taken for a new one.
    """

    trial_ids: tuple[str, ...]
    step: int | None
    number: int


@dataclass
class _Noted:
    """What this process has noted, and where it is published."""

    # A new tuple with each note.
    latest: tuple[Sequence[str], int | None] | None = None
    # Empty between two packs.
    pack_id: str = ""
    began_at: float = 0.0
    thread: threading.Thread | None = None


_noted = _Noted()


def note(trial_ids: Sequence[str], step: int | None) -> None:
    """Note that trials go on; it costs less than a microsecond.

    Args:
        trial_ids: the trials that are being trained.
        step: the steps that they have taken since their last epoch; None if that is not known.
    """
    _noted.latest = trial_ids, step


def note_again() -> None:
    """Note that the trials noted last go on without another step, as in an evaluation; it is as cheap."""
    latest = _noted.latest
    if latest is not None:
        _noted.latest = latest[0], latest[1]


def publish_signs(pack_id: str, publish: Callable[[str, Sign], None], *, every_s: float = EVERY_S) -> None:
    """Publish from now on what this process notes, as signs of a pack's trials.

    A pack that takes less time than `every_s` gives none.

    Args:
        pack_id: the pack.
        publish: publishes a pack's sign from another thread; the first one given is used for all packs.
        every_s: seconds from one sign to the next.
    """
    _noted.latest, _noted.pack_id, _noted.began_at = None, pack_id, time.monotonic()
    if _noted.thread is None:
        _noted.thread = threading.Thread(
            target=_publish, args=(publish, every_s), name="signs of life", daemon=True
        )
        _noted.thread.start()


def end_signs() -> None:
    """Publish nothing more of the pack that has ended, even if a loop of it still runs."""
    _noted.latest, _noted.pack_id = None, ""


def _publish(publish: Callable[[str, Sign], None], every_s: float) -> None:
    published, number, pause = None, 0, threading.Event()
    while not pause.wait(every_s):
        # In this order: what the next pack notes must not count for this one.
        pack_id, latest = _noted.pack_id, _noted.latest
        if not pack_id or time.monotonic() - _noted.began_at < every_s:
            continue
        if latest is None or latest is published:
            continue
        number += 1
        try:
            publish(pack_id, Sign(trial_ids=tuple(latest[0]), step=latest[1], number=number))
        # Training goes on although its run does not hear of it.
        except Exception:  # noqa: BLE001
            _log.warning("a sign of life could not be published", exc_info=True)
        published = latest
