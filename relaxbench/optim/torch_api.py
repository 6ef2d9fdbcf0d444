"""The rules as PyTorch optimizers: `loss.backward(); optimizer.step()` in anyone's training loop.

Between steps the model's parameters hold the point where the rule wants its next gradient; `optimizer.eval()` swaps in
the iterate that is to be evaluated and deployed, `optimizer.train()` swaps back. A method with n replicas takes n
steps, each on a mini-batch of its own, for one update of them all.
"""

from __future__ import annotations

import difflib
import inspect
import itertools
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, overload

import torch
from torch import Tensor

from relaxbench.optim.hyper import Value, defaults, encode, expected
from relaxbench.optim.rule import Rule, State

PER_GROUP = ("lr", "inner_lr", "outer_lr", "adam_lr", "momentum", "outer_momentum", "weight_decay", "decoupled_decay")
"""Hyperparameters that may differ between parameter groups; the others set the rhythm of the whole machine."""


def closures(rule: Rule) -> int:
    """How often a step of a rule calls its closure, each time on the same mini-batch; 0 where it need not be given."""
    again = next(count for count in itertools.count(1) if rule.first_batch(count) != rule.first_batch(0))
    return again if again > 1 else 0


class RuleOptimizer(torch.optim.Optimizer):
    """A rule as a PyTorch optimizer, a population of one.

    Args:
        params: parameters, or groups of them with step sizes, momenta and weight decays of their own. Those that need
            no gradient are left alone; one that got none (it was not used) counts as having the gradient zero.
        total_steps: gradients that training will use; the schedules of step sizes and γ run over these.
        seed: of the rule's noise.
        hyper: the rule's hyperparameters by name, see `python -m relaxbench list`, and its options; the rest have
            their defaults.

    PyTorch's learning rate schedulers change the groups' `lr`. Where a rule has no such step size (but an inner and an
    outer one, say) the groups have an `lr` of 1, a factor on the one that schedules anneal.

    Raises:
        TypeError: for a hyperparameter that the rule does not have, or a parameter that is complex.
        ValueError: for a value outside its domain, or one that may not differ between groups.
    """

    rule_class: ClassVar[type[Rule]]

    def __init__(
        self, params: Iterable[Tensor] | Iterable[dict[str, Any]], *, total_steps: int, seed: int = 0, **hyper: Value
    ) -> None:
        if total_steps < 1:
            raise ValueError(f"total_steps = {total_steps} must be at least 1: the gradients that training will use")
        options = inspect.signature(self.rule_class).parameters
        self.rule = self.rule_class(**{name: hyper.pop(name) for name in options if name in hyper})
        self.closures = closures(self.rule)
        space = self.rule.space
        for name in hyper:
            if name not in space:
                near = difflib.get_close_matches(name, space, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join([*space, *options])}"
                raise TypeError(f"{self.rule.title} has no hyperparameter {name!r}: {hint}")
        self.total_steps, self.seed = total_steps, seed
        self._evaluating = False
        super().__init__(params, {"lr": 1.0, **defaults(space), **hyper})
        self._params = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        if not self._params:
            raise ValueError("no parameter needs a gradient")
        if any(p.is_complex() for p in self._params):
            raise TypeError("a parameter is complex: expected real ones; optimize its real and imaginary parts")
        self._check()
        self.rule.bind([p.shape for p in self._params])
        self._pending: list[Tensor] = []  # gradients of the replicas that have been asked so far
        start = self._flat([p.detach() for p in self._params])
        self._rule_state: State = self.rule.init(start, torch.tensor([[seed]], device=start.device))
        with torch.no_grad():
            self._write_query()

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One gradient for the rule; the parameters then hold the point of its next query.

        Args:
            closure: clears the gradients, computes the loss, calls its `backward` and returns it.

        Returns:
            the (first) loss of the closure.

        Raises:
            RuntimeError: in evaluation mode.
            TypeError: without a closure where the method needs several gradients of one mini-batch.
        """
        if self._evaluating:
            raise RuntimeError("the optimizer is in evaluation mode: call optimizer.train() before step()")
        if closure is None:
            if self.closures:
                raise TypeError(
                    f"{self.rule.title} takes {self.closures} gradients of one mini-batch a step: call step(closure); "
                    "closure() clears the gradients, computes the loss, calls loss.backward() and returns the loss"
                )
            self._take()
            return None
        losses = []
        for _ in range(self.closures or 1):
            with torch.enable_grad():
                losses.append(closure())
            self._take()
        return losses[0]

    def _take(self) -> None:
        """What the parameters' gradients say, for the rule."""
        if any(p.grad is not None and p.grad.is_sparse for p in self._params):
            raise TypeError("a gradient is sparse: expected dense ones; build the embedding with sparse=False")
        self._pending.append(self._flat([p.grad if p.grad is not None else torch.zeros_like(p) for p in self._params]))
        if len(self._pending) == self.rule.replicas:
            grad = torch.stack(self._pending, dim=1) if self.rule.replicas > 1 else self._pending[0]
            unknown_loss = torch.full((1, self.rule.replicas), float("nan"), dtype=grad.dtype, device=grad.device)
            self._rule_state = self.rule.update(self._rule_state, grad, unknown_loss, self._hyper())
            self._pending.clear()
        self._write_query()

    def _write_query(self) -> None:
        """Put the point of the next query into the parameters: that of the next replica, where there are several."""
        points = self.rule.query(self._rule_state, self._hyper()).points
        self._write(points if points.dim() == 2 else points[:, len(self._pending)])

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
            self._write_query()
            self._evaluating = False

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state: groups as in PyTorch, and the rule's tensors under ``"rule"``."""
        rule = {name: value.clone() for name, value in self._rule_state.items()}
        return {**super().state_dict(), "rule": rule, "pending": [grad.clone() for grad in self._pending]}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave, on any device, and put the next query into the parameters.

        Raises:
            ValueError: if it is the state of another method, or of other parameters.
        """
        own = dict(state_dict)
        saved, pending = own.pop("rule", {}), own.pop("pending", [])
        expected = {name: tuple(value.shape) for name, value in self._rule_state.items()}
        found = {name: tuple(value.shape) for name, value in saved.items()}
        if found != expected:
            raise ValueError(
                f"this state_dict is not one of {type(self).__name__} with these parameters: it holds "
                f"{found or 'no state of a rule'}, expected {expected}"
            )
        super().load_state_dict(own)
        like = self._rule_state["x"]
        self._rule_state = {
            name: saved[name].to(device=value.device, dtype=value.dtype, copy=True)
            for name, value in self._rule_state.items()
        }
        self._pending = [grad.to(device=like.device, dtype=like.dtype, copy=True) for grad in pending]
        self._evaluating = False
        self._write_query()

    def _hyper(self) -> dict[str, Tensor]:
        """Hyperparameters ``[1, 1]``, or ``[1, P]`` where groups differ, as scheduled now."""
        like = self._rule_state["x"]
        fixed = {name: self._tensor(name, like) for name in self.rule.space}
        rhythm = {name: value[:, :1] for name, value in fixed.items()}
        period = int(self.rule.period(rhythm))
        outer_steps = max(1, self.total_steps // self.rule.replicas // period)
        progress = min(1.0, int(self._rule_state["t"]) // period / outer_steps)
        now = self.rule.at(fixed, torch.full((1, 1), progress, dtype=like.dtype, device=like.device))
        if "lr" not in fixed:
            annealed = "outer_lr" if "anneal" in fixed and int(fixed["anneal"][0, 0]) == 0 else "inner_lr"
            annealed = annealed if annealed in fixed else self.rule.rate
            now[annealed] = now[annealed] * self._tensor("lr", like)
        return now

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
