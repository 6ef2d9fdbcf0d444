"""`best`: its code runs, its settings are those of the best trial, its weights repeat the result."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from relaxbench.optim.registry import RULES
from relaxbench.problems.digits import digits_mlp, mlp
from tests.cli.commands import printed, rows

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("method", RULES)
def test_best_prints_code_that_runs(
    method: str, capsys: pytest.CaptureFixture[str], storage: str, tmp_path: Path
) -> None:
    """Pasted into a training loop: it takes a step on a real model; the weights load into it and repeat the result."""
    out = printed(capsys, "best", "small", method, "--storage", storage, "--weights", "best.pt")
    torch.manual_seed(0)
    model = mlp()
    names: dict[str, Any] = {"model": model}
    exec(out, names)
    optimizer, start = names["optimizer"], [p.detach().clone() for p in model.parameters()]
    batch = digits_mlp().split("train", torch.device("cpu"))

    def backward() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(batch["x"][:64]), batch["y"][:64])
        torch.autograd.backward(loss)
        return loss.item()

    for _ in range(optimizer.total_steps):
        if method == "curveball":
            optimizer.step(
                lambda: model(batch["x"][:64]), lambda out: torch.nn.functional.cross_entropy(out, batch["y"][:64])
            )
        elif optimizer.closures:
            optimizer.step(backward)
        else:
            backward()
            optimizer.step()
    optimizer.eval()
    assert any(not torch.equal(a, b) for a, b in zip(start, model.parameters(), strict=True))
    model.load_state_dict(torch.load("best.pt", weights_only=True))
    found = [r for r in rows(storage.removeprefix("sqlite:///")) if (r.method, r.phase) == (method, "recommend")]
    held_out = digits_mlp().split("validation", torch.device("cpu"))
    loss = torch.nn.functional.cross_entropy(model(held_out["x"]), held_out["y"]).item()
    assert loss == pytest.approx(min(r.value for r in found), rel=1e-4)


def test_best_names_the_settings_of_the_best_trial(capsys: pytest.CaptureFixture[str], storage: str) -> None:
    out = printed(capsys, "best", "small", "heat", "--storage", storage)
    found = [
        r for r in rows(storage.removeprefix("sqlite:///")) if r.method == "heat" and r.phase in ("explore", "exploit")
    ]
    winner = min(found, key=lambda r: (r.value, r.id))
    given: dict[str, Any] = {}
    for name, value in re.findall(r"^    (\w+)=([^,]+),", out, re.MULTILINE):
        given[name] = eval(value)
    assert given.pop("total_steps") == 90
    assert given == {
        name: pytest.approx(value, rel=1e-5) if isinstance(value, float) else value
        for name, value in winner.params.items()
    }
