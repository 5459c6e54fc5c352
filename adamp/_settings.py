"""A parameter group's hyperparameters as one value, which every path takes."""

__all__ = ["AdamPSettings", "SGDPSettings"]

from typing import NamedTuple

from torch import Tensor


class AdamPSettings(NamedTuple):
    """The hyperparameters of a step of AdamP.

    Attributes:
        lr: length of a step; a number, or a [] tensor, which no path reads that works on its device.
        beta1: share of the first moment that is kept, in [0, 1).
        beta2: share of the second moment that is kept, in [0, 1).
        eps: added to the denominator and to norm(w) in the projection; floor of the norms in the cosine.
        weight_decay: share of the weight lost per step and unit of lr, decoupled.
        delta: threshold of the cosine test; 0 never projects.
        wd_ratio: factor on the decay of what is projected.
        nesterov: step along the moment as it will be after this gradient is counted once more.
        maximize: ascend: step along -g.
    """

    lr: float | Tensor
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    delta: float
    wd_ratio: float
    nesterov: bool
    maximize: bool


class SGDPSettings(NamedTuple):
    """The hyperparameters of a step of SGDP.

    Attributes:
        lr: step per gradient; a number, or a [] tensor, which no path reads that works on its device.
        momentum: share of the buffer that is kept, in [0, 1).
        dampening: share of each gradient kept out of the buffer, in [0, 1].
        eps: added to norm(w) in the projection; floor of the norms in the cosine.
        weight_decay: as the user gives it; the decay is lr weight_decay / (1 - momentum).
        delta: threshold of the cosine test; 0 never projects.
        wd_ratio: factor on the decay of what is projected.
        nesterov: step along the buffer as it will be after this gradient is counted once more.
        maximize: ascend: step along -g.
    """

    lr: float | Tensor
    momentum: float
    dampening: float
    eps: float
    weight_decay: float
    delta: float
    wd_ratio: float
    nesterov: bool
    maximize: bool
