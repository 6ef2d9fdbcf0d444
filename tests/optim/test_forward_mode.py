"""Forward mode against `torch.func.jvp`, compiled against not, and what it costs against PyTorch's count of FLOPs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.utils.flop_counter import FlopCounterMode

from relaxbench.optim import CurveBall as DropIn
from relaxbench.optim.forward_mode import forward_mode, remembering_forward_mode
from relaxbench.optim.rules.curveball import CurveBall
from relaxbench.problems import SupervisedProblem
from relaxbench.training.oracle import Oracle


class Added(nn.Module):
    """A residual block that adds in place, as many do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.first(x)
        result += x
        gate: Tensor = self.second(result)
        gate *= 2
        return gate * result


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), (6,)),
    "without bias": (lambda: nn.Sequential(nn.Linear(6, 5, bias=False), nn.Tanh(), nn.Linear(5, 3, bias=False)), (6,)),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(2, 4, 3, stride=2), nn.Tanh(), nn.Conv1d(4, 3, 2)), (2, 9)),
    "conv2d": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2)),
        (2, 6, 6),
    ),
    "conv2d, groups, no bias": (lambda: nn.Conv2d(2, 4, 3, groups=2, dilation=2, bias=False), (2, 6, 6)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2), (2, 3, 3, 3)),
    "dropout": (
        lambda: nn.Sequential(nn.Dropout(0.3), nn.Linear(6, 20), nn.Dropout(0.5), nn.Tanh(), nn.Linear(20, 3)),
        (6,),
    ),
    "in place": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 5), nn.SiLU(inplace=True), Added()),
        (6,),
    ),
    "embedding": (lambda: nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(24, 3)), (6,)),
    "convolution of what was computed": (
        lambda: nn.Sequential(nn.Linear(6, 8), nn.Unflatten(1, (2, 4)), nn.Conv1d(2, 3, 2)),
        (6,),
    ),
}


def as_function(name: str) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """A model on one mini-batch as a function of the vector of its parameters, and that vector."""
    torch.manual_seed(1)
    make, shape = MODELS[name]
    model = make().double()
    x = torch.randint(0, 9, (7, *shape)) if name == "embedding" else torch.randn(7, *shape, dtype=torch.float64)
    shapes = {n: p.shape for n, p in model.named_parameters()}
    start = nn.utils.parameters_to_vector(model.parameters()).detach()

    def outputs(points: Tensor) -> Tensor:
        torch.manual_seed(2)  # the same masks
        parts = torch.split(points, [shape.numel() for shape in shapes.values()])
        return functional_call(model, {n: p.view(s) for (n, s), p in zip(shapes.items(), parts, strict=True)}, (x,))

    return outputs, start


def holds(
    outputs: Callable[[Tensor], Tensor], start: Tensor, direction: Tensor, value: Tensor, tangent: Tensor | None
) -> None:
    """Compare a value and its tangent with those of `torch.func`."""
    expected, pushed = jvp(outputs, (start,), (direction,))
    assert torch.equal(value, expected) and tangent is not None
    assert tangent.numpy() == pytest.approx(pushed.numpy(), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_value_tangent_and_graph_are_those_of_torch_func(name: str) -> None:
    outputs, start = as_function(name)
    direction = torch.randn_like(start)
    leaf = start.clone().requires_grad_()
    value, tangent = forward_mode(outputs, leaf, direction)
    assert tangent is not None and not tangent.requires_grad
    holds(outputs, start, direction, value, tangent)
    cotangent = torch.randn_like(value)
    (pulled,) = torch.autograd.grad(value, leaf, cotangent)
    plain = start.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(outputs(plain), plain, cotangent)
    assert pulled.numpy() == pytest.approx(wanted.numpy(), rel=1e-12, abs=1e-12)
    assert float((pulled * direction).sum()) == pytest.approx(float((cotangent * tangent).sum()), rel=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_layers_are_evaluated_once_for_all_directions(name: str) -> None:
    outputs, start = as_function(name)
    forward, leaf, counts = remembering_forward_mode(), start.clone().requires_grad_(), []
    for _ in range(3):
        direction = torch.randn_like(start)
        with FlopCounterMode(display=False) as counter:
            value, tangent = forward(outputs, leaf, direction)
        counts.append(counter.get_total_flops())
        assert tangent is not None and not tangent.requires_grad
        holds(outputs, start, direction, value, tangent)
    with FlopCounterMode(display=False) as counter:
        outputs(start)
    spared = 0 if name == "in place" else counter.get_total_flops()  # there every value is changed, so none is known
    assert counts[1:] == [counts[0] - spared] * 2


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("moving", ["w", "b", "w, b", "x", "x, b", "x, w", "x, w, b"])
def test_any_operand_of_a_layer_may_stand_still(moving: str, kept: bool) -> None:
    """A frozen weight or bias, given by position or by name; the layers' input is what the first part has made."""
    sizes, constant = {"x": 12, "w": 6, "b": 2}, torch.arange(20.0, dtype=torch.float64).sin()
    start = torch.arange(0.5, 20.5, dtype=torch.float64).cos()

    def outputs(points: Tensor) -> Tensor:
        own = {name: points if name in moving else constant for name in sizes}
        x, w, b = (own[name][k : k + size] for k, (name, size) in enumerate(sizes.items()))
        by_name = nn.functional.linear(x.view(4, 3), w.view(2, 3), bias=b)
        return nn.functional.linear(x.view(4, 3), w.view(2, 3), b) * by_name

    forward = remembering_forward_mode() if kept else forward_mode
    for _ in range(2):
        direction = torch.randn_like(start)
        value, tangent = forward(outputs, start, direction)
        holds(outputs, start, direction, value, tangent)


def test_a_model_that_takes_another_way_in_a_later_pass_is_computed() -> None:
    """As one that leaves out layers by a generator of its own: these have one size."""
    torch.manual_seed(1)
    x, forward = torch.randn(3, 4, dtype=torch.float64), remembering_forward_mode()
    start = torch.randn(48, dtype=torch.float64)
    for way in [(0, 1, 2), (0, 2), (0, 2, 1), (0, 1, 2), (0, 1, 2, 1)]:

        def outputs(points: Tensor, way: tuple[int, ...] = way) -> Tensor:
            result = x
            for layer in way:
                result = nn.functional.linear(result, points[16 * layer : 16 * layer + 16].view(4, 4)).tanh()
            return result

        direction = torch.randn_like(start)
        value, tangent = forward(outputs, start, direction)
        holds(outputs, start, direction, value, tangent)


def test_outputs_that_do_not_depend_on_the_points_have_no_tangent() -> None:
    value, tangent = forward_mode(lambda _: torch.ones(3), torch.zeros(2), torch.ones(2))
    assert value.tolist() == [1, 1, 1] and tangent is None


def test_a_population_of_convolutions_with_dropout_is_pushed_through_member_by_member_alike() -> None:
    """Under `vmap`, the first layer and the masks take another way than for one model alone."""

    def model() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(32, 3))

    part = torch.randn(40, 1, 6, 6, dtype=torch.float64), torch.randint(0, 3, (40,))
    data = {"train": part, "validation": part, "test": part}
    problem = SupervisedProblem("conv", model, lambda: data, batch_size=8, budget=10)
    points = torch.stack([problem.init(seed) for seed in (1, 2, 3)]).double()
    direction, answers = torch.randn_like(points), []
    for path in ("vectorized", "direct"):
        oracle = Oracle(problem, path)  # type: ignore[arg-type]
        oracle.sampler = problem.sampler([1, 2, 3], [0, 0, 0], 5, torch.device("cpu"))
        here = oracle.linearize(points, direction, torch.zeros(3, 1, dtype=torch.int64))
        bent = here.bend(here.tangent)
        assert here.push(direction).numpy() == pytest.approx(here.tangent.numpy(), abs=1e-12)
        answers.append([part.numpy() for part in (here.loss, here.tangent, bent, here.pull(bent))])
    for one, other in zip(*answers, strict=True):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-12)


class Deep(nn.Module):
    """Layers of one size, so that the first, whose input has no tangent, weighs little."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*[part for _ in range(40) for part in (nn.Linear(64, 64), nn.Tanh())])

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layers(x)
        return result


@pytest.mark.parametrize("auto_damping", [True, False])
def test_a_step_costs_in_flops_what_is_billed_less_one_forward_pass(auto_damping: bool) -> None:
    """A drop-in optimizer evaluates layers once for both directions; studies do not, and bill what they do."""
    model, x = Deep(), torch.randn(16, 64)
    with FlopCounterMode(display=False) as counter:
        model(x).square().mean().backward()
    gradient = counter.get_total_flops()
    optimizer = DropIn(model, total_steps=10, auto_damping=auto_damping)
    optimizer.step(lambda: model(x), lambda out: out.square().mean())  # the first step checks more
    with FlopCounterMode(display=False) as counter:
        for _ in range(5):
            optimizer.step(lambda: model(x), lambda out: out.square().mean())
    price = CurveBall(auto_damping=auto_damping).price
    assert counter.get_total_flops() / 5 / gradient == pytest.approx(price - 1 / 3, rel=0.01)
    assert price == pytest.approx(2.667 + 0.067 * auto_damping, abs=1e-3)


def network() -> nn.Module:
    torch.manual_seed(3)
    head = nn.Sequential(nn.Flatten(), nn.Linear(16, 5))
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(4), nn.Dropout(0.3), head
    ).double()


def run(
    model: Any,
    call: Any = None,
    optimizer: DropIn | None = None,
    sizes: tuple[int, ...] = (12, 12, 12, 12, 12, 12, 9),
    skip: int = 0,
    **options: bool,
) -> list[float]:
    """Losses of a few steps, the last one on a smaller mini-batch; each draws its masks from a seed of its own."""
    optimizer = optimizer or DropIn(model, total_steps=20, **options)  # type: ignore[arg-type]
    losses, call = [], call or model
    for number, size in enumerate(sizes, skip):
        torch.manual_seed(number)
        x, y = torch.randn(size, 1, 6, 6, dtype=torch.float64), torch.randint(0, 5, (size,))
        losses.append(optimizer.step(lambda x=x: call(x), lambda out, y=y: nn.functional.cross_entropy(out, y)))  # type: ignore[misc]
    return losses


def test_a_compiled_step_is_the_step_itself_with_its_masks_and_running_statistics() -> None:
    """In one size: every kernel takes the C++ compiler a second."""
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    torch._dynamo.reset()
    plain, compiled = network(), network()
    assert run(compiled, compile=True, sizes=(12,) * 4) == pytest.approx(run(plain, sizes=(12,) * 4), rel=1e-10)
    for name, value in plain.state_dict().items():
        assert compiled.state_dict()[name].numpy() == pytest.approx(value.numpy(), rel=1e-9, abs=1e-12), name


def test_a_compiled_run_goes_on_bit_for_bit_after_loading_and_many_fit_into_a_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The checks before the first step leave nothing behind; optimizers do not use up torch.compile's patience.

    Each of them compiles three variants (with and without gradients, two sizes): two would exceed a limit of four.
    PyTorch itself runs what was traced: which code is made of a graph changes nothing here.
    """
    traced = torch.compile
    monkeypatch.setattr(torch, "compile", lambda code, options: traced(code, backend="aot_eager"))
    torch._dynamo.reset()
    finished, model, again = network(), network(), network()
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True, recompile_limit=4):
        losses = run(finished, compile=True)
        assert losses == pytest.approx(run(network()), rel=1e-10)
        optimizer = DropIn(model, total_steps=20, compile=True)
        assert run(model, optimizer=optimizer, sizes=(12,) * 3) == losses[:3]
        again.load_state_dict(model.state_dict())
        resumed = DropIn(again, total_steps=20, compile=True)
        resumed.load_state_dict(optimizer.state_dict())
        assert run(again, optimizer=resumed, sizes=(12, 12, 12, 9), skip=3) == losses[3:]
        for name, value in finished.state_dict().items():
            assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize("how", ["a wrapper", "in place", "given", "a part"])
def test_a_model_that_is_compiled_runs_as_what_it_was_compiled_from(how: str) -> None:
    """`torch.compile` drops tangents without a word: a compiled part would make the direction silently wrong."""
    expected, model = run(network()), network()
    if how == "a part":
        model[0].compile(backend="eager")  # type: ignore[operator]
    elif how == "in place":
        model.compile(backend="eager")
    compiled = torch.compile(model, backend="eager") if how in ("a wrapper", "given") else model
    assert run(compiled if how == "given" else model, call=compiled) == expected


def test_compiling_twice_is_refused_and_told_what_to_do() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"compiled already: give the optimizer and model_fn the model from before"):
        run(model, call=torch.compile(model, backend="eager"), compile=True)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    run(network())  # and nothing of the refusal stays behind


class WithoutTangent(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.detach().clone()

    @staticmethod
    def backward(ctx: object, *slopes: Tensor) -> Tensor:
        return slopes[0]


def test_a_part_without_tangent_is_named_and_nothing_has_happened() -> None:
    class Layer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return WithoutTangent.apply(x)  # type: ignore[no-any-return]

    with pytest.raises(TypeError, match=r"no forward-mode derivative|no tangent"):
        run(nn.Sequential(network(), Layer()))
