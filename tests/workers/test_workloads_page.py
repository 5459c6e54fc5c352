"""Each page of code in docs/workloads.md runs as it is."""

import re
from pathlib import Path
from typing import Any

import pytest
from packs import CPU, OPTIMIZERS, outcome_of

from studies.training_settings import TrainingSettings
from workers.pack_protocol import Member, Pack
from workers.training import train_pack
from workers.workloads import LoopWorkload, ScriptWorkload, TensorWorkload, load_data

__all__: list[str] = []

KINDS = {"TensorWorkload": TensorWorkload, "LoopWorkload": LoopWorkload, "ScriptWorkload": ScriptWorkload}
PARAMETERS = OPTIMIZERS["adamw"].card.defaults | {"lr": 3e-3}
TEXT = (Path(__file__).parents[2] / "docs" / "workloads.md").read_text(encoding="utf-8")
PAGES = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_of_a_kind_trains(kind: str) -> None:
    [page] = [code for code in PAGES if f"({kind}):" in code]
    names: dict[str, Any] = {"__name__": "page"}
    exec(page, names)
    [workload] = [
        value() for value in names.values() if isinstance(value, type) and kind in repr(value.__bases__)
    ]
    card = workload.card
    pack = Pack(
        pack_id="pack",
        workload=card.name,
        optimizer="adamw",
        members=(Member(trial_id="t", attempt=1, parameters=PARAMETERS, seed=0),),
        from_epoch=0,
        to_epoch=2,
        epochs=2,
        training=TrainingSettings(batch_size=card.batch_size),
        maximize=True,
    )
    data = load_data(workload, device=CPU) if isinstance(workload, TensorWorkload) else None
    reports = list(train_pack(pack, workload=workload, entry=OPTIMIZERS["adamw"], data=data, device=CPU))
    outcome = outcome_of(reports, "t")
    assert outcome.test_value is not None
    assert outcome.test_value > 0.5, "ten classes: chance is 0.1"
