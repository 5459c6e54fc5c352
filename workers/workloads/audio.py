"""Audio of the AdamP paper: music tagging, keyword spotting and sound events.

Each reads the user's own copy of the published files, and trains the network of `harmonic_cnn`. Epochs and
batch size are those of minzwon/data-driven-harmonic-filters; the AdamP paper's own are not known. Its results
(Heo et al., 2021) are table 5 of its project page.
"""

__all__ = ["AUDIO", "AudioClip", "Dcase2017Task4", "MagnaTagATune", "SpeechCommands"]

import csv
import functools
import math
import socket
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from studies.catalog import MetricCard, PublishedResult, WorkloadCard
from workers.workload_errors import MachineUnfit
from workers.workloads.harmonic_cnn import (
    SAMPLE_RATE,
    HarmonicCnn,
    clip_loss,
    event_metrics,
    segment_logits,
    tagging_metrics,
)
from workers.workloads.loop_workload import READERS, LoopWorkload, SplitName, to_device
from workers.workloads.requirements import data_folder, missing_extra, missing_files


class AudioClip(NamedTuple):
    """A file and what it contains.

    Attributes:
        file: its path.
        target: a class, or 0 or 1 for each class.
        segments: 0 or 1 for each class and segment, [classes, segments]; None without times.
    """

    file: Path
    target: int | NDArray[np.float32]
    segments: NDArray[np.float32] | None = None


def _opened(file: Path) -> Any:
    """Return an open file of soundfile.

    Raises:
        ValueError: it has another sample rate.
    """
    # It has no type stubs.
    soundfile: Any = import_module("soundfile")
    sound = soundfile.SoundFile(file)
    if sound.samplerate != SAMPLE_RATE:
        raise ValueError(
            f"expected {SAMPLE_RATE} samples per second in {file}, got {sound.samplerate}; convert it with "
            "`ffmpeg -i FILE -ar 16000 -ac 1 NEW.wav`"
        )
    return sound


class _Waveforms:
    """The waveforms of clips as [samples], at a random place in training; shorter ones end with silence."""

    def __init__(self, clips: Sequence[AudioClip], samples: int, *, is_random: bool) -> None:
        self._clips, self._samples, self._is_random = clips, samples, is_random

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], Any]:
        clip = self._clips[index]
        with _opened(clip.file) as sound:
            spare = max(0, sound.frames - self._samples)
            if self._is_random and spare:
                # torch's generator, which the trial's seed determines in a loader's workers too.
                sound.seek(int(torch.randint(spare + 1, ())))
            frames: Any = sound.read(self._samples, dtype="float32", always_2d=True)
        waveform = np.zeros(self._samples, dtype=np.float32)
        waveform[: len(frames)] = np.mean(frames, axis=1)
        return waveform, clip.target


class _AudioFolder(LoopWorkload):
    """Clips of a folder under TANGENT_DATA, classified by a harmonic CNN."""

    folder_name: ClassVar[str]
    layout: ClassVar[str]
    lists: ClassVar[tuple[str, ...]]
    classes: ClassVar[int]
    samples: ClassVar[int]
    channels: ClassVar[int] = 128
    loaders: ClassVar[int] = READERS
    """Processes that read files."""

    @staticmethod
    @abstractmethod
    def read(folder: Path) -> Mapping[str, Sequence[AudioClip]]:
        """Return the clips of each split whose files are in a folder, in the order of the list."""

    def clips(self, split: str) -> Sequence[AudioClip]:
        """Return the clips of a split.

        Raises:
            MachineUnfit: none of its files is in the folder.
        """
        folder = data_folder(self.folder_name)
        found = self.read(folder)[split]
        if not found:
            raise MachineUnfit(
                f"expected clips of the {split} split in {folder} on {socket.gethostname()}, got none; put "
                f"{self.layout} there",
                function=self.read,
            )
        return found

    def missing(self) -> str | None:
        """Return what must be installed or downloaded first."""
        return missing_extra("audio", "soundfile") or missing_files(
            data_folder(self.folder_name), self.layout, *self.lists
        )

    def build_model(self) -> nn.Module:
        """Return a harmonic CNN with torch's default initialisation."""
        return HarmonicCnn(self.classes, channels=self.channels)

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the number of full batches."""
        return len(self.clips("train")) // batch_size

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[Any]:
        """Return batches of waveforms [B, samples] and targets."""
        del epoch
        clips = _Waveforms(self.clips("train"), self.samples, is_random=True)
        return self._loader(clips, batch_size=batch_size, shuffle=True, drop_last=True)

    def training_step(self, model: Any, batch: Any) -> Tensor:
        """Return the binary cross-entropy of the clips' tags."""
        waveforms, tags = batch
        return clip_loss(model(waveforms), tags)

    def _loader(self, clips: _Waveforms, **options: Any) -> Iterable[Any]:
        # Any object with a length and items can be loaded.
        return DataLoader(cast("Any", clips), num_workers=self.loaders, **options)

    def _logits(self, model: Any, split: SplitName, device: torch.device) -> Iterator[tuple[Tensor, Any]]:
        """Yield the logits [B, classes, T] and the targets of a split's clips, in order."""
        clips = _Waveforms(self.clips(split), self.samples, is_random=False)
        for batch in self._loader(clips, batch_size=self.card.batch_size):
            waveforms, targets = cast("tuple[Tensor, Any]", to_device(batch, device))
            yield model(waveforms), targets


def _published(optimizer: str, value: float, *, metric: str | None = None) -> PublishedResult:
    return PublishedResult(
        optimizer=optimizer,
        value=value,
        metric=metric,
        setting="Harmonic CNN",
        source="Heo et al. (2021), AdamP's project page, table 5",
    )


def _rows(file: Path) -> Iterator[list[str]]:
    """Yield the rows of a list with tabs, without empty ones."""
    with file.open(encoding="utf-8", newline="") as lines:
        yield from filter(None, csv.reader(lines, delimiter="\t"))


class MagnaTagATune(_AudioFolder):
    """The 50 most frequent tags of 29-second clips of music."""

    folder_name = "magnatagatune"
    layout = (
        "annotations_final.csv and the folders 0 to f of MagnaTagATune, each clip as published or as wav "
        "with 16,000 samples per second"
    )
    lists = ("annotations_final.csv",)
    classes = 50
    samples = 49_152
    card = WorkloadCard(
        name="magnatagatune",
        title="MagnaTagATune, harmonic CNN",
        description=(
            "Clips of music with their 50 most frequent tags; folders 0 to b are for training, c for "
            "validation and d to f for the test; clips without any of these tags are left out. Training "
            "takes 3.07 seconds of each clip, and an evaluation averages over all of them. Harmonic "
            "filters, seven residual blocks, binary cross-entropy."
        ),
        source="MagnaTagATune (Law et al., 2009); the user's own copy",
        metric="roc_auc",
        unit="fraction",
        direction="maximize",
        metrics=(MetricCard(name="pr_auc", unit="fraction", direction="maximize"),),
        chance=0.5,
        epochs=200,
        batch_size=16,
        parameters=1_951_551,
        published=(
            _published("adam", 0.9112),
            _published("adamp", 0.9135),
            _published("adam", 0.4561, metric="pr_auc"),
            _published("adamp", 0.4579, metric="pr_auc"),
        ),
    )

    @staticmethod
    def read(folder: Path) -> Mapping[str, Sequence[AudioClip]]:
        """Return the clips in the order of `annotations_final.csv`."""
        return _magnatagatune(folder)

    def evaluate(self, model: Any, split: SplitName, *, device: torch.device) -> Mapping[str, float | Tensor]:
        """Return both areas under curves, and the loss; a clip's are means over its parts of 3.07 seconds."""
        scores: list[Tensor] = []
        tags: list[Tensor] = []
        loss = torch.zeros((), device=device)
        for clip in self.clips(split):
            with _opened(clip.file) as sound:
                parts = max(1, sound.frames // self.samples)
            whole, target = _Waveforms([clip], parts * self.samples, is_random=False)[0]
            waveforms = to_device(torch.tensor(whole).view(parts, self.samples), device)
            logits, tag = model(waveforms).float(), torch.as_tensor(target)
            scores.append(logits.amax(dim=-1).sigmoid().mean(dim=0))
            tags.append(tag)
            loss += clip_loss(logits, tag.to(device).expand(parts, -1))
        return {**tagging_metrics(torch.stack(scores), torch.stack(tags)), "loss": loss / len(tags)}


@functools.cache
def _magnatagatune(folder: Path) -> dict[str, list[AudioClip]]:
    header, *rows = _rows(folder / "annotations_final.csv")
    # The first column is the clip's number, and the last one its file.
    table = np.array([row[1:-1] for row in rows], dtype=np.float32)
    common = np.argsort(-table.sum(axis=0), kind="stable")[: MagnaTagATune.classes]
    if len(common) < MagnaTagATune.classes:
        raise ValueError(
            f"expected {MagnaTagATune.classes} tags or more in {folder / 'annotations_final.csv'}, got "
            f"{len(header) - 2}; use the list of MagnaTagATune"
        )
    clips: dict[str, list[AudioClip]] = {"train": [], "validation": [], "test": []}
    for row, tags in zip(rows, table[:, common], strict=True):
        published = folder / row[-1]
        file = next((each for each in (published.with_suffix(".wav"), published) if each.is_file()), None)
        # Some published files are empty.
        if tags.any() and file is not None and file.stat().st_size:
            part = int(row[-1][0], 16)
            split = "train" if part < 12 else "validation" if part == 12 else "test"
            clips[split].append(AudioClip(file, tags))
    return clips


class SpeechCommands(_AudioFolder):
    """35 spoken words, each in a second of audio."""

    folder_name = "speech-commands"
    layout = "the folders and lists of speech_commands_v0.02.tar.gz"
    lists = ("validation_list.txt", "testing_list.txt")
    # fmt: off
    words = (
        "backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward",
        "four", "go", "happy", "house", "learn", "left", "marvin", "nine", "no", "off", "on",
        "one", "right", "seven", "sheila", "six", "stop", "three", "tree", "two", "up", "visual",
        "wow", "yes", "zero",
    )
    # fmt: on
    classes = len(words)
    samples = SAMPLE_RATE
    card = WorkloadCard(
        name="speech-commands",
        title="Speech Commands, harmonic CNN",
        description=(
            "A second of audio with one of 35 spoken words, in the published splits. Harmonic filters, seven "
            "residual blocks, cross-entropy."
        ),
        source="Speech Commands v0.02 (Warden, 2018), CC BY 4.0; the user's own copy",
        metric="accuracy",
        unit="fraction",
        direction="maximize",
        chance=1 / 35,
        epochs=200,
        batch_size=16,
        parameters=1_949_616,
        published=(
            _published("adam", 0.9647),
            _published("adamp", 0.9689),
        ),
    )

    @staticmethod
    def read(folder: Path) -> Mapping[str, Sequence[AudioClip]]:
        """Return the clips in the order of their names."""
        return _speech_commands(folder)

    def training_step(self, model: Any, batch: Any, label_smoothing: float = 0.0) -> Tensor:
        """Return the cross-entropy of the clips' words."""
        waveforms, words = batch
        return functional.cross_entropy(model(waveforms).amax(dim=-1), words, label_smoothing=label_smoothing)

    def evaluate(self, model: Any, split: SplitName, *, device: torch.device) -> Mapping[str, float | Tensor]:
        """Return the accuracy and the cross-entropy."""
        correct, loss = 0, torch.zeros((), device=device)
        for logits, words in self._logits(model, split, device):
            outputs = logits.amax(dim=-1).float()
            correct += int((outputs.argmax(dim=1) == words).sum())
            loss += functional.cross_entropy(outputs, words, reduction="sum")
        clips = len(self.clips(split))
        return {"accuracy": correct / clips, "loss": loss / clips}


@functools.cache
def _speech_commands(folder: Path) -> dict[str, list[AudioClip]]:
    number = {word: index for index, word in enumerate(SpeechCommands.words)}
    listed = {
        name: split
        for split, file in (("validation", "validation_list.txt"), ("test", "testing_list.txt"))
        for name in (folder / file).read_text(encoding="utf-8").split()
    }
    clips: dict[str, list[AudioClip]] = {"train": [], "validation": [], "test": []}
    for word, index in number.items():
        for file in sorted((folder / word).glob("*.wav")):
            clips[listed.get(f"{word}/{file.name}", "train")].append(AudioClip(file, index))
    return clips


class Dcase2017Task4(_AudioFolder):
    """Sounds of warnings and vehicles in clips of ten seconds, with labels of whole clips in training."""

    folder_name = "dcase2017-task4"
    layout = (
        "folders training, testing and evaluation with files Y*.wav of 16,000 samples per second, and the "
        "published groundtruth lists in metadata"
    )
    lists = (
        "metadata/groundtruth_weak_label_training_set.csv",
        "metadata/groundtruth_strong_label_testing_set.csv",
        "metadata/groundtruth_strong_label_evaluation_set.csv",
    )
    names = (
        "Train horn",
        "Air horn, truck horn",
        "Car alarm",
        "Reversing beeps",
        "Ambulance (siren)",
        "Police car (siren)",
        "Fire engine, fire truck (siren)",
        "Civil defense siren",
        "Screaming",
        "Bicycle",
        "Skateboard",
        "Car",
        "Car passing by",
        "Bus",
        "Truck",
        "Motorcycle",
        "Train",
    )
    classes = len(names)
    samples = 10 * SAMPLE_RATE
    segments = 10
    card = WorkloadCard(
        name="dcase2017-task4",
        title="DCASE 2017 task 4, harmonic CNN",
        description=(
            "17 sounds of warnings and vehicles in clips of ten seconds. Labels of whole clips are given in "
            "training; the published testing set is for validation, and the evaluation set for the test. "
            "`f1` counts the sounds of clips, and `segment_f1` those of each second, over all classes "
            "together, where the model's probability is above one half. Harmonic filters, seven residual "
            "blocks, binary cross-entropy."
        ),
        source="DCASE 2017 task 4 (Mesaros et al., 2017), a part of AudioSet; the user's own copy",
        metric="f1",
        unit="fraction",
        direction="maximize",
        metrics=(MetricCard(name="segment_f1", unit="fraction", direction="maximize"),),
        epochs=200,
        batch_size=16,
        parameters=1_947_294,
        published=(
            _published("adam", 0.5524),
            _published("adamp", 0.5604),
        ),
    )

    @staticmethod
    def read(folder: Path) -> Mapping[str, Sequence[AudioClip]]:
        """Return the clips in the order of the lists.

        Raises:
            ValueError: a row of a list is not one of the published lists.
        """
        return _dcase2017(folder)

    def evaluate(self, model: Any, split: SplitName, *, device: torch.device) -> Mapping[str, float | Tensor]:
        """Return the F1 scores of clips and of segments of a second, and the loss."""
        logits = torch.cat(
            [segment_logits(each.float(), self.segments) for each, _ in self._logits(model, split, device)]
        )
        truth = torch.stack([torch.as_tensor(clip.segments) for clip in self.clips(split)]).to(device)
        return {**event_metrics(logits, truth), "loss": clip_loss(logits, truth.amax(dim=-1))}


@functools.cache
def _dcase2017(folder: Path) -> dict[str, list[AudioClip]]:
    number = {name: index for index, name in enumerate(Dcase2017Task4.names)}
    clips: dict[str, list[AudioClip]] = {}
    for split, part, strength in (
        ("train", "training", "weak"),
        ("validation", "testing", "strong"),
        ("test", "evaluation", "strong"),
    ):
        found: dict[Path, NDArray[np.float32]] = {}
        path = folder / "metadata" / f"groundtruth_{strength}_label_{part}_set.csv"
        for row in _rows(path):
            if len(row) != 4 or row[-1] not in number:
                raise ValueError(
                    f"expected a file's name, a start, an end and one of the 17 sounds in each row of "
                    f"{path}, got {row}; use the published list"
                )
            name, onset, offset, label = row
            file = folder / part / f"Y{name}"
            # Videos disappear, so that no copy has all clips.
            if not file.is_file():
                continue
            active = found.setdefault(
                file, np.zeros((Dcase2017Task4.classes, Dcase2017Task4.segments), dtype=np.float32)
            )
            # The times of weak labels are those of the clip in its video.
            times = (float(onset), float(offset)) if strength == "strong" else (0.0, 10.0)
            active[number[label], math.floor(times[0]) : math.ceil(times[1])] = 1
        clips[split] = [AudioClip(file, active.max(axis=1), active) for file, active in found.items()]
    return clips


AUDIO: tuple[LoopWorkload, ...] = (MagnaTagATune(), SpeechCommands(), Dcase2017Task4())
