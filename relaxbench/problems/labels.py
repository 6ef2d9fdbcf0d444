"""Outputs and labels of named losses: their axes, their values, and numbers that a metric of the user's own gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from relaxbench.errors import UserError
from relaxbench.util.text import counted


def outputs(problem: str, loss: str, result: object, examples: int) -> Tensor:
    """Return what a model gave, for a named loss: a tensor with the examples as first axis.

    Raises:
        UserError: for anything else.
    """
    if not isinstance(result, Tensor):
        raise UserError(
            f"problem {problem!r}: the model returned {type(result).__name__}; expected a tensor, or loss = a function "
            "of (outputs, labels)"
        )
    if loss == "none":
        return result if result.dim() else result.expand(examples)
    # A loss of ours would take the axis of examples for that of outputs.
    if result.dim() < 2:
        raise UserError(
            f"problem {problem!r}: the model returned shape {tuple(result.shape)}; expected (examples, outputs)"
        )
    return result


def classes_last(outputs: Tensor, labels: Tensor | None) -> Tensor:
    """Move the axis of classes to the end, where PyTorch has it behind that of examples, as ``[B, C, H, W]``.

    ``[B, T, C]`` stays as it is. Where both fit, two axes of labels have the classes last, and more have them second.
    """
    if labels is None or labels.dim() < 2 or outputs.shape[:1] + outputs.shape[2:] != labels.shape:
        return outputs
    return outputs if labels.dim() == 2 and outputs.shape[:-1] == labels.shape else outputs.movedim(1, -1)


def check_shape(problem: str, outputs: Sequence[int], labels: Sequence[int]) -> None:
    """Check that logits ``[1, …, C]`` have the axes of the labels ``[1, …]`` of one example.

    Raises:
        UserError: if they have not.
    """
    if tuple(outputs[:-1]) != tuple(labels):
        raise UserError(
            f"problem {problem!r}: the model gives {tuple(outputs)} for one example whose labels have shape "
            f"{tuple(labels)}: expected logits (1, …, classes) or (1, classes, …) with the other axes of the labels"
        )


def check_values(problem: str, split: str, labels: Tensor, classes: int, ignored: int | None) -> None:
    """Check that labels are numbers of classes.

    Raises:
        UserError: for another type, and for a label without an output that is not the ignored one.
    """
    if labels.is_floating_point() or labels.dtype.itemsize != 8:
        kind = str(labels.dtype).removeprefix("torch.")
        raise UserError(f"problem {problem!r}: {split} labels are {kind}; cross-entropy expects int64")
    known = labels if ignored is None else labels[labels != ignored]
    if not known.numel():
        raise UserError(f"problem {problem!r}: all {split} labels are ignored: expected some with a class")
    if not 0 <= int(known.min()) <= int(known.max()) < classes:
        raise UserError(
            f"problem {problem!r}: {split} labels go from {int(known.min())} to {int(known.max())}, and the model "
            f"has {counted(classes, 'output')}: {expected_labels(classes)}"
        )


def expected_labels(classes: int) -> str:
    """Return which labels a model with so many outputs may have, in words."""
    if classes == 1:
        return (
            "cross-entropy needs one output per class; for a single one take loss=nn.BCEWithLogitsLoss() and labels "
            "of its shape and type"
        )
    return f"expected 0 to {classes - 1}"


def number(problem: str, metric: str, value: Any) -> float:
    """Return what a metric of a problem gives as a number.

    Raises:
        UserError: if it is none.
    """
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
        raise UserError(
            f"problem {problem!r}: metric {metric!r} gives {type(value).__name__}{shape}: expected one number for all "
            "examples together, such as a mean"
        ) from None
