"""The rules as PyTorch optimizers: `loss.backward(); optimizer.step()` in any training loop.

Between steps the model's parameters hold the point of the rule's next query; `optimizer.eval()` swaps in the iterate to
evaluate and deploy, `optimizer.train()` swaps back. A method with n replicas takes n steps, each on its own mini-batch,
for one update of all replicas.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, overload

import torch
from torch import Tensor

from relaxbench.optim.drop_in import groups
from relaxbench.optim.drop_in.arguments import check_integer, check_params, make_rule, once
from relaxbench.optim.drop_in.cautions import doubled, hot
from relaxbench.optim.drop_in.closures import closures
from relaxbench.optim.drop_in.compiled import runs_uncompiled
from relaxbench.optim.drop_in.docstring import compose
from relaxbench.optim.drop_in.groups import Hyperparameters
from relaxbench.optim.drop_in.lightning_hooks import refuse_early_swap
from relaxbench.optim.drop_in.names import own, pytorch
from relaxbench.optim.drop_in.ranks import several, share
from relaxbench.optim.drop_in.saving import Saving
from relaxbench.optim.drop_in.scaled import GradientOverflowError, scale_of, unscale, unscaled_once
from relaxbench.optim.drop_in.signature import named_init
from relaxbench.optim.drop_in.telling import tell
from relaxbench.optim.hyper import defaults
from relaxbench.space import Value


class RuleOptimizer(Saving):
    """A rule as a PyTorch optimizer, a population of one.

    The rule has its own schedules. To use one of PyTorch's learning rate schedulers instead, pass
    `schedule="constant"`: PyTorch's change the `lr` of the groups, and both would act; a warning says so. The `lr` of
    a group is the rule's step size. If a rule has several, it is 1, a factor on those that schedules anneal.

    Args:
        params: Parameters, or groups of them with their own step sizes, momenta and weight decays. Parameters that
            need no gradient are not changed until they do (unfreezing); a gradient that is None (the parameter was
            not used) counts as zero.
        total_steps: Calls of `step()` that training makes. The schedules of step sizes and scopes run over these; it
            is not needed if all of them are "constant".
        seed: Seed of the rule's noise, from 0 to 2⁶³ − 1.
        hyper: Hyperparameters and options of the rule by name; the rest have their defaults. PyTorch's `lr`,
            `betas` and `weight_decay` are understood where they can mean one thing only, as in AdamW.

    Raises:
        TypeError: For a missing `total_steps` if something is scheduled over it, a name that the rule does not have,
            or a complex parameter.
        ValueError: For a value that is not allowed, a value that differs between groups and may not, or a
            `total_steps` that is less than one outer step.
    """

    def __init_subclass__(cls, constructor: str | None = None) -> None:
        """Give the class of a rule the signature and the docstring that describe this rule.

        Args:
            constructor: how code names the class, if not by its name.
        """
        super().__init_subclass__()
        if "rule_class" in cls.__dict__:
            summary, base = inspect.cleandoc(cls.__doc__ or ""), cls.__mro__[1]
            cls.__doc__ = compose(summary, constructor or cls.__name__, cls.rule_class, base)
            if "__init__" not in cls.__dict__:
                cls.__init__ = named_init(cls.__init__, cls.rule_class)  # type: ignore[method-assign]

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        total_steps: int | None = None,
        seed: int = 0,
        **hyper: Value,
    ) -> None:
        check_params(self.rule_class.title, params)
        if total_steps is not None:
            check_integer("total_steps", total_steps, 1, "calls of step() that training will make")
        check_integer("seed", seed, 0, "a seed below 2⁶³", below=2**63)
        self.rule, self._options, hyper = make_rule(self.rule_class, own(self.rule_class, hyper))
        self.closures = closures(self.rule)
        self.total_steps, self.seed = None if total_steps is None else int(total_steps), int(seed)
        self._evaluating = self._complete = self._ranks_agree = False
        self._told_end = self._told_double = False
        super().__init__(params, {"lr": 1.0, **pytorch(self.rule, {**defaults(self.rule.wide), **hyper}, {})})
        groups.check_names(self.rule, self.param_groups)
        groups.check(self.rule, self.param_groups)
        self._pending, self._unknown_loss = [], None
        self._first_rates = [group["lr"] for group in self.param_groups]
        sizes = self._arrange(set())
        self._start()
        self._hyper = Hyperparameters(self.rule, self.param_groups, sizes, self._rule_state["x"])
        self._check_length()
        self._complete = True
        caution = hot(self.rule, self._hyper.probed())
        if caution:
            tell(caution)
        with torch.no_grad():
            self._write_query()

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @runs_uncompiled
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Give the rule one gradient; the parameters then hold the point of its next query.

        Args:
            closure: clears the gradients, computes the loss, calls `loss.backward()` and returns the loss.

        Returns:
            the (first) loss of the closure.

        Raises:
            RuntimeError: in evaluation mode, if other code has changed the parameters where they are not the weights
                that the method keeps (see `deployed`), or if there is no gradient.
            TypeError: without a closure if the method needs several gradients of one mini-batch.
        """
        if closure is not None and not callable(closure):
            raise TypeError(
                f"closure = {closure!r}: expected a function without arguments that clears the gradients, computes the "
                "loss, calls loss.backward() and returns the loss"
            )
        self._ready()
        if closure is None:
            if self.closures:
                raise TypeError(
                    f"{self.rule.title} takes {self.closures} gradients of one mini-batch per step: call "
                    "step(closure); closure() clears the gradients, computes the loss, calls loss.backward() and "
                    "returns the loss"
                )
            self._take()
            return None
        if not self.closures:
            loss = self._call(closure)
            self._take()
            return loss
        before = {name: value.clone() for name, value in self._rule_state.items()}
        losses, begun = list[float](), self._queries
        scale = scale_of(self)
        try:
            for _ in range(self.closures):
                with unscaled_once(self.rule.title):
                    losses.append(self._call(closure))
                unscale(self._flat.params, scale)
                self._take()
        except GradientOverflowError:  # the scaler skips such a step
            self._undo(before, self._queries - begun)
        except BaseException:  # half a step would pair gradients of different mini-batches from then on
            self._undo(before, self._queries - begun)
            raise
        return losses[0]

    @torch.no_grad()
    def eval(self) -> None:
        """Put the deployed iterate into the parameters."""
        if not self._evaluating:
            self._adopt()
            self._flat.write(self.rule.iterate(self._rule_state))
            self._evaluating = True

    def train(self) -> None:
        """Put the point of the next query back into the parameters.

        Raises:
            RuntimeError: in a hook of PyTorch Lightning that comes before its checkpoint is saved.
        """
        if self._evaluating:
            refuse_early_swap()
            self._return()

    @contextlib.contextmanager
    def deployed(self) -> Iterator[None]:
        """Put the deployed iterate into the model within this block: `eval()`, and `train()` at its end.

        What the block writes into the parameters counts: all points that the method keeps move by the same way.
        The wrapper that Accelerate's ``prepare`` returns lacks this: use ``wrapper.optimizer.deployed()``.
        """
        nested = self._evaluating
        self.eval()
        try:
            yield
        finally:
            if not nested and self._evaluating:
                self._return()

    @torch.no_grad()
    def _return(self) -> None:
        self._adopt()
        if self._written is None:
            self._write_query()
        else:  # the same point as before: what a scheduler has changed since then counts from the next step
            self._flat.write(self._written)
        self._evaluating = False

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, in the constructor only: afterwards the rule's state has a fixed size.

        Raises:
            ValueError: after the constructor.
        """
        if getattr(self, "_complete", False):
            raise ValueError("a parameter group cannot be added later: make a new optimizer with all of the groups")
        if isinstance(param_group, dict):
            param_group = pytorch(self.rule, own(self.rule, param_group), self.defaults)
            if not isinstance(param_group.get("params"), (Tensor, set)):
                param_group["params"] = once(param_group["params"])
        super().add_param_group(param_group)

    def _ready(self) -> None:
        """Raise on misuse that would fail silently; called before a step."""
        if self._evaluating:
            raise RuntimeError("the optimizer is in evaluation mode: call optimizer.train() before step()")
        self._thaw()
        if not self._ranks_agree:
            if several():
                self._adopt()
                share(self.rule, self._rule_state, self._flat.params)
                self.seed = int(self._rule_state["seed"])
                self._write_query()
            self._ranks_agree = True
        self._hyper.refresh()
        if self._hyper.reshaped:
            self._check_length()
            self._hyper.reshaped = False
        self._caution()

    def _check_length(self) -> None:
        """Raise if `total_steps` is missing although something is scheduled, or too short."""
        if self.total_steps is None:
            if self._hyper.constant:
                return
            first = self.param_groups[0]
            unscheduled = {"schedule": "constant", "scoping": "constant", "warmup": 0.0}
            scheduled = {name: none for name, none in unscheduled.items() if first.get(name, none) != none}
            curves = [f"{name} = {first[name]!r}" for name in scheduled]
            none = "0" if {*scheduled} == {"warmup"} else '"constant"'
            raise TypeError(
                f"{type(self).__name__} needs total_steps, the calls of step() that training will make, over which it "
                f"is scheduled: total_steps=epochs * len(train_loader); {none} needs none ({', '.join(curves)})"
            )
        queries, total = self._hyper.period, self._all_queries
        if total is not None and total < queries:
            steps = queries * self.rule.replicas // max(1, self.closures)
            raise ValueError(
                f"total_steps = {self.total_steps} is less than one outer step of {self.rule.title}, {steps} steps: "
                "nothing would ever be deployed; raise it, or lower inner_steps"
            )

    def _caution(self) -> None:
        """Warn once of each thing that is probably not meant; called before a step."""
        if self.total_steps is not None and not self._told_end:
            steps = (self._queries * self.rule.replicas + len(self._pending)) // max(1, self.closures)
            if steps >= self.total_steps:
                self._told_end = True
                tell(f"step() is called more often than total_steps = {self.total_steps}: schedules stay at their end")
        if not self._told_double:
            caution = doubled(self.param_groups, self._first_rates)
            if caution:
                self._told_double = True
                tell(caution)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Let GradScaler leave the gradients of several closures to `step`."""
        return self.closures > 0
