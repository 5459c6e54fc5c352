"""Mistake: a second head is built and counted, but `forward` never calls it."""

from sound_digits import SoundDigits
from torch import Tensor, nn

__all__ = ["UnusedHead"]


class _TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU())
        self.digit, self.parity = nn.Linear(32, 10), nn.Linear(32, 2)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.digit(self.body(pictures))


class UnusedHead(SoundDigits):
    """Digits with a head for the parity that never learns."""

    def build_model(self) -> nn.Module:
        """Return one body with two heads."""
        return _TwoHeads()
