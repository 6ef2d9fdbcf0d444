"""Compare a wrapped optimizer with a plain training loop, for the conformance suite."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from relaxbench.optim.wrapped.arguments import has_iterate
from relaxbench.optim.wrapped.closures import loop
from relaxbench.optim.wrapped.examine import plain_optimizers
from relaxbench.optim.wrapped.lbfgs import LBFGSRule
from relaxbench.optim.wrapped.make import require_that_many_steps_can_be_stored
from relaxbench.optim.wrapped.rule import WrappedRule
from relaxbench.testing.probe import CPU, TASK, Probe
from relaxbench.testing.runner import require

STEPS = 12


def require_the_steps_of_a_plain_loop(rule: type[WrappedRule], probe: Probe) -> None:
    """Require that a member goes where the optimizer itself leads: zero_grad(), backward(), step().

    Raises:
        AssertionError: with the distance, if it goes elsewhere.
        UserError: for what an optimizer does in a later step only.
    """
    require_that_many_steps_can_be_stored(rule)
    ensemble = probe.ensemble(members=1)
    sampler = TASK.sampler([0], [0], STEPS, CPU)
    params = [nn.Parameter(part) for part in TASK.unflatten(TASK.init(0)).values()]
    names = [name for name, _ in TASK.layout()]
    optimizers = plain_optimizers(rule, params, probe.values())

    def loss_on(number: int) -> Tensor:
        batch = {name: value[0] for name, value in sampler.batch(torch.tensor([[number]])).items()}
        return TASK.loss.value(TASK.outputs(dict(zip(names, params, strict=True)), batch, True), batch)

    if issubclass(rule, LBFGSRule):
        for _ in range(STEPS):
            ensemble.step()
        away = float(
            (loop(optimizers[0], params, loss_on, STEPS)[-1] - ensemble.rule.iterate(ensemble.state)[0]).abs().max()
        )
        require(away <= 1e-5, f"after {STEPS} evaluations a plain loop is {away:.1g} away from the population")
        return
    for step in range(STEPS):
        ensemble.step()
        for optimizer in optimizers:
            optimizer.zero_grad()
        torch.autograd.backward(loss_on(step))
        for optimizer in optimizers:
            optimizer.step()
    for optimizer in optimizers:
        if has_iterate(type(optimizer)):
            optimizer.eval()  # type: ignore[attr-defined]
    flat = torch.cat([p.detach().flatten() for p in params])
    away = float((flat - ensemble.rule.iterate(ensemble.state)[0]).abs().max())
    require(away <= 1e-5, f"after {STEPS} steps a plain loop is {away:.1g} away from the population")
