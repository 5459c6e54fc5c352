"""Transformer-XL: its memory, its softmax, its size, and WikiText-103's files."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from packs import CPU, OPTIMIZERS
from torch.nn import functional

from studies.training_settings import TrainingSettings
from workers.pack_protocol import Member, MemberReport, Pack
from workers.training import train_pack
from workers.workload_check import check_workload
from workers.workloads import LoopWorkload, configured
from workers.workloads.memory_lm import (
    PydocTransformerXl,
    TransformerXl,
    TransformerXlSizes,
    Wikitext103TransformerXl,
)

__all__: list[str] = []

SMALL = TransformerXlSizes(vocabulary=30, layers=2, width=16, heads=2, inner=24)


def model_of(*, weight_norm: bool = False, **changes: Any) -> TransformerXl:
    torch.manual_seed(0)
    sizes = TransformerXlSizes(**vars(SMALL) | changes)
    return TransformerXl(sizes, weight_norm=weight_norm)


def test_segments_with_memory_are_one_text() -> None:
    model = model_of()
    tokens = torch.randint(30, (2, 12))
    whole, _ = model(tokens, None, 12)
    memory: torch.Tensor | None = None
    parts: list[torch.Tensor] = []
    for part in tokens.split(5, dim=1):
        states, memory = model(part, memory, 12)
        parts.append(states)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    assert memory is not None
    assert memory.shape == (2, 2, 12, 16)
    # A memory of 3 tokens forgets the start.
    _, short = model(tokens[:, :5], None, 3)
    assert short.shape == (2, 2, 3, 16)
    assert not short.requires_grad
    assert not torch.allclose(model(tokens[:, 5:10], short, 3)[0], whole[:, 5:10])


def test_no_state_sees_what_follows() -> None:
    model = model_of()
    tokens = torch.randint(30, (1, 10))
    before, _ = model(tokens, None, 0)
    tokens[0, 6] = (tokens[0, 6] + 1) % 30
    after, _ = model(tokens, None, 0)
    assert torch.equal(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6], after[:, 6])


def test_attention_is_by_content_and_distance() -> None:
    """Each score is (q + u) k + (q + v) r of the distance, written with loops."""
    model = model_of(layers=1)
    attention: Any = model.blocks[0].attention
    torch.nn.init.normal_(attention.content_bias)
    torch.nn.init.normal_(attention.distance_bias)
    states, before = torch.randn(1, 4, 16), torch.randn(1, 3, 16)
    distances = torch.randn(7, 16)  # of 6 to 0
    mask = torch.zeros(4, 7).masked_fill(torch.ones(4, 7, dtype=torch.bool).triu(4), -math.inf)
    found = attention(states, before, distances, mask)
    text = torch.cat([before, states], dim=1)[0]
    key, value = (part.view(7, 2, 8) for part in attention.key_value(text).chunk(2, dim=-1))
    query = attention.query(states[0]).view(4, 2, 8)
    relative = attention.distance(distances).view(7, 2, 8).flip(0)  # of 0 to 6
    mixed = torch.zeros(4, 2, 8)
    for head in range(2):
        u, v = attention.content_bias[head, 0], attention.distance_bias[head, 0]
        for i in range(4):
            scores = torch.stack(
                [
                    (query[i, head] + u) @ key[j, head] + (query[i, head] + v) @ relative[3 + i - j, head]
                    for j in range(3 + i + 1)
                ]
            )
            mixed[i, head] = (scores / math.sqrt(8)).softmax(0) @ value[: 3 + i + 1, head]
    torch.testing.assert_close(found[0], attention.out(mixed.flatten(1)))


def test_the_adaptive_softmax_is_a_distribution() -> None:
    model = model_of(cutoffs=(10, 20, 99))
    states = torch.randn(1, 1, 16)
    losses = [model.negative_log_likelihood(states, torch.tensor([[token]])) for token in range(30)]
    assert torch.stack(losses).neg().exp().sum().item() == pytest.approx(1, abs=1e-5)
    plain = model_of()
    logits = functional.linear(states, plain.symbols.weight, plain.symbol_biases)[0]
    assert plain.negative_log_likelihood(states, torch.tensor([[3]])).item() == pytest.approx(
        functional.cross_entropy(logits, torch.tensor([3])).item()
    )


def test_weight_norm_changes_the_parameters_and_not_the_function() -> None:
    plain, normed = model_of(), model_of(weight_norm=True)
    tokens = torch.randint(30, (1, 6))
    torch.testing.assert_close(plain(tokens, None, 0)[0], normed(tokens, None, 0)[0])
    split = {name for name, _ in normed.named_parameters() if "parametrizations" in name}
    # Of each of 2 blocks, 6 layers have a length and a direction.
    assert len(split) == 2 * 6 * 2
    states, _ = normed(tokens, None, 0)
    normed.negative_log_likelihood(states, tokens).backward()
    for name, parameter in normed.named_parameters():
        if name.endswith("original1"):
            assert parameter.grad is not None
            radial = (parameter * parameter.grad).sum(1).abs()
            assert (radial <= 1e-5 * parameter.norm(dim=1) * parameter.grad.norm(dim=1) + 1e-6).all()


def test_the_paper_model_has_151_million_weights() -> None:
    sizes = TransformerXlSizes(
        vocabulary=267_735, layers=16, width=410, heads=10, inner=2100, cutoffs=(20_000, 40_000, 200_000)
    )
    with torch.device("meta"):
        model = TransformerXl(sizes)
    assert sum(parameter.numel() for parameter in model.parameters()) == 151_119_838


@pytest.mark.parametrize("weight_norm", [False, True])
def test_the_small_one_passes_every_check(weight_norm: bool) -> None:
    workload = PydocTransformerXl()
    if weight_norm:
        workload = configured(workload, {"workload.weight_norm": True})
    results = list(check_workload(workload, device=CPU))
    assert [result for result in results if result.status == "error"] == []
    different = [result for result in results if result.check == "card: parameters"]
    # The card has the number without weight norm.
    assert len(different) == weight_norm


def trained(
    workload: LoopWorkload, folder: Path, *, checkpoint: str | None = None, **changes: Any
) -> list[MemberReport]:
    parameters = OPTIMIZERS["adamp"].card.defaults
    fields: dict[str, Any] = {
        "pack_id": "pack",
        "workload": workload.card.name,
        "optimizer": "adamp",
        "members": (Member(trial_id="one", attempt=1, parameters=parameters, seed=3, checkpoint=checkpoint),),
        "from_epoch": 0,
        "to_epoch": 3,
        "epochs": 3,
        "interval_steps": 2,
        "training": TrainingSettings(batch_size=2, schedule="constant"),
        "maximize": False,
        "checkpoints": str(folder),
    }
    reports = train_pack(
        Pack(**fields | changes), workload=workload, entry=OPTIMIZERS["adamp"], data=None, device=CPU
    )
    return [report.members[0] for report in reports]


def losses(members: list[MemberReport]) -> list[float | None]:
    return [member.measurement.validation_loss for member in members]


class Wikitext(Wikitext103TransformerXl):
    """The workload with a small model."""

    segment, memory = 8, 8

    def sizes(self) -> TransformerXlSizes:
        return TransformerXlSizes(
            **vars(SMALL) | {"vocabulary": super().sizes().vocabulary, "cutoffs": (5, 9)}
        )


@pytest.fixture
def wikitext(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TANGENT_DATA", str(tmp_path))
    folder = tmp_path / "wikitext-103"
    folder.mkdir()
    line = " = The Title = \n \n the <unk> of the fox @,@ and the dog \n"
    for name, text in (("train", line * 10), ("valid", line * 3), ("test", " the dog of the fox \n" * 3)):
        (folder / f"wiki.{name}.tokens").write_text(text)
    return folder


@pytest.mark.usefixtures("wikitext")
def test_wikitext_is_read_word_by_word_and_trained(tmp_path: Path) -> None:
    workload = Wikitext()
    assert workload.missing() is None
    text = workload.text("train")
    # Lines have 4, 0 and 9 words, and an end each; `the` and the ends of lines are the most frequent.
    assert len(text) == 10 * (4 + 9 + 3)
    assert workload.sizes().vocabulary == 11
    assert text.bincount()[:2].tolist() == [30, 30]
    results = list(check_workload(workload, device=CPU, batch_size=2))
    assert [result for result in results if result.status == "error"] == []
    # A trial that stops within a pass continues with its memory.
    whole = trained(workload, tmp_path)
    first = trained(workload, tmp_path, to_epoch=1)
    rest = trained(workload, tmp_path, from_epoch=1, checkpoint=first[-1].checkpoint)
    assert losses(first + rest) == losses(whole)
    assert len(set(losses(whole))) == 3


@pytest.mark.usefixtures("wikitext")
def test_the_memory_ends_with_the_pass() -> None:
    workload = Wikitext()
    model = workload.build_model()
    assert isinstance(model, TransformerXl)
    sizes: list[int] = []
    for batch in workload.train_batches(batch_size=2, epoch=1):
        workload.training_step(model, batch)
        sizes.append(model.state_dict()["_extra_state"].numel())
    assert sizes == [SMALL.layers * 2 * 8 * SMALL.width] * 8 + [0]


def test_a_word_that_is_not_in_the_training_text_is_refused(wikitext: Path) -> None:
    (wikitext / "wiki.test.tokens").write_text(" new words \n")
    with pytest.raises(ValueError, match=r"wiki\.test\.tokens"):
        Wikitext().text("test")


def test_files_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANGENT_DATA", str(tmp_path))
    missing = copy.copy(Wikitext103TransformerXl()).missing()
    assert missing is not None
    assert "wiki.train.tokens" in missing
