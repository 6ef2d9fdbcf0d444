"""One call for all members: as `torch.vmap`, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, vmap

from relaxbench.training.batched import batched

K = 5


def members() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    params = {"w": torch.randn(K, 4, 3, generator=generator), "b": torch.randn(K, 4, generator=generator)}
    return params, {"x": torch.randn(K, 7, 3, generator=generator), "step": torch.arange(K)}


def layer(params: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
    return torch.nn.functional.linear(batch["x"], params["w"], params["b"]).tanh() + batch["step"]


def test_values_and_gradients_are_those_of_vmap() -> None:
    found = []
    for together in (batched, vmap):
        params, batch = members()
        leaves = {name: value.requires_grad_() for name, value in params.items()}
        value = together(layer)(leaves, batch)  # type: ignore[operator]
        found.append((value.detach(), *torch.autograd.grad(value.square().sum(), list(leaves.values()))))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True)) and found[0][0].shape == (K, 7, 4)


def test_tensors_and_dicts_go_in_and_come_out() -> None:
    params, batch = members()

    def both(own: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
        return {"sum": own["w"].sum() + x.sum(), "same": torch.ones(2)}

    got = batched(both)(params, batch["x"])
    assert torch.allclose(got["sum"], params["w"].sum(dim=(1, 2)) + batch["x"].sum(dim=(1, 2)))
    assert torch.equal(got["same"], torch.ones(K, 2)), "what does not depend on the member is that of each"
    assert torch.equal(batched(torch.neg)(batch["x"]), -batch["x"])


def test_after_an_error_the_next_call_is_as_ever() -> None:
    params, batch = members()

    def reads(own: dict[str, Tensor], part: dict[str, Tensor]) -> Tensor:
        return own["w"] if bool(own["w"].sum() > 0) else own["b"]

    for _ in range(3):
        with pytest.raises(RuntimeError, match="vmap"):
            batched(reads)(params, batch)
    with pytest.raises(RuntimeError, match="called random operation"):
        batched(lambda x: torch.rand_like(x))(batch["x"])
    assert torch.equal(batched(layer)(params, batch), vmap(layer)(params, batch))
