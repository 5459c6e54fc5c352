"""The small audio workloads: their file is the published one, and their sequences are what they say."""

import gzip
import hashlib
import re
from pathlib import Path

import pytest
from packs import CPU

from workers.workload_check import check_workload
from workers.workloads import LoopWorkload, TensorWorkload, vowels
from workers.workloads.vowels import VOWELS, VowelsEvents, VowelsTagging, read_vowels

__all__: list[str] = []

FOLDER = Path(vowels.__file__).parent / "japanese_vowels"


def test_the_files_are_the_published_ones() -> None:
    listed = {
        line.split()[1]: line.split()[0]
        for line in (FOLDER / "README.md").read_text().splitlines()
        if re.match(r"[0-9a-f]{64} ", line)
    }
    assert listed == {
        file.name.removesuffix(".gz"): hashlib.sha256(gzip.decompress(file.read_bytes())).hexdigest()
        for file in FOLDER.glob("*.gz")
    }
    # The numbers of UCI's description.
    train, train_speakers = read_vowels("TRAIN")
    test, test_speakers = read_vowels("TEST")
    assert train_speakers.bincount().tolist() == [30] * 9
    assert test_speakers.bincount().tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    lengths = [len(utterance) for utterance in train + test]
    assert (min(lengths), max(lengths)) == (7, 29)
    assert {utterance.shape[1] for utterance in train + test} == {12}


@pytest.mark.parametrize("workload", VOWELS, ids=lambda workload: workload.card.name)
def test_it_passes_every_check(workload: TensorWorkload | LoopWorkload) -> None:
    results = list(check_workload(workload, device=CPU))
    assert [result for result in results if result.status == "error"] == []
    assert [result for result in results if result.check.startswith("card: parameters")] == []


@pytest.mark.parametrize("workload", [VowelsTagging(), VowelsEvents()], ids=lambda each: each.card.name)
def test_sequences_say_who_speaks_when(workload: VowelsTagging | VowelsEvents) -> None:
    for split in ("train", "validation", "test"):
        inputs, active = workload.sequences(split)
        assert len(inputs) == len(active) == workload.card.examples[split]  # pyright: ignore[reportArgumentType]
        assert active.shape[2] * 4 == inputs.shape[2]
        assert active.sum(dim=1).max() == 1
        # Silence is zero, and no speaker is active in it.
        silent = (inputs.unflatten(-1, (-1, 4)) == 0).all(dim=-1).all(dim=1)
        assert not (active.amax(dim=1).bool() & silent).any()
    tags = VowelsTagging().sequences("train")[1].amax(dim=-1).sum(dim=1)
    assert tags.unique().tolist() == [2, 3, 4]
    # Each split is a draw of its own, of other speakers at other times.
    train, validation, test = (workload.sequences(split)[1] for split in ("train", "validation", "test"))
    for one, other in ((validation, test), (train[:500], validation), (train[:500], test)):
        assert (one == other).all(dim=-1).all(dim=-1).float().mean() < 0.1
