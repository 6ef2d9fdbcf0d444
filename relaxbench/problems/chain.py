"""Linear layers in layouts in which a population's products of small matrices are fast."""

from __future__ import annotations

from torch import Tensor, nn

from relaxbench.problems.together import is_together
from relaxbench.problems.watched import Activation, activations_of


class ChainedLinear(nn.Linear):
    """A linear layer before or after another one, with only elementwise operations between them.

    When members are trained together, the activations between such layers are kept transposed: ``[B, I]`` lies in
    memory as ``[I, B]``. Forward, W Xᵀ takes a third of the time of X Wᵀ where W has few rows; backward, the gradient
    Gᵀ X has the layout of W, while Xᵀ G has to be transposed. Both are the same numbers.

    Attributes:
        inner: whether only linear layers take the result, so that it may stay transposed. Otherwise it is contiguous,
            because a model may ask for a view of it.
    """

    inner = False

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to `x` of shape ``[..., I]``."""
        if x.dim() != 2 or not is_together() or x.device.type != "cpu":
            return super().forward(x)
        y = self.weight @ x.mT
        if self.bias is not None:
            y = y + self.bias[:, None]
        return y.mT if self.inner else y.mT.contiguous()


def chain(model: nn.Module) -> None:
    """Chain the linear layers of a model, in place; if its forward pass cannot be watched, those of its parts.

    A hook may ask for the layout that PyTorch gives, or keep what it sees: a part with one is not watched.
    """
    plain = [part for part in model.modules() if type(part) is nn.Linear]
    if len(plain) < 2:
        return
    try:
        activations = None if any(_hooked(part) for part in model.modules()) else activations_of(model)
    except Exception:  # whatever a forward pass raises that needs numbers
        activations = None
    if activations is None:
        for part in model.children():
            chain(part)
        return
    inner, last = _chained(activations, {id(layer.weight) for layer in plain})
    for layer in plain:
        if id(layer.weight) in inner | last:
            layer.__class__ = ChainedLinear  # it keeps its parameters
            vars(layer)["inner"] = id(layer.weight) in inner


def _chained(activations: list[Activation], plain: set[int]) -> tuple[set[int], set[int]]:
    """Return the weights, by `id`, of linear layers which only linear layers follow, and of those that follow them.

    Args:
        activations: of a forward pass.
        plain: weights of layers that may be chained.
    """
    inner, others = set[int](), set[int]()
    for each in activations:
        followed = each.only_linear and bool(each.into) and all(id(weight) in plain for weight in each.into)
        (inner if followed else others).add(id(each.weight))
    inner = (inner & plain) - others  # in every call of the layer
    return inner, {id(weight) for each in activations if id(each.weight) in inner for weight in each.into}


def _hooked(part: nn.Module) -> bool:
    return any(value for name, value in vars(part).items() if "_hooks" in name)
