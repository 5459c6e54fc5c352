"""What a worker reports about a member of a pack, in the form that the store records."""

__all__ = ["stored_report"]

from dataclasses import replace

from studies.artifacts import NewArtifact
from studies.trials import Report
from workers.pack_protocol import EpochReport, KeptFile, MemberReport


def stored_report(
    member: MemberReport,
    of_pack: EpochReport,
    *,
    worker: str,
    pack_size: int,
    charged_s: float,
    artifacts: str,
) -> Report:
    """Return what the store records of a member's part of a report.

    Args:
        member: the part.
        of_pack: the report.
        worker: host and process that trains the pack.
        pack_size: members that the pack began with.
        charged_s: each member's share of the wall time since the pack's last report.
        artifacts: folder (any fsspec URL) for the files that the study keeps.
    """
    outcome = member.outcome
    report = Report(
        member.trial_id,
        member.attempt,
        member.measurement,
        worker=worker,
        checkpoint=member.checkpoint,
        pack_size=pack_size,
        charged_s=charged_s,
        memory_bytes=_share(of_pack.memory_bytes, pack_size),
        device_memory_bytes=_share(of_pack.device_memory_bytes, pack_size),
        artifacts=tuple(_artifact(kept, artifacts) for kept in member.kept),
        layers=member.layers,
    )
    if outcome is None:
        return report
    return replace(
        report,
        ended=outcome.state,
        value=outcome.value,
        best_epoch=outcome.best_epoch,
        test_value=outcome.test_value,
        test_metrics=outcome.test_metrics,
        reason=outcome.reason,
    )


def _share(size: int | None, trials: int) -> int | None:
    return None if size is None else size // trials


def _artifact(kept: KeptFile, folder: str) -> NewArtifact:
    """Return a kept file with its URL, which its worker does not choose."""
    return NewArtifact(
        id=kept.id,
        kind=kept.kind,
        name=kept.name,
        size=kept.size,
        sha256=kept.sha256,
        url=None if kept.sha256 is None else f"{folder}/{kept.id}",
        weights_of=kept.weights_of,
        reason=kept.reason,
    )
