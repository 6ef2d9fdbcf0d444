"""The rules as PyTorch optimizers: `loss.backward(); optimizer.step()` in any training loop.

Between steps the model's parameters hold the point of the rule's next query; `optimizer.eval()` swaps in the iterate to
evaluate and deploy, `optimizer.train()` swaps back. A method with n replicas takes n steps, each on its own mini-batch,
for one update of all replicas.
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, ClassVar, overload

import torch
from torch import Tensor

from relaxbench.optim.drop_in import groups
from relaxbench.optim.drop_in.arguments import check_integer, familiar, make_rule, once
from relaxbench.optim.drop_in.closures import closures
from relaxbench.optim.drop_in.compiled import runs_uncompiled
from relaxbench.optim.drop_in.docstring import compose
from relaxbench.optim.drop_in.flat import Flat
from relaxbench.optim.drop_in.groups import Hyperparameters
from relaxbench.optim.drop_in.ranks import refuse_shards, several, share
from relaxbench.optim.drop_in.saved import ABOUT, Layout, check, numbered, without_about
from relaxbench.optim.drop_in.scaled import GradientOverflowError, scale_of, unscale
from relaxbench.optim.drop_in.signature import named_init
from relaxbench.optim.drop_in.thaw import insert, merge, positions
from relaxbench.optim.drop_in.writes import agree, move, positions_of
from relaxbench.optim.hyper import defaults
from relaxbench.optim.rule import Rule, State
from relaxbench.space import Value


class RuleOptimizer(torch.optim.Optimizer):
    """A rule as a PyTorch optimizer, a population of one.

    The rule has its own schedules. To use one of PyTorch's learning rate schedulers instead, pass
    `schedule="constant"`: PyTorch's change the `lr` of the groups, and both factors would multiply. If a rule has no
    hyperparameter `lr` (but an inner and an outer step size, for example), the groups have an `lr` of 1, a factor on
    the step size that schedules anneal.

    Args:
        params: Parameters, or groups of them with their own step sizes, momenta and weight decays. Parameters that
            need no gradient are not changed until they do (unfreezing); a gradient that is None (the parameter was
            not used) counts as zero.
        total_steps: Calls of `step()` that training makes. The schedules of step sizes and scopes run over these.
        seed: Seed of the rule's noise, from 0 to 2⁶³ − 1.
        hyper: Hyperparameters and options of the rule by name; the rest have their defaults. PyTorch's `lr`,
            `betas` and `weight_decay` are understood where they can mean one thing only, as in AdamW.

    Raises:
        TypeError: For a missing `total_steps`, a name that the rule does not have, or a complex parameter.
        ValueError: For a value that is not allowed, a value that differs between groups and may not, or a
            `total_steps` that is less than one outer step.
    """

    rule_class: ClassVar[type[Rule]]
    _rule_state: State
    _queries: int

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
        if total_steps is None:
            raise TypeError(
                f"{type(self).__name__} needs total_steps, the calls of step() that training will make, over which it "
                "is scheduled: total_steps=epochs * len(train_loader)"
            )
        check_integer("total_steps", total_steps, 1, "calls of step() that training will make")
        check_integer("seed", seed, 0, "a seed below 2⁶³", below=2**63)
        self.rule, self._options, hyper = make_rule(self.rule_class, familiar(self.rule_class, hyper))
        self.closures = closures(self.rule)
        self.total_steps, self.seed = total_steps, seed
        self._evaluating = self._complete = self._warned = self._ranks_agree = False
        super().__init__(params, {"lr": 1.0, **defaults(self.rule.wide), **hyper})
        groups.check_names(self.rule, self.param_groups)
        groups.check(self.rule, self.param_groups)
        self._pending: list[Tensor] = []  # gradients of the replicas served so far
        self._unknown_loss: Tensor | None = None
        sizes = self._arrange(set())
        self._start()
        self._hyper = Hyperparameters(self.rule, self.param_groups, sizes, self._rule_state["x"])
        queries = self._hyper.period
        if self._all_queries < queries:
            steps = queries * self.rule.replicas // max(1, self.closures)
            raise ValueError(
                f"total_steps = {total_steps} is less than one outer step of {self.rule.title}, {steps} steps: nothing "
                "would ever be deployed; raise it, or lower inner_steps"
            )
        self._complete = True
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

    @torch.no_grad()
    def train(self) -> None:
        """Put the point of the next query back into the parameters."""
        if self._evaluating:
            self._adopt()
            self._write_query()
            self._evaluating = False

    @contextlib.contextmanager
    def deployed(self) -> Iterator[None]:
        """Put the deployed iterate into the model within this block: `eval()`, and `train()` at its end.

        What the block writes into the parameters counts: all points that the method keeps move by the same way.
        """
        nested = self._evaluating
        self.eval()
        try:
            yield
        finally:
            if not nested:
                self.train()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, in the constructor only: afterwards the rule's state has a fixed size.

        Raises:
            ValueError: after the constructor.
        """
        if getattr(self, "_complete", False):
            raise ValueError("a parameter group cannot be added later: make a new optimizer with all of the groups")
        if isinstance(param_group, dict):
            param_group = familiar(self.rule_class, param_group)
            if not isinstance(param_group.get("params"), (Tensor, set)):
                param_group["params"] = once(param_group["params"])
        super().add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state: groups as in PyTorch, and the rule's tensors by parameter."""
        with contextlib.suppress(RuntimeError):  # what is refused is refused by the next step
            self._adopt()
        groups = without_about(super().state_dict()["param_groups"])
        about = {"method": self.rule.name, "options": dict(self._options), "total_steps": self.total_steps}
        groups[0] = {**groups[0], ABOUT: about}
        return {"state": self._layout().split(self._rule_state, self._pending), "param_groups": groups}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the result of `state_dict`, on any device, and put the next query into the parameters.

        Hyperparameters are then the saved values, as in PyTorch. So is `total_steps`, unless this optimizer was made
        for more; a warning tells which of two is used.

        Raises:
            ValueError: if it is the state of another method, of other options or of other parameters. Nothing is
                changed then.
            TypeError: if it is not a dict.
        """
        self._thaw()
        state_dict = numbered(state_dict)
        check(state_dict, self.state_dict(), type(self).__name__, self.rule.replicas)
        saved = without_about(state_dict["param_groups"])
        groups.check(self.rule, saved)
        super().load_state_dict({"state": {}, "param_groups": saved})
        self._use_longer(state_dict["param_groups"][0][ABOUT]["total_steps"])
        self._rule_state, self._pending = self._layout().join(state_dict["state"], self._rule_state)
        self._queries = int(self._rule_state["t"])
        self._hyper.groups = self.param_groups
        self._evaluating = self._ranks_agree = False
        self._note_states()
        self._write_query()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out only PyTorch's hooks, so that copies and pickled optimizers are complete."""
        hooks = ("_optimizer_", "_zero_grad", "_warned_", "_patched")
        return {name: value for name, value in self.__dict__.items() if not name.startswith(hooks)}

    @property
    def _all_queries(self) -> int:
        """Queries in `total_steps` steps."""
        return self.total_steps * max(1, self.closures) // self.rule.replicas

    def _layout(self) -> Layout:
        """Where each trained parameter lies in the vector."""
        places = {id(p): i for i, p in enumerate(p for group in self.param_groups for p in group["params"])}
        return Layout(self.rule, [places[id(p)] for p in self._flat.params], self._flat.shapes)

    def _note_states(self) -> None:
        """Let PyTorch's tools see that there is a state: torch.distributed.checkpoint takes a step otherwise."""
        for p in self._flat.params:
            self.state[p] = {}

    def _use_longer(self, saved: int) -> None:
        """Go on over the larger of the present and a saved `total_steps`."""
        if saved != self.total_steps:
            warnings.warn(
                f"total_steps = {self.total_steps} differs from the saved {saved}: schedules run over "
                f"{max(saved, self.total_steps)}, from where the saved training has come",
                stacklevel=3,
            )
        self.total_steps = max(saved, self.total_steps)

    def _start(self) -> None:
        """Begin at the parameters as they are."""
        x = self._flat.values()
        self._rule_state = self.rule.init(x, torch.tensor([[self.seed]], device=x.device))
        self._queries = 0

    def _arrange(self, kept: Collection[int]) -> list[int]:
        """Make one vector of the parameters that need a gradient, and of those with an id in `kept`.

        Returns:
            the number of elements in each group.
        """
        trained = [[p for p in group["params"] if p.requires_grad or id(p) in kept] for group in self.param_groups]
        self._flat = Flat([p for group in trained for p in group])
        self._frozen = [p for group in self.param_groups for p in group["params"] if not p.requires_grad]
        if several():
            refuse_shards(self.rule, self._flat.params)
        self.rule.bind(self._flat.shapes)
        self._note_states()
        return [sum(p.numel() for p in group) for group in trained]

    def _thaw(self) -> None:
        """Train parameters that have begun to need a gradient since the optimizer was made."""
        kept = {id(p) for p in self._flat.params}
        if not any(p.requires_grad and id(p) not in kept for p in self._frozen):
            return
        self._adopt()
        sizes = self._arrange(kept)
        where = positions(kept, self._flat.params)
        x = self._flat.values()
        fresh = self.rule.init(x, self._rule_state["seed"])
        self._rule_state = merge(self._rule_state, fresh, where, self.rule.ages)
        self._pending = [insert(grad, torch.zeros_like(x), where) for grad in self._pending]
        self._hyper = Hyperparameters(self.rule, self.param_groups, sizes, self._rule_state["x"])
        self._unknown_loss = None
        self._write_query()

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
        steps = (self._queries * self.rule.replicas + len(self._pending)) // max(1, self.closures)
        if steps >= self.total_steps and not self._warned:
            self._warned = True
            warnings.warn(
                f"step() is called more often than total_steps = {self.total_steps}: schedules stay at their end",
                stacklevel=6,
            )

    def _adopt(self) -> None:
        """Take over what other code has written into the parameters, or refuse it where it cannot count."""
        here = self.rule.iterate(self._rule_state) if self._evaluating else self._point()
        if self._flat.holds(here):
            return
        there, changed = self._flat.values(), self._flat.changed(here)
        if not bool(changed.any()):  # it holds NaN
            return
        if not (self._queries or self._pending):
            self._start()
            if not self._evaluating:
                self._write_query()
            return
        names = positions_of(self.rule, here)
        if not self._evaluating:
            names -= self.rule.averages
            if not agree(self._rule_state, names, here) or self._flat.holds(self.rule.iterate(self._rule_state)):
                raise RuntimeError(
                    "the parameters were changed by other code since the last step, and this method would undo the "
                    "change: make it within `with optimizer.deployed():`, where it counts; load the optimizer's state "
                    "after the model's; or make a new optimizer"
                )
        move(self._rule_state, names, changed, here, there)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Let GradScaler leave the gradients of several closures to `step`."""
        return self.closures > 0

    def _undo(self, before: State, taken: int) -> None:
        """Go back to the state before some queries."""
        self._queries -= taken
        self._rule_state = before
        self._write_query()

    @staticmethod
    def _call(closure: Callable[[], float]) -> float:
        with torch.enable_grad():
            return closure()

    def _take(self) -> None:
        """Give the parameters' gradients to the rule."""
        self._adopt()
        self._pending.append(self._flat.gradients())
        if len(self._pending) == self.rule.replicas:
            grad = torch.stack(self._pending, dim=1) if self.rule.replicas > 1 else self._pending[0]
            if self._unknown_loss is None:
                self._unknown_loss = grad.new_full((1, self.rule.replicas), float("nan"))
            self._rule_state = self.rule.update(self._rule_state, grad, self._unknown_loss, self._scheduled())
            self._queries += 1
            self._pending.clear()
        self._write_query()

    def _scheduled(self) -> dict[str, Tensor]:
        return self._hyper.at(self._queries, self._all_queries)

    def _point(self) -> Tensor:
        """Return the point of the next gradient, ``[1, P]``: that of the next replica if there are several."""
        points = self.rule.query(self._rule_state, self._scheduled()).points
        return points if points.dim() == 2 else points[:, len(self._pending)]

    def _write_query(self) -> None:
        self._flat.write(self._point())
