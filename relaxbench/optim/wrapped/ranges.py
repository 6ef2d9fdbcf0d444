"""Ranges of the hyperparameters of an optimizer, made of its defaults; a study file states better ones."""

from __future__ import annotations

from relaxbench.optim.hyper import LR, MOMENTUM, WEIGHT_DECAY
from relaxbench.optim.rules.adamw import DECAY
from relaxbench.optim.wrapped.arguments import Place, Recipe
from relaxbench.space import Float

SGD = "torch.optim.sgd.SGD"
SEARCHED = "three decades around its default, or the range that the other methods have"
BELOW_ONE = ("beta", "momentum", "alpha", "rho")
"""Beginnings of the names of weights of the past."""


def searched_of(recipe: Recipe, prefix: str) -> set[str]:
    """Return the hyperparameters that a study searches by default; of a companion, its step size alone."""
    known = {"lr"} if prefix else {"lr", "weight_decay"}
    return (known | {"momentum"} if _is_sgd(recipe) and not prefix else known) & recipe.places.keys()


def range_of(recipe: Recipe, name: str) -> Float:
    """Return the range that suits a hyperparameter, as far as its name and default tell."""
    place = recipe.places[name]
    if _is_sgd(recipe) and name in ("lr", "momentum", "weight_decay"):
        return {"lr": LR, "momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY}[name]
    return _guess(name, place)


def _is_sgd(recipe: Recipe) -> bool:
    return f"{recipe.cls.__module__}.{recipe.cls.__qualname__}" == SGD


def _guess(name: str, place: Place) -> Float:
    default = place.default
    if name == "lr" and default > 0:
        low, high = (default / 10, default * 100) if default <= 0.01 else (default / 100, default * 10)
        return Float(low, high, default, log=True, above=True)
    if name == "weight_decay":
        if default >= 1e-3:
            return Float(min(DECAY.low, default), max(DECAY.high, default), default, log=True)
        return Float(WEIGHT_DECAY.low, WEIGHT_DECAY.high, max(default, WEIGHT_DECAY.low), log=True)
    if name.startswith(BELOW_ONE) and default < 1:
        if default > 0.99:
            return Float(0.9, max(0.9999, default), default, below=1.0)
        return Float(min(0.5, default), 0.99, default, below=1.0)
    if 0 < default <= 1e-3:
        return Float(default / 100, default * 1e4, default, log=True)
    if default == 0:
        return Float(0.0, 1.0, 0.0)
    if default < 1:
        return Float(default / 2, (1 + default) / 2, default)
    return Float(default / 10, default * 10, default)
