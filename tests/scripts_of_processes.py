"""Scripts and programs that two processes train together, for trial_processes_claims.py."""

__all__ = ["script_claims"]

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from packs import OPTIMIZERS
from plane_scripts import CARD, pack_of
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from workers.pack_protocol import EpochReport
from workers.script import command_client
from workers.script.trial import Trial
from workers.training import train_pack
from workers.trial_processes import trial_processes
from workers.workload_errors import CannotTrain, CommandFailed
from workers.workloads import CommandWorkload, ScriptWorkload

Loop = Callable[[Trial], None]
_dist: Any = dist
_PROGRAM = f"""
import os, sys
sys.path.insert(0, {str(Path(command_client.__file__).parent)!r})
from command_client import CommandTrial
trial = CommandTrial()
names = "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"
trial.folder.joinpath("unused").touch()
with open(f"{{sys.argv[1]}}/{{trial.rank}} of {{trial.world_size}}", "w") as file:
    file.write(" ".join(map(os.environ.get, names)))
if trial.rank == 1 and sys.argv[2] == "dies":
    os._exit(3)
for step in trial.steps():
    if trial.is_main and trial.is_due:
        trial.report(validation=1 / step, test=0.5)
"""


class Told(ScriptWorkload):
    """A loop that a test writes."""

    card = CARD

    def __init__(self, run: Loop) -> None:
        self._told = run

    def run(self, trial: Trial) -> None:
        self._told(trial)


def averaged(trial: Trial) -> None:
    """Train on an own share of the rows, with gradients averaged over the processes."""
    model = nn.Linear(2, 1)
    optimizer = trial.optimizer(model)
    parts = {"model": model, "optimizer": optimizer, "order": []}
    trial.restore(parts)
    network = DistributedDataParallel(model) if trial.distributed else model
    inputs = torch.randn(64, 2, generator=torch.Generator().manual_seed(1))
    targets = inputs.sum(1, keepdim=True)
    for _ in trial.epochs():
        for rows in torch.randperm(64).split(16):
            own = rows[trial.rank :: trial.world_size]
            (network(inputs[own]) - targets[own]).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        if trial.is_main:
            error = (model(inputs) - targets).detach().square().mean()
            trial.report(validation=error, test=error)
        trial.save(parts)


def together(trial: Trial) -> None:
    """Measure the test value in all processes."""

    def test() -> float:
        found = torch.tensor(float(trial.rank + 1))
        _dist.all_reduce(found)
        return float(found)

    for _ in range(4):
        trial.report(validation={"wrong": 1} if trial.rank else 0.5, test=test)


def left(trial: Trial) -> None:
    """End the group."""
    _dist.destroy_process_group()
    for _ in trial.epochs():
        trial.report(validation=0.5, test=0.5)


def trained(workload: ScriptWorkload, **changes: Any) -> list[EpochReport]:
    pack = pack_of(processes=trial_processes().size, **changes)
    entry = OPTIMIZERS[pack.optimizer]
    return list(train_pack(pack, workload=workload, entry=entry, data=None, device=torch.device("cpu")))


def measured(reports: list[EpochReport]) -> list[list[float | None]]:
    return [
        [m.validation_metric, m.weight_norm, m.effective_step, m.lr]
        for m in (report.members[0].measurement for report in reports)
    ]


def tested(reports: list[EpochReport]) -> float | None:
    outcome = reports[-1].members[0].outcome
    return None if outcome is None else outcome.test_value


def script_claims(folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield what one of the processes that train a script finds, or the only one."""
    yield "script", measured(trained(Told(averaged)))
    processes = trial_processes()
    if processes.size == 1:
        return
    first = trained(Told(averaged), folder=folder, to_epoch=2)
    url = processes.from_main(lambda: first[-1].members[0].checkpoint)
    part = first[-1].members[0].model_copy(update={"checkpoint": url})
    after = first[-1].model_copy(update={"members": (part,)})
    yield "resumed script", measured(first) + measured(trained(Told(averaged), folder=folder, after=after))
    yield "tested together", tested(trained(Told(together)))
    program = folder / "program.py"
    program.write_text(_PROGRAM)

    def command(fate: str) -> CommandWorkload:
        return CommandWorkload(CARD, [sys.executable, "-I", "-S", str(program), str(folder), fate])

    yield "program", [row[0] for row in measured(trained(command("lives"), interval_steps=5))]
    yield "variables", (folder / f"{processes.rank} of 2").read_text()
    pattern = CommandWorkload(CARD, ["true"], pattern="(?P<validation>.*)")
    yield "pattern", refusal(lambda: trained(pattern))
    yield "group left", refusal(lambda: trained(Told(left)))
    _dist.init_process_group("gloo", init_method=f"file://{folder}/again", rank=processes.rank, world_size=2)
    yield "dead program", refusal(lambda: trained(command("dies"), interval_steps=5))


def refusal(train: Callable[[], object]) -> str:
    """Return why a trial cannot be trained."""
    try:
        train()
    except (CannotTrain, CommandFailed) as error:
        return str(error)
    # The other process has ended.
    except RuntimeError as error:
        return f"lost: {error}"
    return ""
