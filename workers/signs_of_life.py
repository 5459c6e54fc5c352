"""Signs of life of trials in training: the step that they have taken, published every few seconds.

An epoch may take hours. From these signs the run knows that its trials go on. They give an epoch no more
time: a trial that takes steps for ever is ended all the same.
"""

__all__ = ["Sign", "note", "publish_signs"]

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel

_log = logging.getLogger("tangent.training")
_EVERY_S = 10.0


class Sign(BaseModel):
    """A sign of life of a pack's trials.

    Attributes:
        trial_ids: the trials that are being trained.
        step: the steps that they have taken since their last epoch; None if that is not known.
        number: tells it from the one before.
    """

    trial_ids: tuple[str, ...]
    step: int | None
    number: int


@dataclass
class _Noted:
    """What this process has noted, and where it is published."""

    # A new tuple with each note.
    latest: tuple[Sequence[str], int | None] | None = None
    pack_id: str = ""
    thread: threading.Thread | None = None


_noted = _Noted()


def note(trial_ids: Sequence[str], step: int | None) -> None:
    """Note that trials go on; it costs less than a microsecond.

    Args:
        trial_ids: the trials that are being trained.
        step: the steps that they have taken since their last epoch; None if that is not known.
    """
    _noted.latest = trial_ids, step


def publish_signs(pack_id: str, publish: Callable[[str, Sign], None], *, every_s: float = _EVERY_S) -> None:
    """Publish from now on what this process notes, as signs of a pack's trials.

    Args:
        pack_id: the pack.
        publish: publishes a pack's sign from another thread; the first one given is used for all packs.
        every_s: seconds from one sign to the next.
    """
    _noted.latest, _noted.pack_id = None, pack_id
    if _noted.thread is None:
        _noted.thread = threading.Thread(
            target=_publish, args=(publish, every_s), name="signs of life", daemon=True
        )
        _noted.thread.start()


def _publish(publish: Callable[[str, Sign], None], every_s: float) -> None:
    published, number, pause = None, 0, threading.Event()
    while not pause.wait(every_s):
        latest, pack_id = _noted.latest, _noted.pack_id
        if latest is None or latest is published:
            continue
        number += 1
        try:
            publish(pack_id, Sign(trial_ids=tuple(latest[0]), step=latest[1], number=number))
        # Training goes on although its run does not hear of it.
        except Exception:  # noqa: BLE001
            _log.warning("a sign of life could not be published", exc_info=True)
        published = latest
