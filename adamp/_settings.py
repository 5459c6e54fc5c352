"""The hyperparameters of a parameter group as one immutable value, used by every path."""

__all__ = ["AdamPSettings", "SGDPSettings"]

from typing import NamedTuple

from torch import Tensor


class AdamPSettings(NamedTuple):
    """The hyperparameters of a step of AdamP.

    Attributes:
        lr: length of a step; a number, or a [] tensor, which is not read on the host if it is on the path's
            device.
        beta1: share of the first moment that is kept, in [0, 1).
        beta2: share of the second moment that is kept, in [0, 1).
        eps: added to the denominator and to norm(w) in the projection; floor of the norms in the cosine.
        weight_decay: share of the weight lost per step and unit of lr, decoupled.
        delta: threshold of the cosine test; 0 never projects.
        wd_ratio: factor on the decay of projected tensors.
        nesterov: step along the moment with this gradient applied a second time.
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
        lr: step per gradient; a number, or a [] tensor, which is not read on the host if it is on the path's
            device.
        momentum: share of the buffer that is kept, in [0, 1).
        dampening: share of each gradient kept out of the buffer, in [0, 1].
        eps: added to norm(w) in the projection; floor of the norms in the cosine.
        weight_decay: the user's value; a step's decay is lr weight_decay / (1 - momentum).
        delta: threshold of the cosine test; 0 never projects.
        wd_ratio: factor on the decay of projected tensors.
        nesterov: step along the buffer with this gradient applied a second time.
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
