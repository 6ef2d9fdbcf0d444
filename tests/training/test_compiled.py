"""The compiled path: a step is the plain one, the same in any slot, and nothing is compiled that cannot be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from relaxbench.optim.hyper import Hyper, defaults
from relaxbench.optim.rule import State
from relaxbench.optim.rules.lookahead import Lookahead
from relaxbench.optim.rules.sgd import SGD
from relaxbench.problems import SupervisedProblem
from relaxbench.training import compilation, compilers
from relaxbench.training.compilation import compiled_step, record
from relaxbench.training.compiled import LONGEST, CompiledStep, Function, UnfitError
from relaxbench.training.compilers import NoCompilerError, tried, why_not_here
from relaxbench.training.oracle import Oracle
from relaxbench.training.population import Population
from relaxbench.training.trial import Checkpoint, Job, Outcome

SIZE, BUDGET = 4, 48
CPU = torch.device("cpu")


def small() -> SupervisedProblem:
    x = torch.arange(240.0).view(40, 6).sin()
    y = (x.sum(1) > 0).long() + (x[:, 0] > 0.5).long()
    splits = dict.fromkeys(("train", "validation", "test"), (x, y))

    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Dropout(0.2), nn.Linear(9, 3))

    return SupervisedProblem("small", model, lambda: splits, batch_size=8, budget=BUDGET)


@pytest.fixture(scope="module")
def step() -> CompiledStep:
    """The only step that these tests compile, with dropout and inner loops."""
    if shutil.which("g++") is None:
        pytest.skip("needs a C++ compiler")
    return compiled_step(small(), Lookahead(), SIZE)


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a recording by plain operations: what is tested then is not the compiler."""
    monkeypatch.setattr(compilation, "_compile", interpret)
    monkeypatch.setattr(compilation, "_made", {})


def interpret(graph: torch.fx.GraphModule, _: Sequence[Tensor]) -> Function:
    return lambda tensors: graph(*tensors)


def jobs(count: int, resume: dict[int, Checkpoint] | None = None) -> list[Job]:
    """Trials with other seeds, step sizes and lengths of the inner loop; one of them diverges."""
    known = defaults(Lookahead.wide)
    params = [{**known, "inner_lr": 1e30 if i == 2 else 0.02 * (i + 1), "inner_steps": 4 + i % 3} for i in range(count)]
    return [Job(i, 70_000_000_000 + i, params[i], True, (resume or {}).get(i)) for i in range(count)]


def members(step: CompiledStep) -> Population:
    return Population(Oracle(step.recorded.problem), step.recorded.rule, BUDGET, compiled=step)


def train(trials: Sequence[Job], step: CompiledStep, size: int) -> dict[int, Outcome]:
    queue, results = list(trials), dict[int, Outcome]()

    def feed(free: int) -> list[Job]:
        taken = queue[:free]
        del queue[:free]
        return taken

    members(step).run(feed, lambda ended: results.update({one.job.id: one for one in ended}), size)
    return results


def same(a: Outcome, b: Outcome) -> bool:
    """Whether two outcomes are equal bit for bit; NaN equals NaN."""
    pairs = ((torch.from_numpy(a.curve), torch.from_numpy(b.curve)), (a.weights, b.weights))
    equal = all(torch.allclose(*pair, rtol=0, atol=0, equal_nan=True) for pair in pairs)
    return equal and (a.value, a.ledger) == (b.value, b.ledger)


def test_a_trial_is_the_same_bit_for_bit_whatever_its_slot_neighbours_and_refilling(step: CompiledStep) -> None:
    whole = train(jobs(7), step, SIZE)
    assert whole[2].diverged and sum(outcome.diverged for outcome in whole.values()) == 1
    for others in (train(jobs(7)[::-1], step, SIZE), train(jobs(7)[::2], step, 3), train(jobs(7)[5:6], step, 1)):
        assert others and all(same(outcome, whole[i]) for i, outcome in others.items())


def test_an_interrupted_trial_goes_on_bit_for_bit_beside_others(step: CompiledStep) -> None:
    whole, half = train(jobs(4), step, SIZE), members(step)
    half.admit(jobs(4))
    for _ in range(4):
        half.round()
    kept = half.checkpoints()
    assert sorted(kept) == [0, 1, 3] and all(0 < checkpoint["done"] < BUDGET for checkpoint in kept.values())
    rest = train([jobs(4, kept)[i] for i in (3, 1, 0)], step, 2)
    assert all(same(outcome, whole[i]) for i, outcome in rest.items())


def test_the_steps_are_those_of_the_vectorized_path(step: CompiledStep) -> None:
    """Over more steps than a stretch has, whose ends leave no trace: weights agree as far as rounding lets them."""
    task, rule, found = step.recorded.problem, Lookahead(), list[Tensor]()
    trials = [Job(i, i, {**defaults(rule.wide), "inner_steps": 4, "inner_lr": 0.02}) for i in range(3)]
    for compiled in (step, None):
        population = Population(Oracle(task), rule, 10**4, compiled=compiled)
        population.admit(trials)
        counts, losses, table = population.advance(LONGEST + 8)
        assert counts == [LONGEST + 8] * 3 and table["inner_lr"].shape == (LONGEST + 8, 3, 1)
        found += [rule.iterate(population.state), losses]
    assert torch.allclose(found[0], found[2], rtol=1e-3, atol=1e-5)
    assert torch.allclose(found[1], found[3], rtol=1e-4)


class Reading(SGD):
    """A rule that chooses its operations by a number of its state."""

    name = "reading"

    def update(self, state: State, grad: Tensor, loss: Tensor, hyper: Hyper) -> State:
        return super().update(state, grad if float(loss.sum()) > 0 else -grad, loss, hyper)


def test_a_step_that_reads_numbers_is_not_recorded() -> None:
    with pytest.raises(UnfitError, match="its step cannot be recorded"):
        record(small(), Reading(), 2)


@pytest.mark.parametrize(
    ("slot", "change", "told"),
    [(slice(None), 1e-2, "gives other numbers than the plain one"), (slice(3, 4), 1e-6, "depends on the slot")],
)
def test_a_compiled_step_that_is_wrong_is_not_used(
    slot: slice, change: float, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted fault of the compiler: every slot moves too far, or one of them a little."""

    def wrong(graph: torch.fx.GraphModule, _: Sequence[Tensor]) -> Function:
        def run(tensors: list[Tensor]) -> None:
            graph(*tensors)
            tensors[0][slot] += change

        return run

    monkeypatch.setattr(compilation, "_compile", wrong)
    monkeypatch.setattr(compilation, "_made", {})
    with pytest.raises(UnfitError, match=told):
        compiled_step(small(), SGD(), SIZE)


def test_a_cache_that_fails_is_left_aside_and_named(
    interpreted: None, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    folders: list[str] = []

    def broken(graph: torch.fx.GraphModule, arguments: Sequence[Tensor]) -> Function:
        folders.append(os.environ["TORCHINDUCTOR_CACHE_DIR"])
        if len(folders) == 1:
            raise OSError("file too short")
        return interpret(graph, arguments)

    monkeypatch.setattr(compilation, "_compile", broken)
    note = compiled_step(small(), SGD(), 2).note
    assert (
        note == f"compiled without the cache in {tmp_path}, which failed (OSError: file too short): delete that folder"
    )
    assert folders[1] != folders[0] == str(tmp_path)


def test_a_compiler_is_tried_with_its_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "new" / "cache"))
    found, cache, problem = tried()
    assert cache == tmp_path / "new" / "cache"
    assert bool(found) == (why_not_here(CPU) is None) and bool(problem) == (not found)
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert not found or tried()[2] == f"the folder of compiled steps cannot be written: {tmp_path / 'file' / 'cache'}"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\necho fatal: no header >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(compilers, "_found", lambda: (str(broken), ""))
    assert tried()[2] == f"{broken} fails: fatal: no header"


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_on_macos_a_kernel_is_compiled_as_inductor_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apple's compiler does not know -fopenmp."""
    monkeypatch.setattr(compilers, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setattr(compilers, "_extension", lambda compiler: "unknown option -fopenmp")
    monkeypatch.setattr(torch, "compile", lambda function: function)
    assert tried()[2] == ""

    def fails(function: object) -> None:
        raise RuntimeError("\nno libomp\nmore")

    monkeypatch.setattr(torch, "compile", fails)
    assert tried()[2].endswith(" fails: no libomp")


def test_nothing_is_compiled_without_a_compiler_or_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "is for the CPU" in str(why_not_here(torch.device("cuda:0")))
    assert why_not_here(CPU) is None or shutil.which("g++") is None
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "C++ compiler" in str(why_not_here(CPU))
    with pytest.raises(NoCompilerError, match="C\\+\\+ compiler"):
        compiled_step(small(), SGD(), 2)
