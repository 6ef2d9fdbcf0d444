"""A rule that runs on a model's parameters: what `step` does, and what happens to the weights between steps."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import ClassVar

import torch
from torch import Tensor

from relaxbench.optim.drop_in.flat import Flat
from relaxbench.optim.drop_in.groups import Hyperparameters
from relaxbench.optim.drop_in.ranks import refuse_shards, several
from relaxbench.optim.drop_in.thaw import insert, merge, positions
from relaxbench.optim.drop_in.writes import agree, move, positions_of
from relaxbench.optim.pieces import is_long
from relaxbench.optim.rule import Rule, State


class Machine(torch.optim.Optimizer):
    """The state of a rule, and the parameters that hold the point of its next query.

    Attributes:
        rule: the rule.
        closures: how often a step calls its closure; 0 where it is optional.
        total_steps: calls of `step()` that training makes; None where nothing is scheduled.
        seed: of the rule's noise.
    """

    rule_class: ClassVar[type[Rule]]
    rule: Rule
    closures: int
    total_steps: int | None
    seed: int
    _rule_state: State
    _queries: int
    _flat: Flat
    _frozen: list[Tensor]
    _hyper: Hyperparameters
    _pending: list[Tensor]  # gradients of the replicas served so far
    _unknown_loss: Tensor | None
    _evaluating: bool
    _written: Tensor | None = None  # the point that the parameters hold between steps; None: to be computed

    @property
    def _all_queries(self) -> int | None:
        """Queries in `total_steps` steps; None if nothing is scheduled."""
        return None if self.total_steps is None else self.total_steps * max(1, self.closures) // self.rule.replicas

    def _start(self) -> None:
        """Begin at the parameters as they are."""
        x = self._flat.values()
        self._rule_state = self.rule.init(x, torch.tensor([[self.seed]], device=x.device))
        self._queries, self._written = 0, None

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
        self._hyper.tell(self._rule_state)
        sizes = self._arrange(kept)
        where = positions(kept, self._flat.params)
        x = self._flat.values()
        fresh = self.rule.init(x, self._rule_state["seed"])
        self._rule_state = merge(self._rule_state, fresh, where, self.rule.ages)
        self._pending = [insert(grad, torch.zeros_like(x), where) for grad in self._pending]
        self._hyper = Hyperparameters(self.rule, self.param_groups, sizes, self._rule_state["x"])
        self._unknown_loss = None
        self._write_query()

    def _adopt(self) -> None:
        """Take over what other code has written into the parameters, or refuse it where it cannot count."""
        here = self.rule.iterate(self._rule_state) if self._evaluating else self._written_point()
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
        self._written = None

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
        if parts := self._answer():
            if self._unknown_loss is None:
                self._unknown_loss = parts[0].new_full((1, self.rule.replicas), float("nan"))
            now = self._scheduled()
            self._hyper.tell(self._rule_state)
            self._rule_state = self.rule.answered(self._rule_state, parts, self._unknown_loss, now)
            self._queries += 1
        self._write_query()

    def _answer(self) -> list[Tensor]:
        """Return the gradient of the current query, in parts; [] while replicas are to be served."""
        if self.rule.replicas == 1:
            long = self.rule.elementwise and is_long([self._written_point()])
            return self._flat.gradient_parts() if long else [self._flat.gradients()]
        self._pending.append(self._flat.gradients())
        if len(self._pending) < self.rule.replicas:
            return []
        whole = torch.stack(self._pending, dim=1)
        self._pending.clear()
        return [whole]

    def _scheduled(self) -> dict[str, Tensor]:
        return self._hyper.at(self._queries, self._all_queries)

    def _point(self) -> Tensor:
        """Return the point of the next gradient, ``[1, P]``: that of the next replica if there are several."""
        points = self.rule.query(self._rule_state, self._scheduled()).points
        return points if points.dim() == 2 else points[:, len(self._pending)]

    def _written_point(self) -> Tensor:
        """Return the point that `_write_query` wrote last: some rules compute a new tensor at every query."""
        return self._point() if self._written is None else self._written

    def _write_query(self) -> None:
        self._written = self._point()
        self._flat.write(self._written)

    def _note_states(self) -> None:
        """Let PyTorch's tools see that there is a state: torch.distributed.checkpoint takes a step otherwise."""
        for p in self._flat.params:
            self.state[p] = {}
