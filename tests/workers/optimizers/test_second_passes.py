"""Optimizers that need a second pass over a batch, in a trial."""

import torch
from packs import CPU, OPTIMIZERS, WORKLOADS, data_of, member, pack_of, shortened

from studies.space import Parameters
from workers.solo import Solo

__all__: list[str] = []


def trained(optimizer: str, parameters: Parameters) -> dict[str, torch.Tensor]:
    """Return the state of a network with BatchNorm after an epoch."""
    workload = WORKLOADS["digits-cnn"]
    one = member(optimizer, given=parameters)
    pack = pack_of(workload, optimizer, one, epochs=1, batch_size=32, accumulation_steps=2, clip_norm=0.5)
    data = shortened(data_of(workload), 200, 50)
    solo = Solo(one, pack=pack, workload=workload, entry=OPTIMIZERS[optimizer], data=data, device=CPU)
    solo.train_epoch(1)
    return solo.model.state_dict()


def test_sam_without_a_distance_is_its_inner_optimizer_down_to_the_statistics_of_norms() -> None:
    plain, sam = trained("sgd", {}), trained("sam-sgd", {"rho": 0.0})
    assert any("running_mean" in name for name in plain)
    assert all(torch.equal(sam[name], value) for name, value in plain.items())
    far = trained("sam-sgd", {"rho": 0.5})
    assert not all(torch.equal(far[name], value) for name, value in plain.items())
