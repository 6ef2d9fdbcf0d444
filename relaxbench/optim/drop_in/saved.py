"""A drop-in optimizer's saved state, in the layout of `torch.optim`: tensors by parameter, the rest in the groups.

So tools that know PyTorch's optimizers (torch.distributed.checkpoint) can save it, rename it and load it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from relaxbench.optim.rule import Rule, State

FROZEN = ": set requires_grad of all parameters as it was when the state was saved, load it, and thaw or freeze then"
"""What to do if other parameters were trained when a state was saved."""
ABOUT = "about"
"""The key of the first group that holds the method, its options and `total_steps`."""
FLATTENED = (
    ": torch.distributed.checkpoint loses it with flatten_optimizer_state_dict=True: give set_optimizer_state_dict "
    "the result of get_optimizer_state_dict, both without that option"
)
"""What to do if the groups of a state do not say whose they are."""
PENDING, SERVED = "pending", "served"
"""Gradients of replicas whose update is not complete, filled up with zeros, and their number."""


@dataclass(frozen=True)
class Layout:
    """Where each parameter lies in the vector.

    Attributes:
        rule: the rule whose state it is.
        indices: of the trained parameters, among all parameters of the groups.
        shapes: of the trained parameters.
    """

    rule: Rule
    indices: Sequence[int]
    shapes: Sequence[torch.Size]

    def split(self, rule_state: State, pending: list[Tensor]) -> dict[int, dict[str, Tensor]]:
        """Return copies of the state by parameter: each entry without the axis of members."""
        sizes, entries = [shape.numel() for shape in self.shapes], dict(rule_state)
        if self.rule.replicas > 1:
            like = rule_state["x"].new_zeros(1, self.rule.replicas - 1, sum(sizes))
            for replica, grad in enumerate(pending):
                like[:, replica] = grad
            entries |= {PENDING: like, SERVED: torch.tensor([[len(pending)]])}
        parts: dict[int, dict[str, Tensor]] = {index: {} for index in self.indices}
        for name, value in entries.items():
            whole = value.shape[-1] == sum(sizes)
            pieces = torch.split(value[0], sizes, dim=-1) if whole else [value[0]] * len(sizes)
            for index, shape, piece in zip(self.indices, self.shapes, pieces, strict=True):
                if name in self.rule.ages:
                    parts[index][name] = piece[..., :1].clone()
                else:
                    parts[index][name] = piece.reshape((*piece.shape[:-1], *shape)).clone() if whole else piece.clone()
        return parts

    def join(self, parts: dict[int, dict[str, Tensor]], like: State) -> tuple[State, list[Tensor]]:
        """Undo `split`, on the devices and in the types of a state."""
        state = {}
        for name, value in like.items():
            pieces = [parts[index][name].to(value.device, value.dtype) for index in self.indices]
            lead, size = value.shape[1:-1], sum(shape.numel() for shape in self.shapes)
            if name in self.rule.ages:
                state[name] = _counts(pieces, self.shapes)
            elif value.shape[-1] == size:
                state[name] = torch.cat([piece.reshape(*lead, -1) for piece in pieces], dim=-1)[None].contiguous()
            else:
                state[name] = pieces[0].clone()[None]
        if self.rule.replicas == 1:
            return state, []
        x, first = like["x"], parts[self.indices[0]]
        rows = self.rule.replicas - 1
        kept = [parts[index][PENDING].to(x.device, x.dtype).reshape(rows, -1) for index in self.indices]
        gradients = torch.cat(kept, dim=-1)
        return state, [gradients[None, replica].clone() for replica in range(int(first[SERVED]))]


def _counts(pieces: list[Tensor], shapes: Sequence[torch.Size]) -> Tensor:
    """Return one count for all parameters, ``[1, 1]``, or each parameter's own, ``[1, P]``."""
    filled = [(piece, shape.numel()) for piece, shape in zip(pieces, shapes, strict=True) if piece.numel()]
    if all(torch.equal(piece, filled[0][0]) for piece, _ in filled):
        return filled[0][0].clone()[None]
    return torch.cat([piece.expand(size) for piece, size in filled])[None].clone()


def numbered(state_dict: Any) -> Any:
    """Return a `state_dict` whose parameters are numbered, if tools have named them; other things as they are."""
    if not isinstance(state_dict, dict) or not state_dict.get("state"):
        return state_dict
    names = [name for group in state_dict["param_groups"] for name in group["params"]]
    numbers = {name: number for number, name in enumerate(names)}
    return {**state_dict, "state": {numbers.get(name, name): part for name, part in state_dict["state"].items()}}


def check(saved: Any, owner: dict[str, Any], name: str, replicas: int) -> None:
    """Refuse the state of another method, of other options or of other parameters.

    Args:
        saved: what is to be loaded.
        owner: the present `state_dict` of the optimizer that is to load it.
        name: of the optimizer's class.
        replicas: of its rule.

    Raises:
        TypeError: if it is not a dict.
        ValueError: naming the first difference.
    """
    if not isinstance(saved, dict):
        raise TypeError(f"state_dict is a {type(saved).__name__}: expected what state_dict() gave, a dict")
    problem = f"this state_dict is not one of {name} with these parameters"
    if "rule" in saved:
        raise ValueError(f"{problem}: an older relaxbench wrote it in another layout; finish that training with it")
    groups = saved.get("param_groups") or [{}]
    about = groups[0].get(ABOUT) or {}
    lost = "" if about or not groups[0].get("params") else FLATTENED
    for key, expected in owner["param_groups"][0][ABOUT].items():
        same = about.get(key) == expected or not (about.get(key) or expected)  # an empty dict may get lost
        if key != "total_steps" and not same:
            raise ValueError(f"{problem}: its {key}: {about.get(key, 'missing')} (expected {expected}){lost}")
    found, wanted = _shapes(saved.get("state", {})), _shapes(owner["state"])
    if found != wanted:
        where = next((key for key in wanted if found.get(key) != wanted[key]), next(iter(found), 0))
        hint = "" if found.keys() == wanted.keys() else FROZEN
        raise ValueError(
            f"{problem}: its shapes: parameter {where} has {found.get(where, 'no state')} "
            f"(expected {wanted.get(where, 'no state')}){hint}"
        )
    served = next((int(part[SERVED]) for part in saved["state"].values() if SERVED in part), 0)
    if not 0 <= served < replicas:
        raise ValueError(f"{problem}: it holds {served} gradients, expected less than {replicas}")


def without_about(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return copies of groups as PyTorch knows them."""
    return [{key: copy.copy(value) for key, value in group.items() if key != ABOUT} for group in groups]


def _shapes(state: dict[int, dict[str, Tensor]]) -> dict[int, dict[str, list[int]]]:
    return {key: {name: list(value.shape) for name, value in part.items()} for key, part in state.items()}
