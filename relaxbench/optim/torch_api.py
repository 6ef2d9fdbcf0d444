"""The rules as PyTorch optimizers: `loss.backward(); optimizer.step()` in anyone's training loop.

Between steps the model's parameters hold the point where the rule wants its next gradient; `optimizer.eval()` swaps in
the iterate that is to be evaluated and deployed, `optimizer.train()` swaps back.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, overload

import torch
from torch import Tensor

from relaxbench.optim import entropy_sgd, heat, hj, lookahead, sgd
from relaxbench.optim.hyper import Value, defaults, encode, expected
from relaxbench.optim.rule import Rule, State

PER_GROUP = ("lr", "inner_lr", "outer_lr", "momentum", "outer_momentum", "weight_decay")
"""Hyperparameters that may differ between parameter groups; the others set the rhythm of the whole machine."""


class RuleOptimizer(torch.optim.Optimizer):
    """A rule as a PyTorch optimizer, a population of one.

    Args:
        params: parameters, or groups of them with their own `lr`, `inner_lr`, `outer_lr`, `momentum`,
            `outer_momentum` or `weight_decay`. Those that need no gradient are left alone.
        total_steps: gradients that training will use; the schedules of step sizes and γ run over these.
        seed: of the rule's noise.
        hyper: the rule's hyperparameters by name, see `python -m relaxbench list`; the rest have their defaults.

    Raises:
        TypeError: for a hyperparameter that the rule does not have.
        ValueError: for a value outside its domain, or one that may not differ between groups.
    """

    rule_class: ClassVar[type[Rule]]

    def __init__(
        self, params: Iterable[Tensor] | Iterable[dict[str, Any]], *, total_steps: int, seed: int = 0, **hyper: Value
    ) -> None:
        if total_steps < 1:
            raise ValueError(f"total_steps = {total_steps} must be at least 1: the gradients that training will use")
        self.rule = self.rule_class()
        space = self.rule.space
        for name in hyper:
            if name not in space:
                near = difflib.get_close_matches(name, space, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(space)}"
                raise TypeError(f"{self.rule.title} has no hyperparameter {name!r}: {hint}")
        self.total_steps, self.seed = total_steps, seed
        self._evaluating = False
        super().__init__(params, {**defaults(space), **hyper})
        self._params = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        if not self._params:
            raise ValueError("no parameter needs a gradient")
        self._check()
        start = self._flat([p.detach() for p in self._params])
        self._rule_state: State = self.rule.init(start, torch.tensor([[seed]], device=start.device))
        with torch.no_grad():
            self._write(self.rule.query(self._rule_state, self._hyper()).points)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One gradient for the rule; the parameters then hold the point of its next query.

        Raises:
            RuntimeError: in evaluation mode.
        """
        if self._evaluating:
            raise RuntimeError("the optimizer is in evaluation mode: call optimizer.train() before step()")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        grad = self._flat([p.grad if p.grad is not None else torch.zeros_like(p) for p in self._params])
        value = torch.full((1, 1), float(loss) if loss is not None else float("nan"), dtype=grad.dtype)
        hyper = self._hyper()
        self._rule_state = self.rule.update(self._rule_state, grad, value.to(grad.device), hyper)
        self._write(self.rule.query(self._rule_state, self._hyper()).points)
        return loss

    @torch.no_grad()
    def eval(self) -> None:
        """Put the deployed iterate into the parameters."""
        if not self._evaluating:
            self._write(self.rule.iterate(self._rule_state))
            self._evaluating = True

    @torch.no_grad()
    def train(self) -> None:
        """Put the point of the next query back into the parameters."""
        if self._evaluating:
            self._write(self.rule.query(self._rule_state, self._hyper()).points)
            self._evaluating = False

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state: groups as in PyTorch, and the rule's tensors under ``"rule"``."""
        return {**super().state_dict(), "rule": {n: v.clone() for n, v in self._rule_state.items()}}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave, on any device, and put the next query into the parameters."""
        own = dict(state_dict)
        saved = own.pop("rule")
        super().load_state_dict(own)
        self._rule_state = {
            name: saved[name].to(device=value.device, dtype=value.dtype, copy=True)
            for name, value in self._rule_state.items()
        }
        self._evaluating = False
        self._write(self.rule.query(self._rule_state, self._hyper()).points)

    def _hyper(self) -> dict[str, Tensor]:
        """Hyperparameters ``[1, 1]``, or ``[1, P]`` where groups differ, as scheduled now."""
        like = self._rule_state["x"]
        fixed = {name: self._tensor(name, like) for name in self.rule.space}
        rhythm = {name: value[:, :1] for name, value in fixed.items()}
        period = int(self.rule.period(rhythm))
        outer_steps = max(1, self.total_steps // period)
        progress = min(1.0, int(self._rule_state["t"]) // period / outer_steps)
        return self.rule.at(fixed, torch.full((1, 1), progress, dtype=like.dtype, device=like.device))

    def _tensor(self, name: str, like: Tensor) -> Tensor:
        values = [encode(name, group[name]) for group in self.param_groups]
        if len(set(values)) == 1:
            return torch.full((1, 1), values[0], dtype=like.dtype, device=like.device)
        sizes = [sum(p.numel() for p in group["params"] if p.requires_grad) for group in self.param_groups]
        row = torch.tensor(values, dtype=like.dtype, device=like.device)
        return row.repeat_interleave(torch.tensor(sizes, device=like.device))[None]

    def _check(self) -> None:
        for name, declared in self.rule.space.items():
            values = [group[name] for group in self.param_groups]
            if name not in PER_GROUP and len(set(values)) > 1:
                raise ValueError(f"{name} differs between parameter groups ({values}): it must be the same for all")
            for value in values:
                wanted = expected(name, declared, value)
                if wanted:
                    raise ValueError(f"{name} = {value!r}: expected {wanted}")

    @staticmethod
    def _flat(tensors: list[Tensor]) -> Tensor:
        return torch.cat([t.reshape(-1) for t in tensors])[None]

    def _write(self, point: Tensor) -> None:
        sizes = [p.numel() for p in self._params]
        for p, values in zip(self._params, torch.split(point[0], sizes), strict=True):
            p.copy_(values.view_as(p))


class SGD(RuleOptimizer):
    """SGD with momentum and weight decay, under the schedules that all rules share. See `optim.sgd.SGD`."""

    rule_class = sgd.SGD


class SGDEMA(RuleOptimizer):
    """SGD, deployed at the average of its weights. See `optim.sgd.SGDEMA`."""

    rule_class = sgd.SGDEMA


class Lookahead(RuleOptimizer):
    """Lookahead over SGD. See `optim.lookahead.Lookahead`."""

    rule_class = lookahead.Lookahead


class EntropySGD(RuleOptimizer):
    """Entropy-SGD. See `optim.entropy_sgd.EntropySGD`."""

    rule_class = entropy_sgd.EntropySGD


class HamiltonJacobi(RuleOptimizer):
    """Hamilton–Jacobi relaxation, descent form. See `optim.hj.HJ`."""

    rule_class = hj.HJ


class HamiltonJacobiImplicit(RuleOptimizer):
    """Hamilton–Jacobi relaxation, implicit form. See `optim.hj.HJImplicit`."""

    rule_class = hj.HJImplicit


class HeatSGD(RuleOptimizer):
    """Heat-equation smoothing. See `optim.heat.Heat`."""

    rule_class = heat.Heat


DROP_INS: dict[str, type[RuleOptimizer]] = {
    cls.rule_class.name: cls
    for cls in (SGD, SGDEMA, Lookahead, EntropySGD, HamiltonJacobi, HamiltonJacobiImplicit, HeatSGD)
}
"""The drop-in class of every rule, by the rule's name."""
