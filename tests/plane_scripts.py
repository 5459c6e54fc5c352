"""The card of small scripts, and packs that train them."""

__all__ = ["CARD", "pack_of"]

from pathlib import Path
from typing import Any

from packs import OPTIMIZERS

from studies.catalog import WorkloadCard
from studies.training_settings import TrainingSettings
from workers.pack_protocol import EpochReport, Member, Pack

CARD = WorkloadCard(
    name="plane",
    title="A plane",
    description="A linear model on points of a plane.",
    source="made",
    metric="squared error",
    unit="none",
    direction="minimize",
    target=0.1,
    epochs=4,
    batch_size=16,
    examples={"train": 64, "validation": 16, "test": 16},
    parameters=9,
    epoch_s=0.01,
)


def pack_of(
    folder: Path | None = None,
    *,
    optimizer: str = "adamp",
    members: int = 1,
    after: EpochReport | None = None,
    **changes: Any,
) -> Pack:
    """Return a pack that continues after a report, or begins."""
    urls = [part.checkpoint for part in after.members] if after is not None else [None] * members
    defaults = OPTIMIZERS[optimizer].card.defaults
    fields: dict[str, Any] = {
        "pack_id": "pack",
        "workload": "plane",
        "optimizer": optimizer,
        "members": tuple(
            Member(trial_id=f"t{n}", attempt=1, parameters=defaults | {"lr": lr}, seed=3, checkpoint=url)
            for n, (lr, url) in enumerate(zip((0.02, 0.005), urls, strict=False))
        ),
        "from_epoch": after.epoch if after is not None else 0,
        "to_epoch": 4,
        "epochs": 4,
        "training": TrainingSettings(batch_size=16, schedule="cosine"),
        "maximize": False,
        "checkpoints": str(folder) if folder else None,
    }
    return Pack(**fields | changes)
