"""Signs of life on their way from a worker to its run: the last one of each pack, kept by Ray's head."""

__all__ = ["forget_sign", "read_sign", "send_sign"]

import logging
from contextlib import suppress
from typing import Any, Final, cast

from ray.experimental import internal_kv

from workers.signs_of_life import Sign

_log = logging.getLogger("tangent.run")
_NAMESPACE: Final = b"tangent-signs-of-life"
# Ray's own libraries use these functions, which have no public names and no complete types.
_untyped = cast("Any", internal_kv)
_put, _get, _delete = (getattr(_untyped, f"_internal_kv_{name}") for name in ("put", "get", "del"))


def send_sign(pack_id: str, sign: Sign) -> None:
    """Replace the sign of a pack."""
    _put(pack_id, sign.model_dump_json(), overwrite=True, namespace=_NAMESPACE)


def read_sign(pack_id: str) -> Sign | None:
    """Return the last sign of a pack; None without one, or if Ray's head does not answer."""
    try:
        found = _get(pack_id, namespace=_NAMESPACE)
    # A run has other ways to notice that Ray has ended.
    except Exception:  # noqa: BLE001
        _log.warning("Ray's head does not tell whether pack %s goes on", pack_id, exc_info=True)
        return None
    return None if found is None else Sign.model_validate_json(found)


def forget_sign(pack_id: str) -> None:
    """Remove the sign of a pack that has ended, if Ray's head answers."""
    with suppress(Exception):
        _delete(pack_id, namespace=_NAMESPACE)
