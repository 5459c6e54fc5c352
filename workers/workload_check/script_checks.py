"""The check of a script: one epoch of its loop, a pause, and another epoch."""

__all__ = ["check_script"]

import tempfile
from collections.abc import Iterator

import torch

from studies.formatting import number
from studies.training_settings import TrainingSettings
from studies.trials import CheckResult
from workers.checkpoints import load
from workers.optimizers import OptimizerEntry
from workers.pack_protocol import EpochReport, Member, Pack
from workers.training import train_pack
from workers.workload_check.check_result import about, calling
from workers.workloads import ScriptWorkload


def check_script(
    workload: ScriptWorkload, device: torch.device, *, entry: OptimizerEntry, batch_size: int
) -> Iterator[CheckResult]:
    """Yield the results about two epochs with an optimizer at its defaults.

    Raises:
        CheckFailed: the loop raised an error, or broke a rule.
    """
    with tempfile.TemporaryDirectory() as folder, calling("script", workload=workload.card.name):
        [first] = _trained(workload, entry, device, folder, batch_size=batch_size)
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
        value = part.measurement.validation_metric
        assert value is not None, "a trial that goes on has a value"
        yield CheckResult("script", "ok", f"{workload.card.metric} {number(value)} reported after one epoch")
        assert part.checkpoint is not None, "a trial that pauses has a checkpoint"
        is_saved = load(part.checkpoint)["script"] is not None
        [second] = _trained(
            workload, entry, device, folder, batch_size=batch_size, checkpoint=part.checkpoint
        )
        outcome = second.members[0].outcome
        if outcome is None or outcome.state != "completed":
            reason = "the trial did not complete" if outcome is None else str(outcome.reason)
            yield about(workload.run, "second epoch", "error", reason)
            return
        yield CheckResult("second epoch", "ok", "validation and test values reported after a pause")
        if not is_saved:
            yield about(
                workload.run,
                "resuming",
                "note",
                "a trial that pauses at a rung or loses its worker starts over: call trial.save in each "
                "epoch, and trial.restore before the first",
            )


def _trained(
    workload: ScriptWorkload,
    entry: OptimizerEntry,
    device: torch.device,
    folder: str,
    *,
    batch_size: int,
    checkpoint: str | None = None,
) -> list[EpochReport]:
    """Train the first of two epochs or, from a checkpoint, the second."""
    done = 0 if checkpoint is None else 1
    member = Member(
        trial_id="check", attempt=1, parameters=entry.card.defaults, seed=0, checkpoint=checkpoint
    )
    pack = Pack(
        pack_id="check",
        workload=workload.card.name,
        optimizer=entry.card.name,
        members=(member,),
        from_epoch=done,
        to_epoch=done + 1,
        epochs=2,
        training=TrainingSettings(batch_size=batch_size),
        maximize=workload.card.direction == "maximize",
        checkpoints=folder,
    )
    return list(train_pack(pack, workload=workload, entry=entry, data=None, device=device))
