"""Saving and loading a drop-in optimizer, in the middle of an inner loop too."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from relaxbench.optim.drop_in import groups
from relaxbench.optim.drop_in.machine import Machine
from relaxbench.optim.drop_in.saved import ABOUT, Layout, check, numbered, without_about
from relaxbench.optim.drop_in.telling import tell


class Saving(Machine):
    """A machine whose state can be saved, loaded, copied and pickled."""

    _options: dict[str, Any]
    _ranks_agree: bool
    _first_rates: list[float]

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state: groups as in PyTorch, and the rule's tensors by parameter."""
        with contextlib.suppress(RuntimeError, ValueError, TypeError):  # what is refused is refused by the next step
            self._adopt()
            self._hyper.tell(self._rule_state)  # the state and the values that are saved with it belong together
        param_groups = without_about(super().state_dict()["param_groups"])
        about: dict[str, Any] = {"method": self.rule.name, "options": dict(self._options)}
        if self.total_steps is not None:
            about["total_steps"] = self.total_steps
        param_groups[0] = {**param_groups[0], ABOUT: about}
        return {"state": self._layout().split(self._rule_state, self._pending), "param_groups": param_groups}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the result of `state_dict`, on any device, and put the next query into the parameters.

        Hyperparameters are then the saved values, as in PyTorch. So is `total_steps`, unless this optimizer was made
        for more; a warning tells which of two is used.

        Raises:
            ValueError: if it is the state of another method, of other options or of other parameters. Nothing is
                changed then.
            TypeError: if it is not a dict, or a group holds what is no hyperparameter of the method.
        """
        self._thaw()
        state_dict = numbered(state_dict)
        check(state_dict, self.state_dict(), type(self).__name__, self.rule.replicas)
        saved = without_about(state_dict["param_groups"])
        groups.check(self.rule, saved)
        groups.check_names(self.rule, saved)
        super().load_state_dict({"state": {}, "param_groups": saved})
        self._use_longer(state_dict["param_groups"][0][ABOUT].get("total_steps"))
        self._rule_state, self._pending = self._layout().join(state_dict["state"], self._rule_state)
        self._queries = int(self._rule_state["t"])
        self._hyper.groups = self.param_groups
        self._hyper.refresh()
        self._hyper.before = None  # the state is of these values
        self._first_rates = [group.get("initial_lr", group["lr"]) for group in self.param_groups]
        self._evaluating = self._ranks_agree = False
        self._note_states()
        self._write_query()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out only PyTorch's hooks, so that copies and pickled optimizers are complete.

        So is a method that a scheduler has wrapped: it would take the steps of the first optimizer.
        """
        hooks = ("_optimizer_", "_zero_grad", "_warned_", "_patched")
        kept = {
            name: value
            for name, value in self.__dict__.items()
            if not name.startswith(hooks) and not (callable(value) and hasattr(type(self), name))
        }
        places = {value.data_ptr() for value in self._rule_state.values()}
        if self._written is not None and self._written.data_ptr() in places:
            del kept["_written"]  # a copy of the state does not share it
        return kept

    def _layout(self) -> Layout:
        """Where each trained parameter lies in the vector."""
        places = {id(p): i for i, p in enumerate(p for group in self.param_groups for p in group["params"])}
        return Layout(self.rule, [places[id(p)] for p in self._flat.params], self._flat.shapes)

    def _use_longer(self, saved: int | None) -> None:
        """Go on over the larger of the present and a saved `total_steps`."""
        if saved is None or self.total_steps is None:
            self.total_steps = self.total_steps if saved is None else saved
            return
        longer = max(saved, self.total_steps)
        if saved != self.total_steps:
            tell(
                f"total_steps = {self.total_steps} differs from the saved {saved}: schedules run over {longer}, from "
                "where the saved training has come"
            )
        self.total_steps = longer
