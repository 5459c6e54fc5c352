"""AdamP and SGDP for PyTorch: a drop-in for PyPI's `adamp` 0.3.0 that never waits for the device.

It holds the two optimizers and `decide`, which returns where they project (for probes), and needs only torch.
"""

__all__ = ["SGDP", "AdamP", "Decision", "decide"]

from adamp._adamp import AdamP
from adamp._projection import Decision, decide
from adamp._sgdp import SGDP
