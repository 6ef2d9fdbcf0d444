"""A Dataset that is not in memory gives the trials of the same data in memory, bit for bit, whoever reads it."""

from __future__ import annotations

import linecache
import random as python
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, WeightedRandomSampler

from relaxbench.errors import UserError
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.problems import SupervisedProblem, splits
from relaxbench.study.definition.splits import describe_splits, split_differences
from relaxbench.training import oracle as oracles
from relaxbench.training.compatibility import try_out
from relaxbench.training.flatness.hessian import training_part
from relaxbench.training.memory import batch_bytes
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.precision import Precision
from relaxbench.training.trial import Job, Outcome
from tests.processes import run

CPU = torch.device("cpu")
COUNT, BATCH = 60, 8
X = torch.randn(COUNT, 4, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)


class Rows(Dataset[tuple[Tensor, int]]):
    """Examples that count how often they are read, with augmentation by three generators."""

    def __init__(self, noise: float = 0.0, count: int = COUNT) -> None:
        self.noise, self.count, self.reads = noise, count, 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        self.reads += 1
        x = X[row]
        if self.noise:
            x = x + self.noise * (float(torch.rand(())) + python.random() + np.random.rand())
        return x, int(Y[row])


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6, 3))


def of(train: Any, held_out: Any = None, *, in_memory: bool = False, **options: Any) -> SupervisedProblem:
    other = Rows() if held_out is None else held_out
    return SupervisedProblem(
        "own",
        model,
        lambda: {"train": train, "validation": other, "test": other},
        batch_size=BATCH,
        budget=24,
        rounds=3,
        in_memory=in_memory,
        **options,
    )


def trained(
    task: SupervisedProblem, rule: str = "sgd", precision: Precision = "float32", seeds: tuple[int, ...] = (7,)
) -> list[Outcome]:
    got, queue = list[Outcome](), [Job(s, s, defaults(RULES[rule].wide), test=True) for s in seeds]
    population = Population(Oracle(task, "direct", precision), RULES[rule](), 24)
    population.run(lambda free: [queue.pop(0) for _ in queue[:free]], got.extend, len(seeds))
    return sorted(got, key=lambda outcome: outcome.job.id)


def same(one: Outcome, other: Outcome) -> bool:
    return (
        torch.equal(one.weights, other.weights)
        and np.array_equal(one.curve, other.curve, equal_nan=True)
        and one.measures == other.measures
        and np.array_equal(one.correct, other.correct)  # type: ignore[arg-type]
        and one.ledger == other.ledger
    )


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_streamed_dataset_gives_the_bits_of_the_same_data_in_memory(
    noise: float, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with held-out examples that draw, and splits of several pieces."""
    monkeypatch.setattr(oracles, "PIECE", 16)
    tasks = [of(Rows(noise), Rows(noise), in_memory=in_memory) for in_memory in (True, False)]
    for task in tasks:
        try_out(task, precision)
    held, streamed = [trained(task, "sgd", precision)[0] for task in tasks]
    assert same(held, streamed) and held.weights.dtype == (torch.float64 if precision == "float64" else torch.float32)
    rows = [training_part(task, CPU, 20) for task in tasks]
    assert torch.equal(rows[0]["x"], rows[1]["x"]) and len(rows[0]["x"]) == 20
    if not noise:
        assert same(held, trained(of((X, Y), (X, Y), in_memory=True), "sgd", precision)[0])


@pytest.mark.parametrize("rule", ["sam", "elastic-sgd"])
def test_neither_neighbours_nor_reading_processes_change_a_trial(rule: str) -> None:
    """SAM asks for each mini-batch twice, replicas for several at once."""
    task = of(Rows(0.3))
    alone = trained(task, rule, seeds=(7,))[0]
    assert same(alone, trained(task, rule, seeds=(5, 6, 7))[2])
    ahead = of(DataLoader(Rows(0.3), BATCH, shuffle=True, num_workers=2))
    assert same(alone, trained(ahead, rule, seeds=(7, 5))[-1])


def test_a_round_may_begin_anywhere_and_generators_are_left_alone() -> None:
    task, numbers = of(Rows(0.3)), torch.tensor([[9], [9]])
    states = torch.get_rng_state(), python.getstate(), np.random.get_state()[2]
    together = task.sampler([3, 4], [0, 5], 12, CPU).batch(numbers)
    alone = task.sampler([4], [9], 1, CPU).batch(numbers[:1])
    assert torch.equal(together["x"][1], alone["x"][0]) and together["step"].tolist() == [9, 9]
    assert not torch.equal(together["x"][0], together["x"][1])
    assert torch.equal(states[0], torch.get_rng_state()) and states[1:] == (
        python.getstate(),
        np.random.get_state()[2],
    )
    whole = of(Rows(), in_memory=True).sampler([4], [9], 2, CPU).batch(numbers[:1])
    assert torch.equal(alone["y"], whole["y"])


SPAWNED = """
import multiprocessing
import torch
from relaxbench.problems import problem

multiprocessing.set_start_method("spawn")
task = problem("mine.py")
print("begun")
sampler = task.sampler([3], [0], 6, torch.device("cpu"))
print([sampler.batch(torch.tensor([[number]]))["y"].tolist() for number in range(6)])
print(sampler._ahead is not None)
"""

MINE = """
import torch
from torch.utils.data import DataLoader, Dataset

from relaxbench.problems import SupervisedProblem


class Rows(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, row):
        return torch.ones(4) * row, row % 3


def data():
    train = DataLoader(Rows(), 8, num_workers={workers})
    return {{"train": train, "validation": Rows(), "test": Rows()}}


problem = SupervisedProblem("mine", lambda: torch.nn.Linear(4, 3), data, batch_size=8, budget=20, in_memory=False)
"""


def test_processes_that_are_no_forks_have_the_classes_of_a_file(tmp_path: Path) -> None:
    """As on macOS: each is a new interpreter, and the script has no `if __name__ == "__main__"`."""
    (tmp_path / "script.py").write_text(SPAWNED)
    told = []
    for workers in (0, 1):
        (tmp_path / "mine.py").write_text(MINE.format(workers=workers))
        done = run([str(tmp_path / "script.py")], cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        told.append(done.stdout.splitlines())
    here, there = told
    assert (here[0], here[2]) == ("begun", "False") and there == ["begun", here[1], "True"]


def test_a_class_of_the_script_itself_is_refused_where_processes_are_no_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would have to run the script, which may begin a study."""
    monkeypatch.setattr("multiprocessing.get_start_method", lambda: "spawn")
    monkeypatch.setattr(Rows, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "Rows", Rows, raising=False)
    task = of(DataLoader(Rows(), BATCH, num_workers=1), Rows())
    with pytest.raises(UserError, match=r"cannot be sent .*: define its class in a module, or set num_workers=0"):
        task.sampler([1], [0], 6, CPU)


def test_a_sampler_that_is_left_early_ends_its_processes_at_once() -> None:
    """Not when the garbage is collected, which PyTorch's loader takes seconds to survive."""
    sampler: Any = of(DataLoader(Rows(), BATCH, num_workers=1), Rows()).sampler([1], [0], 6, CPU)
    sampler.batch(torch.tensor([[0]]))
    (process,) = sampler._ahead._answers._workers
    assert process.is_alive()
    del sampler
    assert not process.is_alive() and process.exitcode == 0


def test_one_reading_ahead_ends_where_another_begins() -> None:
    """Processes that are forked beside those of another loader would take five seconds each to end."""
    began = time.monotonic()
    loader = DataLoader(Rows(), BATCH, num_workers=1)
    task, plain = of(loader, loader), of(Rows())
    first = task.sampler([1], [0], 6, CPU)
    first.batch(torch.tensor([[0]]))
    pieces = task.pieces("test", CPU, 20)
    read = [next(pieces)]
    second = task.sampler([2], [0], 6, CPU)
    second.batch(torch.tensor([[0]]))
    read += pieces
    assert torch.equal(torch.cat([piece["x"] for piece in read]), X)
    for number in range(1, 6):
        for sampler, seed in ((first, 1), (second, 2)):
            expected = plain.sampler([seed], [0], 6, CPU).batch(torch.tensor([[number]]))
            assert torch.equal(sampler.batch(torch.tensor([[number]]))["x"], expected["x"])
    assert time.monotonic() - began < 5


def test_examples_are_read_when_they_are_needed() -> None:
    """To recognize a Dataset takes a sample of it; a gradient reads its own mini-batch."""
    large = Rows(count=COUNT)
    task = of(large, (X, Y))
    task.fingerprint()
    known = large.reads
    task.sampler([1], [0], 5, CPU).batch(torch.tensor([[2]]))
    assert large.reads == known + BATCH
    assert task.splits["train"].held is None and task.splits["test"].held is not None
    assert "train" not in task.tensors


class Lists(Rows):
    """Gives several examples at once, as Datasets of Hugging Face do, and unequal ones that a collate function pads."""

    def __getitems__(self, rows: list[int]) -> list[tuple[Tensor, int]]:
        return [(X[row, : 3 + row % 2], int(Y[row])) for row in rows]


def pad(items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    padded = [nn.functional.pad(x, (0, 4 - len(x))) for x, _ in items]
    return torch.stack(padded), torch.tensor([y for _, y in items])


@pytest.mark.parametrize("workers", [0, 1])
def test_getitems_and_the_collate_function_of_a_loader_are_used(workers: int) -> None:
    x = X.clone()
    x[::2, 3] = 0
    loader = DataLoader(Lists(), BATCH, collate_fn=pad, num_workers=workers)
    for in_memory in (True, False):
        assert same(trained(of(loader, loader, in_memory=in_memory))[0], trained(of((x, Y), (x, Y)))[0])


def changed(change: Callable[[int, Tensor, int], object], count: int = COUNT) -> Dataset[Any]:
    class Changed(Dataset[Any]):
        def __len__(self) -> int:
            return count

        def __getitem__(self, row: int) -> object:
            return change(row, X[row], int(Y[row]))

    return Changed()


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return zip(X, Y, strict=True)


class Lengthless(Dataset[Any]):
    def __getitem__(self, row: int) -> object:
        return X[row], Y[row]


NOTHING: dict[int, Any] = {}
OWN = torch.Generator().manual_seed(1)
NAN = X.where(torch.arange(COUNT)[:, None] != 33, torch.nan)
BAD: list[tuple[str, Any, str]] = [
    ("too long", changed(lambda r, x, y: (x, y), COUNT + 3), "fails on example 62 of 63 (IndexError: index 62 is out"),
    ("iterable", Stream(), "is an IterableDataset, whose examples have no numbers"),
    ("iterable loader", DataLoader(Stream(), BATCH), "is an IterableDataset, whose examples have no numbers"),
    ("no length", Lengthless(), "has no length: write __len__"),
    ("empty", changed(lambda r, x, y: (x, y), 0), "is empty: expected examples"),
    ("another shape", changed(lambda r, x, y: (x[: 4 - (r == 33)], y)), "input of example 33 has shape (3,) (float32)"),
    ("another type", changed(lambda r, x, y: (x.double() if r == 33 else x, y)), "33 has shape (4,) (float64)"),
    ("NaN", changed(lambda r, x, y: (NAN[r], y)), "the input of example 33 has NaN or infinity"),
    (
        "a class too many",
        changed(lambda r, x, y: (x, 7 if r == 33 else y)),
        "example 33 has the label 7, and the",
    ),
    ("no pair", changed(lambda r, x, y: x), "gives examples that cannot be stacked"),
    ("an error", changed(lambda r, x, y: NOTHING[r]), "fails on example 0 of 60 (KeyError: 0): mend its __getitem__"),
    ("own generator", changed(lambda r, x, y: (x + torch.rand((), generator=OWN), y)), "not from a generator of its"),
    ("batch size", DataLoader(Rows(), 5), "has batch_size 5, and the problem 8"),
    ("sampler", DataLoader(Rows(), BATCH, sampler=WeightedRandomSampler([1.0] * COUNT, COUNT)), "WeightedRandomSamp"),
]


def refusal(task: SupervisedProblem) -> str:
    try:
        try_out(task)
        trained(task)
    except UserError as error:
        return str(error)
    raise AssertionError("it was taken")


@pytest.mark.parametrize(("data", "told"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_what_is_wrong_with_a_dataset_is_one_line(data: Any, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the latest when the example is read, because the sample does not have it; else before a study begins."""
    monkeypatch.setattr(splits, "SAMPLED", 1)
    line = refusal(of(data))
    assert told in line and "\n" not in line and "of train" in line


@pytest.mark.parametrize("kind", ["NaN", "a class too many"])
def test_an_error_in_a_process_that_reads_ahead_is_the_same_line(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "SAMPLED", 1)
    data, told = {row[0]: row[1:] for row in BAD}[kind]
    line = refusal(of(DataLoader(data, BATCH, num_workers=1)))
    assert told in line and "\n" not in line


def test_the_test_split_is_read_before_a_study_begins() -> None:
    """Else its last example would end the study when all trials are done."""
    good, bad = Rows(), changed(lambda r, x, y: (NAN[r], y))
    task = SupervisedProblem(
        "own", model, lambda: {"train": good, "validation": good, "test": bad}, batch_size=BATCH, in_memory=False
    )
    with pytest.raises(UserError, match="the Dataset of test: the input of example 33 has NaN"):
        try_out(task)


def test_data_that_do_not_fit_are_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 1000})())
    with pytest.raises(UserError, match="are free: state in_memory=False"):
        of(Rows(), in_memory=True).fingerprint()
    assert len(of(Rows()).fingerprint()) == 16
    with pytest.raises(UserError, match="in_memory = 'no': expected True or False"):
        of(Rows(), in_memory="no")  # type: ignore[arg-type]


def test_the_identity_of_a_dataset_is_its_length_a_sample_and_its_code() -> None:
    """Comments and docstrings are no code."""
    bodies = {
        "begun": "return X[row], int(Y[row])",
        "comment": '"""Read."""\n        return X[row], int(Y[row])  # quickly',
        "code": "return X[row], int(Y[row]) if row < 10**6 else 0",
        "noise": "return X[row] + 0.01 * torch.rand(()), int(Y[row])",
    }
    tasks = {name: of(defined(body), Rows()) for name, body in bodies.items()}
    digests = {name: task.fingerprint() for name, task in tasks.items()}
    assert digests["begun"] == digests["comment"] and len(set(digests.values())) == 3
    shorter = of(Subset(defined(bodies["begun"]), range(COUNT - 1)), Rows())
    assert shorter.fingerprint() not in digests.values()
    began = describe_splits(tasks["begun"])
    (line,) = split_differences(began, describe_splits(tasks["code"]))
    assert line.startswith("train has code of the Dataset Written:")
    assert "examples 59, was 60" in split_differences(began, describe_splits(shorter))[0]


def defined(body: str) -> Any:
    """A Dataset whose class is written in a file."""
    text = f"class Written(Dataset):\n    def __len__(self):\n        return {COUNT}\n\n"
    text += f"    def __getitem__(self, row):\n        {body}\n"
    name = f"/written-{abs(hash(body))}.py"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    space: dict[Any, Any] = {"Dataset": Dataset, "X": X, "Y": Y, "torch": torch, "__name__": name}
    module = types.ModuleType(name)
    module.__file__ = name
    sys.modules[name] = module
    exec(compile(text, name, "exec"), space)
    return space["Written"]()


def test_memory_planning_counts_the_mini_batch_and_what_measurements_keep() -> None:
    task = of(Rows())
    batch = BATCH * (4 * 4 + 8 + 0) + 2 * 8
    outputs = COUNT * 3 * 4
    assert batch_bytes(task, CPU) == batch + outputs
