"""Small audio workloads on JapaneseVowels: speech as cepstra, alone and composed to sequences.

They are to `workers.workloads.audio` what MNIST is to ImageNet: real speech, the same losses and metrics, and
seconds instead of days. The data and their licence are in `japanese_vowels`.
"""

__all__ = ["VOWELS", "VowelsEvents", "VowelsKeywords", "VowelsTagging", "read_vowels"]

import functools
import gzip
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import torch
from torch import Tensor, nn

from studies.catalog import MetricCard, WorkloadCard
from workers.workloads.classification import Classification
from workers.workloads.harmonic_cnn import clip_loss, event_metrics, tagging_metrics
from workers.workloads.loop_workload import LoopWorkload, SplitName, to_device
from workers.workloads.tensor_workload import Data, Split, TensorWorkload

SPEAKERS: Final = 9
CEPSTRA: Final = 12
_FOLDER: Final = Path(__file__).parent / "japanese_vowels"
_SOURCE: Final = "JapaneseVowels (Kudo, Toyama and Shimbo, 1999), UCI Machine Learning Repository, CC BY 4.0"
_COMPOSITION_SEED: Final = 19990601
"""Fixes the composed sequences; never change it: results are comparable only on the same sequences."""
_PIECE: Final = 4
"""Frames of a piece of an utterance, 45 ms, and of each time step of the model's output.

With whole utterances (7 to 29 frames) AdamW finds 98% of the speakers, too many to compare optimizers.
"""


def read_vowels(part: Literal["TRAIN", "TEST"]) -> tuple[list[Tensor], Tensor]:
    """Return the utterances of a published part, each [frames, 12] in float32, and their speakers, 0 to 8."""
    utterances: list[Tensor] = []
    speakers: list[int] = []
    with gzip.open(_FOLDER / f"JapaneseVowels_{part}.ts.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            if line[0] in "#@\n":
                continue
            *coefficients, speaker = line.split(":")
            series = [[float(value) for value in each.split(",")] for each in coefficients]
            utterances.append(torch.tensor(series, dtype=torch.float32).T)
            speakers.append(int(speaker) - 1)
    return utterances, torch.tensor(speakers)


@functools.cache
def _pieces() -> dict[str, list[Tensor]]:
    """Return the pieces of each split by speaker, each [N, 12, 4], standardised by the training split.

    An utterance is cut into consecutive pieces from its start, and the rest is left out. The published test
    part is from other occasions than the training part. Its utterances are for validation and for the test in
    turn, so that each has its share of every speaker.
    """
    train, train_speakers = read_vowels("TRAIN")
    rest, rest_speakers = read_vowels("TEST")
    frames = torch.cat(train)
    mean, deviation = frames.mean(dim=0), frames.std(dim=0)

    def cut(utterances: Sequence[Tensor], speakers: Tensor) -> list[Tensor]:
        found: list[list[Tensor]] = [[] for _ in range(SPEAKERS)]
        for utterance, speaker in zip(utterances, speakers, strict=True):
            count = len(utterance) // _PIECE
            pieces = (utterance[: count * _PIECE] - mean) / deviation
            found[int(speaker)].append(pieces.view(count, _PIECE, CEPSTRA).transpose(1, 2))
        return [torch.cat(pieces) for pieces in found]

    return {
        "train": cut(train, train_speakers),
        "validation": cut(rest[::2], rest_speakers[::2]),
        "test": cut(rest[1::2], rest_speakers[1::2]),
    }


def _frame_cnn(outputs: int) -> nn.Sequential:
    """Return a network from cepstra [B, 12, T] to logits [B, outputs, T / 4].

    Three convolutions of width 3 with batch normalisation and ReLU, the first two with stride 2.
    """
    layers: list[nn.Module] = []
    for channels_in, channels_out, stride in ((CEPSTRA, 24, 2), (24, 32, 2), (32, 32, 1)):
        layers += [
            nn.Conv1d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm1d(channels_out),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.Conv1d(32, outputs, 1))


class _LargestInTime(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:  # [B, classes, T] to [B, classes]
        return logits.amax(dim=-1)


class VowelsKeywords(Classification):
    """The speaker of a piece of an utterance: a small sibling of keyword spotting."""

    shares_data = True
    card = WorkloadCard(
        name="vowels-keywords",
        title="Japanese vowels, speaker of a piece",
        description=(
            "Pieces of four frames (45 ms) of utterances by nine speakers, as series of 12 cepstra; the "
            "speaker is predicted. The utterances of the published test part are for validation and for the "
            "test in turn. Three convolutions of 24, 32 and 32 "
            "channels with batch normalisation and ReLU; cross-entropy loss."
        ),
        source=_SOURCE,
        metric="accuracy",
        unit="fraction",
        direction="maximize",
        target=0.95,
        chance=1 / 9,
        epochs=10,
        batch_size=32,
        examples={"train": 959, "validation": 652, "test": 636},
        parameters=6713,
    )

    def load_data(self, device: torch.device) -> Data:
        """Return the pieces of all utterances as floats [N, 12, 4]."""
        splits = {
            name: Split(
                inputs=torch.cat(pieces),
                targets=torch.arange(SPEAKERS).repeat_interleave(torch.tensor([*map(len, pieces)])),
            )
            for name, pieces in _pieces().items()
        }
        return Data(**splits).to(device)

    def build_model(self) -> nn.Module:
        """Return the network with torch's default initialisation."""
        return nn.Sequential(*_frame_cnn(SPEAKERS), _LargestInTime())


class _ComposedVowels(LoopWorkload):
    """Sequences of pieces of utterances; only the labels of whole sequences are known in training."""

    counts: ClassVar[Mapping[str, int]] = {"train": 1000, "validation": 500, "test": 500}
    steps: ClassVar[int]
    """Pieces of a sequence, at most; silence follows a shorter one."""
    speakers: ClassVar[int]
    """Speakers that are classes, from the first; others are the background."""

    @abstractmethod
    def draw(self, generator: torch.Generator) -> list[int]:
        """Return the speaker of each piece of a new sequence."""

    def build_model(self) -> nn.Module:
        """Return the network with torch's default initialisation."""
        return _frame_cnn(self.speakers)

    def sequences(self, split: str) -> tuple[Tensor, Tensor]:
        """Return cepstra [N, 12, 4 * steps], and 0 or 1 for each class and step, [N, classes, steps]."""
        return _composed(type(self), split)

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield sequences [B, 12, 4 * steps] and their classes [B, classes] in a random order."""
        del epoch
        inputs, active = self.sequences("train")
        tags = active.amax(dim=-1)
        for chosen in torch.split(torch.randperm(len(inputs)), batch_size):
            yield inputs[chosen], tags[chosen]

    def training_step(self, model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the binary cross-entropy of the sequences' classes."""
        return clip_loss(model(batch[0]), batch[1])

    def _evaluated(self, model: Any, split: str, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits and the truth of a split for each class and time step, and the loss."""
        inputs, active = to_device(self.sequences(split), device)
        logits = torch.cat([model(part) for part in torch.split(inputs, 100)]).float()
        return logits, active, clip_loss(logits, active.amax(dim=-1))


@functools.cache
def _composed(kind: type[_ComposedVowels], split: str) -> tuple[Tensor, Tensor]:
    workload, pieces = kind(), _pieces()[split]
    generator = torch.Generator().manual_seed(_COMPOSITION_SEED + list(kind.counts).index(split))
    count = kind.counts[split]
    inputs = torch.zeros(count, CEPSTRA, kind.steps * _PIECE)
    active = torch.zeros(count, kind.speakers, kind.steps)
    for row, times in zip(inputs, active, strict=True):
        for step, speaker in enumerate(workload.draw(generator)):
            number = int(torch.randint(len(pieces[speaker]), (), generator=generator))
            row[:, step * _PIECE : (step + 1) * _PIECE] = pieces[speaker][number]
            if speaker < kind.speakers:
                times[speaker, step] = 1
    return inputs, active


class VowelsTagging(_ComposedVowels):
    """Which speakers occur in a sequence: a small sibling of music tagging."""

    steps = 4
    speakers = SPEAKERS
    card = WorkloadCard(
        name="vowels-tagging",
        title="Japanese vowels, speakers of a sequence",
        description=(
            "Sequences of pieces of utterances, each of four frames by another of nine speakers; which "
            "speakers occur is predicted. Utterances of the published test part are for validation and for "
            "the test. Three convolutions of 24, 32 and 32 channels with batch normalisation and ReLU; "
            "binary cross-entropy."
        ),
        source=_SOURCE,
        metric="roc_auc",
        unit="fraction",
        direction="maximize",
        target=0.985,
        metrics=(MetricCard(name="pr_auc", unit="fraction", direction="maximize"),),
        chance=0.5,
        epochs=10,
        batch_size=20,
        examples={"train": 1000, "validation": 500, "test": 500},
        parameters=6713,
    )

    def draw(self, generator: torch.Generator) -> list[int]:
        """Return two to four different speakers."""
        count = int(torch.randint(2, 5, (), generator=generator))
        return [int(speaker) for speaker in torch.randperm(SPEAKERS, generator=generator)[:count]]

    def evaluate(self, model: Any, split: SplitName, *, device: torch.device) -> dict[str, float | Tensor]:
        """Return both areas under curves, as means over speakers, and the loss."""
        logits, active, loss = self._evaluated(model, split, device)
        return {**tagging_metrics(logits.amax(dim=-1), active.amax(dim=-1)), "loss": loss}


class VowelsEvents(_ComposedVowels):
    """When each of four speakers is heard among others: a small sibling of sound event detection."""

    steps = 24
    speakers = 4
    card = WorkloadCard(
        name="vowels-events",
        title="Japanese vowels, speakers in time",
        description=(
            "Sequences of 24 pieces of utterances, each of four frames by one of nine speakers. Four are the "
            "events, and the others are the background. In training it is known which events occur in a "
            "sequence; their times, in segments of four frames, are predicted. `segment_f1` counts segments, "
            "and `f1` whole sequences. Three convolutions of 24, 32 and 32 channels with batch "
            "normalisation and ReLU; binary cross-entropy."
        ),
        source=_SOURCE,
        metric="segment_f1",
        unit="fraction",
        direction="maximize",
        target=0.93,
        metrics=(MetricCard(name="f1", unit="fraction", direction="maximize"),),
        epochs=10,
        batch_size=20,
        examples={"train": 1000, "validation": 500, "test": 500},
        parameters=6548,
    )

    def draw(self, generator: torch.Generator) -> list[int]:
        """Return speakers who speak for one to four pieces each; one of four is an event."""
        drawn: list[int] = []
        while len(drawn) < self.steps:
            is_event = torch.rand((), generator=generator) < 1 / 4
            low, high = (0, self.speakers) if is_event else (self.speakers, SPEAKERS)
            speaker = int(torch.randint(low, high, (), generator=generator))
            drawn += [speaker] * int(torch.randint(1, 5, (), generator=generator))
        return drawn[: self.steps]

    def evaluate(self, model: Any, split: SplitName, *, device: torch.device) -> dict[str, float | Tensor]:
        """Return the F1 scores of segments and of whole sequences, and the loss."""
        logits, active, loss = self._evaluated(model, split, device)
        return {**event_metrics(logits, active), "loss": loss}


VOWELS: tuple[TensorWorkload | LoopWorkload, ...] = (VowelsTagging(), VowelsKeywords(), VowelsEvents())
