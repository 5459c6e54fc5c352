"""Hyperparameter search with Ray Tune alone, as in its documentation: the other side of `throughput.py`.

`throughput.py` starts this as a process. It runs one `Tuner` per arm, one after the other, because
`OptunaSearch` searches a single space. The trainable is a function that reports every epoch and uses the
optimizers of pytorch_optimizer and torch (`plain_training.py`). The faster option was always chosen: the data
stays in the worker's memory, a diverged trial ends itself, Tune prints nothing, and Ray is configured like
Tangent's, with the same threads and the same allocator.

It reads one line of JSON per search from standard input and answers each with one line.
"""

__all__ = ["main"]

import functools
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any, cast

from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from stock_trial import train

from studies.resolve import ResolvedStudy
from studies.space import AnyDimension, Choices, Range
from workers.local_ray import start_local_ray


def _domain(dimension: AnyDimension) -> Any:
    match dimension:
        case Choices():
            return tune.choice(list(dimension.choices))
        case Range(integer=True):
            draw = tune.lograndint if dimension.log else tune.randint
            return draw(int(dimension.low), int(dimension.high) + 1)
        case Range():
            return (tune.loguniform if dimension.log else tune.uniform)(dimension.low, dimension.high)
        case _:
            return dimension.value


def _search(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Run one search and return its wall seconds and each arm's best validation value and epochs."""
    plan = ResolvedStudy.model_validate(asked["plan"])
    mode = "max" if plan.workload.direction == "maximize" else "min"
    arms: dict[str, Any] = {}
    begun = time.monotonic()
    for arm in plan.arms:
        trainable = functools.partial(
            train,
            card=arm.card,
            workload_name=plan.workload.name,
            epochs=plan.epochs,
            batch_size=plan.batch_size,
            seed=asked["seed"],
        )
        scheduler = (
            ASHAScheduler(max_t=plan.epochs, grace_period=1, reduction_factor=3)
            if asked["pruner"] == "asha"
            else None
        )
        with tempfile.TemporaryDirectory(prefix="stock-") as folder:
            results = tune.Tuner(
                trainable,
                param_space={name: _domain(dimension) for name, dimension in arm.space.items()},
                tune_config=tune.TuneConfig(
                    metric="validation",
                    mode=mode,
                    search_alg=OptunaSearch(seed=asked["seed"]),
                    scheduler=scheduler,
                    num_samples=arm.trials,
                    max_concurrent_trials=asked["cpus"],
                    reuse_actors=asked["reuse_actors"],
                ),
                run_config=tune.RunConfig(name=arm.name, storage_path=folder, verbose=0),
            ).fit()
        rows = [
            cast("Mapping[str, Any]", result.metrics)
            for result in results
            if result.error is None and result.metrics
        ]
        if results.num_errors == len(results):
            raise RuntimeError(f"every trial of {arm.name} failed: {results.errors[0]}")
        whole = [float(row["validation"]) for row in rows if row["training_iteration"] == plan.epochs]
        arms[arm.name] = {
            "best": (max if mode == "max" else min)(whole) if whole else None,
            "trials": len(results),
            "completed": len(whole),
            "failed": results.num_errors,
            "epochs": sum(int(row["training_iteration"]) for row in rows),
        }
    return {"wall_s": time.monotonic() - begun, "arms": arms}


def main() -> None:
    """Start Ray, report that it is up, and run the requested searches."""
    start_local_ray(cpus=int(sys.argv[1]))
    # Tune prints even if it is configured not to; its output must not mix with the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(_search(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
