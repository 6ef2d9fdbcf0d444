"""A solution on a grid: where its points lie, and that the error is that of the problem."""

from __future__ import annotations

import torch
from torch import Tensor

from relaxbench.problems import problem
from relaxbench.problems.science.derivatives import Jet
from relaxbench.problems.science.pinn import SolutionProblem
from relaxbench.problems.solution import SIDE, solution_on


def test_the_first_coordinate_comes_first_and_corners_are_on_the_grid() -> None:
    def exact(x: Tensor) -> Tensor:
        return 10 * x[:, :1] + x[:, 1:]

    shown = solution_on((0.0, 2.0), (1.0, 5.0), exact, lambda x: exact(x) + x[:, 1:], "u", "xt")
    assert shown is not None and shown.exact.shape == (SIDE[2], SIDE[2])
    assert [float(shown.exact[i, j]) for i, j in ((0, 0), (-1, 0), (0, -1))] == [2, 12, 5]
    assert [float(shown.error[i, j]) for i, j in ((0, 0), (-1, 0), (0, -1))] == [2, 2, 5]


def test_one_axis_is_a_line_and_three_are_not_shown() -> None:
    line = solution_on((0.0,), (1.0,), torch.square, torch.zeros_like, "u", "xyz")
    assert line is not None and line.exact.shape == (SIDE[1],) and list(line.coordinates) == ["x"]
    assert torch.equal(line.error, -line.exact) and float(line.exact[-1]) == 1
    assert solution_on((0.0,) * 3, (1.0,) * 3, torch.square, torch.square, "u", "xyz") is None


def test_the_error_on_the_grid_is_that_of_the_metric() -> None:
    """The metric is taken at random points of the same domain, so both are near each other."""
    for name in ("pinn-wave-small", "pinn-oscillator-small", "pde-id-hjb-small", "digits-mlp"):
        task = problem(name)
        params = task.unflatten(task.init(0))
        shown = task.solution(params)
        if name == "digits-mlp":
            assert shown is None
            continue
        assert shown is not None and list(shown.coordinates) == ["x", "t"]
        if name == "pinn-wave-small":
            assert isinstance(task, SolutionProblem)
            error = task.metric_at(params, task.split("test", torch.device("cpu")))
            assert error is not None and abs(float(shown.error.norm() / shown.exact.norm()) / float(error) - 1) < 0.05
            corner = torch.tensor([[1.0, 0.0]], dtype=torch.float64)  # x at its end, t at its beginning
            there = (task.field(params, Jet(corner)).value - task.exact(corner)).item()
            assert abs(shown.error[-1, 0].item() - there) < 1e-14
