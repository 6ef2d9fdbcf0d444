"""Texts: reading, windows, and the loss of the network on them."""

from __future__ import annotations

import lzma
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from relaxbench.errors import UserError
from relaxbench.problems import problem
from relaxbench.problems.networks import CharLSTM
from relaxbench.problems.text import LENGTH, TextProblem, read
from relaxbench.training.compatibility import try_out
from relaxbench.training.oracle import Oracle
from tests.mnist import REAL

CPU = torch.device("cpu")
SENTENCE = "To be, or not to be: that is the question – whether 'tis nobler in the mind to suffer\r\n"


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RELAXBENCH_DATA", str(tmp_path))
    (tmp_path / "hamlet.txt.xz").write_bytes(lzma.compress((SENTENCE * 300).encode()))
    return tmp_path / "hamlet.txt"


def test_a_window_pairs_each_character_with_the_next(text: Path) -> None:
    content = SENTENCE.replace("\r\n", "\n") * 300
    found = read(text)
    assert "".join(found.alphabet[code] for code in found.codes.tolist()) == content
    task = problem("char-lstm:hamlet.txt")
    assert isinstance(task, TextProblem) and task.name == "char-lstm:hamlet"
    pieces = []
    for x, y in task.tensors.values():
        assert x.shape == y.shape and x.shape[1] == LENGTH
        assert torch.equal(x.flatten()[1:].long(), y.flatten()[:-1])
        pieces.append("".join(found.alphabet[code] for code in x.flatten().tolist()))
    places = [content.index(piece) for piece in pieces]
    assert places[0] == 0 and [len(p) / len(content) for p in pieces] == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    starts = (0, round(0.8 * len(content)), round(0.8 * len(content)) + round(0.1 * len(content)))
    assert all(content[s : s + len(p)] == p for s, p in zip(starts, pieces, strict=True))


def test_the_loss_is_the_mean_over_all_characters_and_the_metric_its_bits(text: Path) -> None:
    task = problem("char-lstm-small:hamlet.txt")
    try_out(task)
    x = task.init(3)
    found = Oracle(task, "direct").measure(x[None], "validation")
    held_out = task.split("validation", CPU)
    model = CharLSTM(len(read(text).alphabet))
    nn.utils.vector_to_parameters(x, model.parameters())
    logits = model(held_out["x"].long())
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), held_out["y"].flatten()).item()
    assert found.loss.item() == found.metric.item() == pytest.approx(expected, rel=1e-5) and found.correct is None
    assert found.metric.item() * task.metric_scale == pytest.approx(expected / math.log(2), rel=1e-5)
    assert task.unit == "bits per character"


def test_gradient_and_curvature_of_the_loss_are_those_of_all_characters() -> None:
    from relaxbench.problems.losses import loss

    generator = torch.Generator().manual_seed(0)
    z = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    batch = {"y": torch.randint(0, 5, (3, 4), generator=generator)}
    cross = loss("cross-entropy")
    gradient = torch.func.grad(cross.value)
    assert torch.allclose(cross.gradient(z, batch), gradient(z, batch))
    v = torch.randn(z.shape, generator=generator, dtype=torch.float64)
    _, pull = torch.func.vjp(lambda at: gradient(at, batch), z)  # a Hessian is symmetric
    assert torch.allclose(cross.curvature(z, batch, v), pull(v)[0])


def test_small_budgets_measure_on_fewer_windows(text: Path, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text(SENTENCE * 5000)
    small, full = problem("char-lstm-small:long.txt"), problem("char-lstm:long.txt")
    assert len(small.split("validation", CPU)["x"]) == 500 < len(full.split("validation", CPU)["x"])
    assert small.caution and not full.caution


def test_unusable_texts_are_refused_in_one_line(tmp_path: Path, text: Path) -> None:
    for content, said in (
        (b"\xff\xfe\x00t" * 1000, r"is not UTF-8 at byte 0"),
        (b"short", r"has 5 characters, 5 different: expected at least 1,280"),
        (b"a" * 5000, r"has 5,000 characters, 1 different"),
    ):
        (tmp_path / "bad.txt").write_bytes(content)
        with pytest.raises(UserError, match=said):
            read(tmp_path / "bad.txt")
    (tmp_path / "cut.txt.xz").write_bytes((tmp_path / "hamlet.txt.xz").read_bytes()[:-40])
    with pytest.raises(UserError, match=r"is damaged or cannot be read \(.+\)"):
        read(tmp_path / "cut.txt")
    task = problem("char-lstm")
    assert "does not exist: set RELAXBENCH_DATA to the folder that holds it" in task.missing()
    assert task.data == "war-and-peace.txt, not here"


def test_the_transformer_is_trained_together_or_alone_with_the_same_bits(text: Path) -> None:
    task = problem("tiny-transformer-small:hamlet.txt")
    assert task.name == "tiny-transformer-small:hamlet" and task.batch_size == 16
    points = torch.stack([task.init(seed) for seed in range(5)])
    sampler = task.sampler([*range(5)], [0] * 5, 1, CPU)
    batch = sampler.batch(torch.zeros(5, 1, dtype=torch.int64))
    together = Oracle(task).gradient_on(points, batch)
    for i in range(5):
        own = {name: part[i : i + 1] for name, part in batch.items()}
        alone = Oracle(task).gradient_on(points[i : i + 1], own)
        assert torch.equal(alone[0], together[0][i : i + 1]) and torch.equal(alone[1], together[1][i : i + 1])


@pytest.mark.skipif(not (REAL / "war-and-peace.txt.xz").is_file(), reason="War and Peace is not at hand")
def test_real_war_and_peace_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAXBENCH_DATA", str(REAL))
    task = problem("char-lstm")
    assert task.missing() == "" and task.size == sum(p.numel() for p in CharLSTM(len(task.text.alphabet)).parameters())  # type: ignore[attr-defined]
    assert abs(len(task.split("train", CPU)["x"]) // task.batch_size * 50 - task.budget) < 800  # 50 epochs
