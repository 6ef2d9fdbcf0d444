"""A drop-in optimizer's saved state: its parts, and whether it belongs to an optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from relaxbench.optim.rule import State


@dataclass(frozen=True)
class SavedState:
    """The parts of a `state_dict`.

    Attributes:
        groups: what `torch.optim.Optimizer` saves: its parameter groups and an empty state.
        rule: the state of the rule.
        pending: gradients of replicas, ``[1, P]`` each, whose update is not complete.
        identity: the method, its options and the shapes of the parameters.
        total_steps: calls of `step()` that training makes.
    """

    groups: dict[str, Any]
    rule: State
    pending: list[Tensor]
    identity: dict[str, Any]
    total_steps: int

    @classmethod
    def parse(cls, state_dict: dict[str, Any]) -> SavedState:
        """Take a `state_dict` apart; parts that are missing are empty.

        Raises:
            TypeError: if it is not a dict.
        """
        if not isinstance(state_dict, dict):
            raise TypeError(f"state_dict is a {type(state_dict).__name__}: expected what state_dict() gave, a dict")
        groups = dict(state_dict)
        rule, pending, identity = groups.pop("rule", {}), groups.pop("pending", []), dict(groups.pop("about", {}))
        total_steps = identity.pop("total_steps", 0)
        return cls(groups, rule, pending, identity, total_steps)

    def as_dict(self) -> dict[str, Any]:
        """The `state_dict`: copies of all tensors."""
        return {
            **self.groups,
            "rule": {name: value.clone() for name, value in self.rule.items()},
            "pending": [grad.clone() for grad in self.pending],
            "about": {**self.identity, "total_steps": self.total_steps},
        }

    def check(self, owner: SavedState, name: str, replicas: int) -> None:
        """Refuse the state of another method, of other options or of other parameters.

        Args:
            owner: the present state of the optimizer that is to load this one.
            name: of the optimizer's class.
            replicas: of its rule.

        Raises:
            ValueError: naming the first difference.
        """
        problem = f"this state_dict is not one of {name} with these parameters"
        for key, expected in owner.identity.items():
            if self.identity.get(key) != expected:
                raise ValueError(f"{problem}: its {key}: {self.identity.get(key, 'missing')} (expected {expected})")
        shapes, expected_shapes = _shapes(self.rule), _shapes(owner.rule)
        if shapes != expected_shapes or len(self.pending) >= replicas:
            raise ValueError(
                f"{problem}: it holds {shapes} and {len(self.pending)} gradients, expected {expected_shapes}"
            )


def _shapes(state: State) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}
