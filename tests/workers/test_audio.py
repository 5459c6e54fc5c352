"""Audio: harmonic filters, metrics against scikit-learn, and training on generated files as published."""

import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from packs import CPU
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from workers.workload_check import check_workload
from workers.workload_errors import MachineUnfit
from workers.workloads import LoopWorkload
from workers.workloads.audio import AUDIO, Dcase2017Task4, MagnaTagATune, SpeechCommands
from workers.workloads.harmonic_cnn import (
    SAMPLE_RATE,
    HarmonicCnn,
    HarmonicFilters,
    event_metrics,
    f1,
    segment_logits,
    tagging_metrics,
)

__all__: list[str] = []


def test_a_tone_excites_the_filters_at_its_frequency_in_every_harmonic() -> None:
    filters = HarmonicFilters()
    times = torch.arange(SAMPLE_RATE) / SAMPLE_RATE
    energy = filters((2 * math.pi * 880 * times).sin().unsqueeze(0))
    assert energy.shape == (1, 6, 128, 63)
    strongest = energy[0, :, :, 30].argmax(dim=1)
    for harmonic in range(6):
        centre = float(filters.centres[harmonic, strongest[harmonic]])
        # The filters are a quarter tone apart, and the spectrum's lines 31 Hz.
        assert centre == pytest.approx(880, rel=0.05)
    energy.mean().backward()
    assert filters.q.grad is not None
    assert filters.q.grad.abs() > 0


def test_the_network_has_two_time_steps_a_second_and_the_same_size_for_all_classes() -> None:
    model = HarmonicCnn(5, channels=4).eval()
    assert model(torch.zeros(2, 10 * SAMPLE_RATE)).shape == (2, 5, 19)
    assert model(torch.zeros(1, SAMPLE_RATE)).shape == (1, 5, 1)
    with torch.device("meta"):
        whole = HarmonicCnn(5)
    assert sum(parameter.numel() for parameter in whole.parameters()) == 1_945_746


def test_metrics_are_those_of_scikit_learn() -> None:
    draw = torch.Generator().manual_seed(0)
    tags = (torch.rand(40, 5, generator=draw) < 0.3).float()
    scores = (tags + torch.randn(40, 5, generator=draw)).round(decimals=1)
    tags[:, 4] = 0
    both = tags[:, :4].numpy(), scores[:, :4].numpy()
    found = tagging_metrics(scores, tags)
    assert found["roc_auc"] == pytest.approx(roc_auc_score(*both, average="macro"))
    assert found["pr_auc"] == pytest.approx(average_precision_score(*both, average="macro"))
    assert math.isnan(tagging_metrics(torch.full((2, 2), math.nan), torch.eye(2))["roc_auc"])
    guessed = scores > 0.5
    assert f1(guessed, tags > 0) == pytest.approx(
        f1_score((tags > 0).numpy(), guessed.numpy(), average="micro")
    )
    assert f1(torch.zeros(3, dtype=torch.bool), torch.zeros(3, dtype=torch.bool)) == 0


def test_an_event_counts_in_its_segments_and_in_its_clip() -> None:
    logits = torch.tensor([[[-1.0, 2.0, 3.0, -1.0], [-1.0, -1.0, -1.0, 1.0]]])
    assert segment_logits(logits, 2).tolist() == [[[2.0, 3.0], [-1.0, 1.0]]]
    truth = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]])
    # One of three found segments is right, and one of two is found; one of two found classes is right.
    assert event_metrics(logits, truth) == {"f1": pytest.approx(2 / 3), "segment_f1": pytest.approx(2 / 5)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TANGENT_DATA", str(tmp_path))
    # Processes that read files take seconds to start, and a step of the whole network takes as long.
    for workload in AUDIO:
        monkeypatch.setattr(type(workload), "loaders", 0)
        monkeypatch.setattr(type(workload), "channels", 4)
        monkeypatch.setattr(type(workload), "samples", SAMPLE_RATE)
    return tmp_path


def sound(file: Path, *, seconds: float, pitch: int, rate: int = SAMPLE_RATE) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(int(seconds * rate)) / rate
    # Clips of two splits may not be the same.
    seed = zlib.crc32(f"{file.parent.name}/{file.name}".encode())
    noise = np.random.default_rng(seed).normal(size=(len(times), 2))
    soundfile.write(file, 0.5 * np.sin(2 * np.pi * pitch * times)[:, None] + 0.05 * noise, rate)


def magnatagatune(folder: Path) -> None:
    lines = ["\t".join(["clip_id", *(f"tag {number}" for number in range(188)), "mp3_path"])]
    for number, part in enumerate("0123456bccdf"):
        tags = ["1" if tag % 6 == number % 2 and tag < 180 else "0" for tag in range(188)]
        name = f"{part}/artist-{number}.mp3"
        lines.append("\t".join([str(number), *tags, name]))
        file = folder / "magnatagatune" / name
        if number != 3:
            sound(
                file.with_suffix(".wav") if number % 2 else file, seconds=2.1, pitch=200 + 100 * (number % 2)
            )
    lines.append("\t".join(["12", *(["0"] * 188), "0/without-a-tag.mp3"]))
    (folder / "magnatagatune" / "annotations_final.csv").write_text("\n".join(lines) + "\n")


def speech_commands(folder: Path) -> None:
    root = folder / "speech-commands"
    for word, pitch in (("yes", 200), ("no", 400), ("_background_noise_", 900)):
        for number in range(6):
            sound(
                root / word / f"{number}_nohash_0.wav", seconds=1 - 0.1 * (number % 2), pitch=pitch + number
            )
    (root / "validation_list.txt").write_text("yes/4_nohash_0.wav\nno/4_nohash_0.wav\n")
    (root / "testing_list.txt").write_text("yes/5_nohash_0.wav\nno/5_nohash_0.wav\n")


def dcase2017(folder: Path) -> None:
    root = folder / "dcase2017-task4"
    (root / "metadata").mkdir(parents=True)
    for part, strength, count in (
        ("training", "weak", 6),
        ("testing", "strong", 2),
        ("evaluation", "strong", 2),
    ):
        lines: list[str] = []
        for number in range(count):
            name = f"video{number}_30.000_40.000.wav"
            times = ("30.000", "40.000") if strength == "weak" else ("2.500", "4.000")
            lines.append("\t".join([name, *times, "Car"]))
            lines.append("\t".join([name, *times, "Air horn, truck horn" if number % 2 else "Bus"]))
            sound(root / part / f"Y{name}", seconds=1, pitch=200 + 100 * (number % 2))
        lines.append("gone_0.000_10.000.wav\t0.000\t10.000\tTrain")
        file = root / "metadata" / f"groundtruth_{strength}_label_{part}_set.csv"
        file.write_text("\n".join(lines) + "\n")


MAKERS = {"magnatagatune": magnatagatune, "speech-commands": speech_commands, "dcase2017-task4": dcase2017}


@pytest.mark.parametrize("workload", AUDIO, ids=lambda workload: workload.card.name)
def test_it_trains_on_files_in_the_published_layout(workload: LoopWorkload, folder: Path) -> None:
    missing = workload.missing()
    assert missing is not None
    assert str(folder / workload.card.name) in missing
    MAKERS[workload.card.name](folder)
    assert workload.missing() is None
    results = list(check_workload(workload, device=CPU, batch_size=2))
    assert [result for result in results if result.status == "error"] == []


def test_clips_are_split_as_published(folder: Path) -> None:
    for make in MAKERS.values():
        make(folder)

    def names(workload: MagnaTagATune | SpeechCommands | Dcase2017Task4) -> dict[str, int]:
        return {split: len(workload.clips(split)) for split in ("train", "validation", "test")}

    assert names(MagnaTagATune()) == {"train": 7, "validation": 2, "test": 2}
    assert names(SpeechCommands()) == {"train": 8, "validation": 2, "test": 2}
    assert names(Dcase2017Task4()) == {"train": 6, "validation": 2, "test": 2}
    yes = next(clip for clip in SpeechCommands().clips("test") if clip.file.parent.name == "yes")
    assert SpeechCommands.words[int(yes.target)] == "yes"
    segments = Dcase2017Task4().clips("test")[1].segments
    assert segments is not None
    assert np.argwhere(segments).tolist() == [[1, 2], [1, 3], [11, 2], [11, 3]]


@pytest.mark.parametrize("workload", AUDIO, ids=lambda workload: workload.card.name)
def test_lists_without_clips_are_a_fault_of_the_machine(workload: LoopWorkload, folder: Path) -> None:
    MAKERS[workload.card.name](folder)
    for file in (*folder.rglob("*.wav"), *folder.rglob("*.mp3")):
        file.unlink()
    with pytest.raises(MachineUnfit, match=r"clips of the train split in .*, got none; put "):
        workload.steps_per_epoch(2)
    with pytest.raises(MachineUnfit, match="clips of the test split"):
        workload.evaluate(workload.build_model(), "test", device=CPU)


@pytest.mark.parametrize("row", ["video0_30.000_40.000.wav\t0\t10\tTrombone", "video0_30.000_40.000.wav"])
def test_an_unknown_sound_is_named_with_its_list(row: str, folder: Path) -> None:
    dcase2017(folder)
    file = folder / "dcase2017-task4" / "metadata" / "groundtruth_strong_label_testing_set.csv"
    file.write_text(f"{row}\n")
    with pytest.raises(ValueError, match=r"testing_set\.csv, got \['video0"):
        Dcase2017Task4().clips("train")


def test_another_sample_rate_is_refused(folder: Path) -> None:
    speech_commands(folder)
    sound(folder / "speech-commands" / "yes" / "0_nohash_0.wav", seconds=1, pitch=200, rate=8000)
    with pytest.raises(ValueError, match="got 8000"):
        list(SpeechCommands().train_batches(batch_size=2, epoch=1))
