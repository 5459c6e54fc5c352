"""Mistake: the splits are cut from all examples, so validation and test are trained on."""

import torch
from sound_digits import SoundDigits

from tangent import Data, Split

__all__ = ["OverlappingSplits"]


class OverlappingSplits(SoundDigits):
    """Digits of which those in the validation and test splits are also trained on."""

    def load_data(self, device: torch.device) -> Data:
        """Return random parts of all examples, drawn anew for each split."""
        whole = super().load_data(device)
        inputs = torch.cat([split.inputs for split in (whole.train, whole.validation, whole.test)])
        targets = torch.cat([split.targets for split in (whole.train, whole.validation, whole.test)])

        def part(examples: int, seed: int) -> Split:
            generator = torch.Generator().manual_seed(seed)
            rows = torch.randperm(len(targets), generator=generator)[:examples].to(device)
            return Split(inputs=inputs[rows], targets=targets[rows])

        return Data(train=part(1197, 1), validation=part(300, 2), test=part(300, 3))
