"""The check of a script: one epoch of its loop, or a few steps, a pause, and another epoch."""

__all__ = ["check_script"]

import copy
import tempfile
from collections.abc import Iterator
from typing import Final

import torch

from studies.formatting import number
from studies.training_settings import TrainingSettings
from studies.trials import CheckResult
from workers.checkpoints import load
from workers.optimizers import OptimizerEntry
from workers.pack_protocol import Member, Pack
from workers.script.trial import Trial
from workers.training import train_pack
from workers.workload_check.check_result import about, calling
from workers.workloads import ScriptWorkload

_INTERVAL_STEPS: Final = 8


def check_script(
    workload: ScriptWorkload,
    device: torch.device,
    *,
    entry: OptimizerEntry,
    batch_size: int,
    in_steps: bool = False,
) -> Iterator[CheckResult]:
    """Yield the results about two epochs with an optimizer at its defaults.

    Args:
        workload: what to check.
        device: where to train.
        entry: the optimizer.
        batch_size: examples in a batch.
        in_steps: whether the two epochs are intervals of a few steps.

    Raises:
        CheckFailed: the loop raised an error, or broke a rule.
    """
    seen: list[Trial] = []
    watched = copy.copy(workload)

    def run(trial: Trial) -> None:
        seen.append(trial)
        workload.run(trial)

    watched.run = run
    with tempfile.TemporaryDirectory() as folder, calling("script", workload=workload.card.name):
        pack = Pack(
            pack_id="check",
            workload=workload.card.name,
            optimizer=entry.card.name,
            members=(Member(trial_id="check", attempt=1, parameters=entry.card.defaults, seed=0),),
            from_epoch=0,
            to_epoch=1,
            epochs=2,
            interval_steps=_INTERVAL_STEPS if in_steps else None,
            training=TrainingSettings(batch_size=batch_size),
            maximize=workload.card.direction == "maximize",
            checkpoints=folder,
        )
        [first] = train_pack(pack, workload=watched, entry=entry, data=None, device=device)
        part = first.members[0]
        if part.outcome is not None:
            # Another learning rate may not diverge.
            status = "warning" if part.outcome.state == "diverged" else "error"
            yield about(
                workload.run,
                "script",
                status,
                f"with {entry.card.title} at its defaults, {part.outcome.reason}",
            )
            return
        value, one = part.measurement.validation_metric, "one interval" if in_steps else "one epoch"
        assert value is not None, "a trial that goes on has a value"
        yield CheckResult("script", "ok", f"{workload.card.metric} {number(value)} reported after {one}")
        assert part.checkpoint is not None, "a trial that pauses has a checkpoint"
        is_saved = load(part.checkpoint)["script"] is not None
        member = pack.members[0].model_copy(update={"checkpoint": part.checkpoint})
        pack = pack.model_copy(update={"members": (member,), "from_epoch": 1, "to_epoch": 2})
        [second] = train_pack(pack, workload=watched, entry=entry, data=None, device=device)
        outcome = second.members[0].outcome
        if outcome is None or outcome.state != "completed":
            reason = "the trial did not complete" if outcome is None else str(outcome.reason)
            yield about(workload.run, "second epoch", "error", reason)
            return
        yield CheckResult("second epoch", "ok", "validation and test values reported after a pause")
        if not seen[-1].has_resumed:
            missing = (
                "call trial.restore before the first epoch"
                if is_saved
                else "call trial.save in each epoch, and trial.restore before the first"
            )
            yield about(
                workload.run,
                "resuming",
                "note",
                f"a trial that pauses at a rung or loses its worker starts over: {missing}",
            )
