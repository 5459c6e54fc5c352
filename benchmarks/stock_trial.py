"""One trial of Ray Tune alone: a function trainable like a user's.

It has its own module so that Ray's workers import it and keep the data between trials if Tune reuses them.
"""

__all__ = ["train"]

import math
from collections.abc import Mapping
from typing import Any

from plain_training import loaded, trained
from ray import tune

from studies.catalog import OptimizerCard


def train(
    config: Mapping[str, Any],
    *,
    card: OptimizerCard,
    workload_name: str,
    epochs: int,
    batch_size: int,
    seed: int,
) -> None:
    """Train one configuration and report every epoch; this is the function trainable."""
    done = 0
    for measured in trained(
        dict(config),
        card=card,
        workload_name=workload_name,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
    ):
        tune.report(measured)
        done += 1
    if done < epochs:
        workload, _ = loaded(workload_name)
        tune.report({"validation": 0.0 if workload.card.direction == "maximize" else math.inf})
