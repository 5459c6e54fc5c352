"""Weights that a study keeps: the final state of a model, in a file that plain torch reads."""

__all__ = ["keep_weights", "load_weights"]

import hashlib
import logging
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import torch

from studies.artifacts import WeightsOf
from workers.checkpoints import StateRejected, write_state
from workers.pack_protocol import KeptFile, Member, Outcome, Pack
from workers.storage import written
from workers.tensor_states import bytes_of
from workers.workload_errors import CannotTrain

_log = logging.getLogger("tangent.training")
_FORMAT: Final = "tangent weights 1"
_READ_BYTES = 1 << 20


def keep_weights(
    model: Mapping[str, Any], *, pack: Pack, member: Member, weights_of: WeightsOf, outcome: Outcome
) -> KeptFile:
    """Write a trial's final weights to the study's folder, and return where they are or why they are not.

    Nothing that goes wrong here fails the trial.

    Args:
        model: the model's `state_dict`, as it was evaluated after the last epoch.
        pack: the trial's pack, with `keeping`.
        member: the trial.
        weights_of: which configuration of its arm this is.
        outcome: how it ended.
    """
    assert pack.keeping is not None, "the study keeps files"
    study_id, arm, _ = member.trial_id.split(".")
    size = bytes_of(model)
    kept = KeptFile(
        id=uuid.uuid4().hex, kind="weights", name=f"{arm}-{weights_of}.pt", size=size, weights_of=weights_of
    )
    if not model:
        reason = "its script saved nothing in its last epoch; call trial.save({'model': model}) in each epoch"
        return kept.model_copy(update={"reason": reason})
    limit = pack.keeping.max_weights_bytes
    if size > limit:
        reason = f"its {size} bytes exceed the limit of {limit} (`keep.max_weights_mb`)"
        return kept.model_copy(update={"reason": reason})
    digest = hashlib.sha256()
    try:
        with written(f"{pack.keeping.folder}/{kept.id}") as path:
            size = write_state(
                path,
                {
                    "format": _FORMAT,
                    "model": model,
                    "parameters": dict(member.parameters),
                    "workload": pack.workload,
                    "optimizer": pack.optimizer,
                    "study_id": study_id,
                    "arm": arm,
                    "trial_id": member.trial_id,
                    "seed": member.seed,
                    "epoch": pack.epochs,
                    "best_epoch": outcome.best_epoch,
                    "value": outcome.value,
                    "test_value": outcome.test_value,
                },
                digest=digest,
            )
    except StateRejected as error:
        return kept.model_copy(update={"reason": str(error)[:500]})
    # Each storage client has exceptions of its own, and not all of them are OSErrors.
    except Exception as error:  # noqa: BLE001
        _log.warning("cannot keep the weights of trial %s: %s", member.trial_id, error)
        return kept.model_copy(update={"reason": f"it could not be written: {error}"[:500]})
    return kept.model_copy(update={"size": size, "sha256": digest.hexdigest()})


def load_weights(path: str | Path, *, sha256: str | None = None) -> dict[str, Any]:
    """Return the weights that `tangent weights` has downloaded, their tensors on the CPU.

    A workload may start from them: `model.load_state_dict(load_weights(path)["model"])`. Then its results
    depend on this file; name its checksum, so that no other file is taken for it.

    Args:
        path: the file.
        sha256: its expected checksum, as `tangent weights` prints it; None accepts any.

    Returns:
        `model`, a `state_dict`; `parameters`, `workload`, `optimizer`, `study_id`, `arm`, `trial_id`, `seed`,
        `epoch`, `value`, `test_value` and `best_epoch` of the trial that they come from.

    Raises:
        CannotTrain: there is no such file, it is another kind of file, or its checksum differs.
    """
    advice = "download it again: tangent weights STUDY ARM -o FILE"
    try:
        found = sha256 and _checksum(path)
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    # For a damaged file torch may raise anything.
    except Exception as error:
        raise CannotTrain(
            f"expected weights at {path}, got {type(error).__name__}: {error}; {advice}"
        ) from error
    if found != sha256:
        raise CannotTrain(f"expected {path} to have the SHA-256 {sha256}, got {found}; {advice}")
    if not isinstance(loaded, dict) or cast("dict[str, Any]", loaded).get("format") != _FORMAT:
        raise CannotTrain(f"expected weights of this version at {path}, got another kind of file; {advice}")
    weights = cast("dict[str, Any]", loaded)
    del weights["format"]
    return weights


def _checksum(path: str | Path) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()
