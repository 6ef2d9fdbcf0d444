"""Swaps within PyTorch Lightning's hooks that its checkpoints would undo."""

from __future__ import annotations

import sys

TOO_EARLY = ("on_validation_end", "on_validation_epoch_end", "on_validation_model_train", "on_train_epoch_end")
"""Lightning saves the checkpoint of an epoch after these."""
PACKAGES = ("pytorch_lightning.", "lightning.pytorch.")
NEAREST = 10
"""Frames between a hook and the optimizer: decorators and comprehensions."""


def refuse_early_swap() -> None:
    """Refuse to leave evaluation mode in a hook after which Lightning saves what was validated.

    Raises:
        RuntimeError: naming the hook to use instead.
    """
    frame = sys._getframe(1)
    for _ in range(NEAREST):
        caller = frame.f_back
        if caller is None:
            return
        if frame.f_code.co_name in TOO_EARLY and str(caller.f_globals.get("__name__")).startswith(PACKAGES):
            raise RuntimeError(
                f"PyTorch Lightning saves its checkpoints after {frame.f_code.co_name}, and would save other weights "
                "than were validated: call optimizer.train() in on_train_batch_start instead, see PyTorch Lightning in "
                "docs/training-loops.md"
            )
        frame = caller
