"""`help` of a drop-in class: complete, true to its rule, and its example runs."""

from __future__ import annotations

import doctest
import inspect
import re
from typing import Any

import pytest
import torch
from torch import nn

from relaxbench.optim import SAM, CurveBall, EntropySGD, Parle, drop_in
from relaxbench.optim.drop_in.classes import DROP_INS
from relaxbench.optim.drop_in.docstring import WIDTH, compose
from relaxbench.optim.hyper import OPTIONS
from relaxbench.optim.meanings import Meaning
from relaxbench.optim.rules import sgd
from relaxbench.space import Choice, Float, Hyperparameter, Int


def text_of(cls: type) -> str:
    return " ".join((inspect.getdoc(cls) or "").split())


def ends(declared: Hyperparameter) -> str:
    """A range in words."""
    if isinstance(declared, Choice):
        return ", ".join(declared.options)
    more = ", on a log scale" if isinstance(declared, Float) and declared.log else ""
    more = f" in steps of {declared.step}" if isinstance(declared, Int) and declared.step > 1 else more
    return f"{declared.low:g} to {declared.high:g}{more}"


@pytest.mark.parametrize("name", DROP_INS)
def test_the_example_of_every_class_runs_and_the_loss_falls(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    inputs = torch.randn(240, 16, 4)
    batches = [(x, x[:, :3].argmax(dim=1)) for x in inputs]
    names: dict[str, Any] = {"model": model, "batches": batches, "loss_fn": nn.functional.cross_entropy}
    names[DROP_INS[name].__name__] = DROP_INS[name]

    def loss() -> float:
        with torch.no_grad():
            return float(torch.stack([nn.functional.cross_entropy(model(x), y) for x, y in batches]).mean())

    before = loss()
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(DROP_INS[name]) or "")
    exec("".join(example.source for example in examples), names)
    with names["optimizer"].deployed():
        assert loss() < 0.95 * before


@pytest.mark.parametrize("name", DROP_INS)
def test_every_hyperparameter_has_meaning_allowed_values_range_and_default(name: str) -> None:
    text, rule = text_of(DROP_INS[name]), DROP_INS[name].rule_class
    for hyper, declared in rule.wide.items():
        entry = re.search(rf"\b{hyper} \((float|int|str)\): (.*?) Default: (\S+)\.( |$)", text)
        assert entry, hyper
        meaning = rule.meaning(hyper)
        assert meaning and entry[2].startswith(meaning.text) and "Allowed: " in entry[2]
        assert (f"(unit: {meaning.unit})" in entry[2]) == bool(meaning.unit)
        assert type(declared.default)(entry[3]) == declared.default
        default, _, wide = entry[2].partition(' (space = "wide": ')
        if hyper in rule.default_fixed:
            value = rule.default_fixed[hyper]
            assert default.endswith(f"; studies keep it at {value if isinstance(value, str) else format(value, 'g')}")
            assert wide == f"{ends(declared)})."
        else:
            shown = ends(rule.space[hyper])
            assert ("studies search" in default) == (
                not isinstance(declared, Choice) or declared.options != OPTIONS[hyper]
            )
            assert "studies search" not in default or default.rstrip(".").endswith(f"studies search {shown}")
            assert wide == ("" if shown == ends(declared) else f"{ends(declared)}).")


@pytest.mark.parametrize("name", DROP_INS)
def test_formula_source_memory_and_options_are_those_of_the_rule(name: str) -> None:
    cls = DROP_INS[name]
    doc, rule = inspect.getdoc(cls) or "", cls.rule_class
    mathematics = (inspect.getdoc(rule) or "").split("\n\nArgs:")[0]
    assert doc.split("\n")[0].endswith(".") and mathematics in doc
    assert f"Source: {rule.source}." in text_of(cls)
    assert f"{rule().copies} copies" in " ".join(mathematics.split())
    options = inspect.signature(rule).parameters
    assert all(f"    {option} ({type(value.default).__name__}): " in doc for option, value in options.items())
    for section in ("Args:", "Raises:", "Examples:"):
        assert f"\n{section}\n" in doc
    assert max(map(len, doc.replace(mathematics, "").split("\n"))) <= WIDTH


@pytest.mark.parametrize(
    ("cls", "sentence"),
    [
        (EntropySGD, "Cost: 1 gradient per call of `step()`. An outer step, after which x moves, is 20 calls"),
        (SAM, "Cost: 2 gradients per call of `step()`. Call `step(closure)`."),
        (SAM, "Each step calls it twice, on the same mini-batch"),
        (EntropySGD, "`lr` of the parameter groups, which is 1 at first and a factor on the annealed step size."),
        (SAM, 'pass `schedule="constant"`: it changes the `lr` of the parameter groups.'),
        (Parle, "is 60 calls with the defaults."),
        (Parle, "Each call serves one replica, with its own mini-batch"),
        (CurveBall, "Cost: 2.4 gradients per call of `step()`. Call `step(model_fn, loss_fn)`"),
        (EntropySGD, "inner_steps (int): Number L of inner steps per outer step. Allowed: an integer of at least 1; "),
    ],
)
def test_cost_and_closure_are_described(cls: type, sentence: str) -> None:
    assert sentence in text_of(cls)


def test_the_docstring_of_another_rule_says_how_to_make_its_class() -> None:
    class Mine(sgd.SGD):
        """x ← x − η g."""

        name, title, source = "mine", "Mine", "nowhere"
        space = {
            "lr": Float(0.1, 1.0, 0.25, above=True),
            "count": Int(1, 9, 2, step=2),
            "mystery": Float(0.0, 1.0, 0.5),
        }
        meanings = {"count": Meaning("Number of tries")}

    doc = inspect.getdoc(drop_in(Mine)) or ""
    assert doc.startswith("Mine as a PyTorch optimizer.\n\nx ← x − η g.\n\nSource: nowhere.")
    assert "drop_in(Mine)(model.parameters(), total_steps=len(batches))" in doc
    assert "a positive number, and finite; studies search 0.1 to 1." in text_of(drop_in(Mine))
    assert "Number of tries. Allowed: an integer of at least 1; studies search 1 to 9 in steps of 2." in text_of(
        drop_in(Mine)
    )
    assert "mystery (float): Allowed: a number that is not negative" in doc


def test_a_rule_that_cannot_be_made_without_arguments_has_no_cost() -> None:
    class Needy(sgd.SGD):
        """x ← x − η g."""

        name, title, source = "needy", "Needy", "nowhere"

        def __init__(self, needed: int) -> None:
            super().__init__()

    assert "Cost:" not in compose("One sentence.", "Needy", Needy, DROP_INS["sgd"].__mro__[1])
    optimizer = drop_in(Needy)(nn.Linear(2, 2).parameters(), total_steps=4, needed=1)
    assert optimizer.total_steps == 4
