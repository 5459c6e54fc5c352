"""AdamP and SGDP for PyTorch: a drop-in for PyPI's `adamp` 0.3.0 that never waits for the device.

The package exports the two optimizers and, for probes, `decide`, which returns the views they project. It
needs only torch.
"""

__all__ = ["SGDP", "AdamP", "Decision", "decide"]

from adamp._adamp import AdamP
from adamp._projection import Decision, decide
from adamp._sgdp import SGDP
