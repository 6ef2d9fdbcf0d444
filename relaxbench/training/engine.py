"""Which path and how many slots: measured once a study on the machine at hand, then stored with the study."""

from __future__ import annotations

import platform
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psutil
import torch
from torch import Tensor, nn, vmap

from relaxbench.errors import UserError
from relaxbench.optim.hyper import defaults
from relaxbench.optim.registry import RULES
from relaxbench.optim.rule import Rule
from relaxbench.problems import Problem, SupervisedProblem
from relaxbench.training.memory import gradient_bytes
from relaxbench.training.oracle import Oracle, Path
from relaxbench.training.population import Job, Population
from relaxbench.training.precision import Precision

CANDIDATES = (8, 16, 32, 64, 128, 256)
"""Population sizes that are tried for the vectorized path."""
MORE = (512, 1024, 2048)
"""Further ones on a GPU."""
PAIRS = 3
"""Measurements of either path, in turn, before one is chosen."""
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed", "cannot allocate memory")
"""What PyTorch and its libraries say when memory does not suffice."""
STRETCH_SECONDS = 0.02
"""A stretch of steps is timed when it lasts at least this long."""


@dataclass(frozen=True)
class Engine:
    """How a problem's trials are run.

    Attributes:
        path: ``"vectorized"`` or ``"direct"``.
        population: K, slots.
        device: ``"cpu"`` or ``"cuda:0"``.
        dtype: of the parameters.
        precision: in which models compute, see `precision.PRECISIONS`.
        threads: CPU threads of torch.
        invariance: how much a trial's gradient depends on K and its slot: ``"bit for bit"``, or the difference found.
        note: why the direct path was taken, or K is smaller than it was, or "".
    """

    path: Path
    population: int
    device: str
    dtype: str
    precision: Precision
    threads: int
    invariance: str
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self)


def torch_device(name: str) -> torch.device:
    """The device of a name: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises:
        UserError: if the name is not a device, or that device is not there.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    found = re.fullmatch(r"cuda(:(\d{1,9}))?", name)
    if found:  # torch itself takes cuda:256 for cuda:0
        index, count = int(found[2] or 0), torch.cuda.device_count() if torch.cuda.is_available() else 0
        if index >= count:
            there = f"{count} CUDA device(s) here" if count else "no CUDA device is usable here"
            raise UserError(f"device {name!r} is not there ({there}): use cpu, or see python -m relaxbench doctor")
        return torch.device("cuda", index)
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}: expected auto, cpu, cuda or cuda:N") from None
    if device.type != "cpu":
        raise UserError(f"device {name!r} is not supported: expected auto, cpu, cuda or cuda:N")
    return device


def choose(
    problem: Problem, device: torch.device, population: int | None = None, precision: Precision = "float32"
) -> Engine:
    """The fastest engine for a problem on a device: member-steps a second of plain SGD decide.

    Args:
        problem: what will be trained.
        device: where.
        population: K if it is given; then the path alone is measured.
        precision: in which models compute.
    """
    obstacle = why_not_vectorized(problem)
    path: Path = "direct"
    size = population or 1
    if obstacle is None:
        sizes = (population,) if population else _fitting(problem, device)
        rates = _rates(problem, sizes, device, precision)
        if not rates:
            obstacle = "a population would not fit into memory"
        else:
            # The smallest that is nearly as fast as any: its slots are refilled more often.
            best = min(k for k in rates if rates[k] >= 0.9 * max(rates.values()))
            if _gain(problem, best, device, precision) > 1:
                path, size = "vectorized", best
            else:
                obstacle = "the direct path is faster"
    invariance = "bit for bit" if path == "direct" else invariance_of(problem, size, device)
    return Engine(path, size, str(device), "float32", precision, torch.get_num_threads(), invariance, obstacle or "")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the device or of the machine, did not suffice."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in said for words in NO_MEMORY)


def halved(engine: dict[str, Any], problem: str) -> dict[str, Any]:
    """An engine as stored, with half the slots.

    Raises:
        UserError: if it has one alone.
    """
    size = engine["population"]
    if size == 1:
        raise _no_room(problem, engine["device"])
    return {**engine, "population": size // 2, "note": f"memory did not suffice for K = {size}"}


def _no_room(problem: str, device: object) -> UserError:
    return UserError(
        f"problem {problem!r} does not fit into the memory of {device} even with a single trial: take a smaller "
        "batch_size, or another device"
    )


def _fitting(problem: Problem, device: torch.device) -> list[int]:
    """Population sizes whose states and activations take at most half of the memory that is free."""
    on_gpu = device.type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if on_gpu else psutil.virtual_memory().available
    copies = max(rule.copies for rule in RULES.values()) + 2  # temporaries of a rule
    member = copies * problem.size * 4 + gradient_bytes(problem, device)
    return [k for k in (CANDIDATES + MORE if on_gpu else CANDIDATES) if k * member <= free / 2]


def _rates(problem: Problem, sizes: Sequence[int], device: torch.device, precision: Precision) -> dict[int, float]:
    """Member-steps a second of the vectorized path; sizes that do not fit or would take seconds a step are left out."""
    rates: dict[int, float] = {}
    for k in sizes:
        if rates and k / max(rates.values()) > 1.0:
            break
        try:
            rates[k] = throughput(problem, RULES["sgd"](), "vectorized", k, device, precision=precision)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            break
    return rates


def _gain(problem: Problem, size: int, device: torch.device, precision: Precision) -> float:
    """How many times as fast as the direct path a population is: the median of pairs that are measured in turn."""
    ratios = []
    for _ in range(PAIRS):
        direct = throughput(problem, RULES["sgd"](), "direct", 1, device, precision=precision)
        ratios.append(throughput(problem, RULES["sgd"](), "vectorized", size, device, precision=precision) / direct)
    return statistics.median(ratios)


def throughput(
    problem: Problem,
    rule: Rule,
    path: Path,
    size: int,
    device: torch.device,
    seconds: float = 0.15,
    precision: Precision = "float32",
    **params: float,
) -> float:
    """Member-steps (gradient equivalents) a second of a population in full flight, measuring and starting excluded.

    The fastest of many short stretches counts: the one that other programs on the machine did not disturb.
    """
    population = Population(problem, rule, budget=10**9, path=path, device=device, precision=precision)
    values = {**defaults(rule.space), **params}
    population.admit([Job(i, i, values) for i in range(size)])
    chunk, spent, fastest = 1, 0.0, 0.0
    population.advance(chunk)  # the first call allocates
    while spent < seconds or fastest == 0:
        start = time.perf_counter()
        population.advance(chunk)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elapsed = time.perf_counter() - start
        if elapsed < STRETCH_SECONDS and chunk < 4096:
            chunk *= 2  # too short to be timed well
        else:
            fastest = max(fastest, size * chunk * population.price / elapsed)
        spent += elapsed
    return fastest


def calibrate(
    problem: Problem, rule: Rule, device: torch.device, precision: Precision = "float32", **params: float
) -> dict[str, float]:
    """What one gradient of a rule costs alone (K = 1, direct path), so that methods are compared on equal terms.

    Returns:
        ``seconds_per_gradient``, the rule's own arithmetic included; ``peak_bytes``: the rule's declared copies of the
        parameters plus what is held while a gradient is computed, see `footprint`.

    Raises:
        UserError: if memory does not suffice.
    """
    try:
        rate = throughput(problem, rule, "direct", 1, device, seconds=0.1, precision=precision, **params)
        held = gradient_bytes(problem, device, precision)
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            raise _no_room(problem.name, device) from None
        raise
    return {
        "seconds_per_gradient": 1 / rate,
        # The gradient is one of the copies, and of what is held while it is computed.
        "peak_bytes": (rule.copies - 1) * problem.size * 4 + held,
    }


def try_out(problem: Problem) -> None:
    """One gradient of one mini-batch and one measurement of one member: what fails here would fail in every trial.

    Raises:
        UserError: naming the problem and what its model or data said; if it draws random numbers that are not functions
            of a trial's seed, or begins at a loss that is not finite.
    """
    device, oracle = torch.device("cpu"), Oracle(problem, "direct")
    generator = torch.get_rng_state()
    try:
        problem.check()
        points = problem.init(0)[None]
        batch = problem.sampler([0], [0], 1, device).batch(torch.zeros(1, 1, dtype=torch.int64))
        _, loss = oracle.gradient_on(points, batch)
        if not torch.equal(generator, torch.get_rng_state()):
            raise UserError(
                f"problem {problem.name!r} draws random numbers from torch's generator when it is trained, which "
                "cannot be replayed: use relaxbench.problems.Dropout as a layer instead (and dropout arguments of 0 in "
                "other layers)"
            )
        held_out = oracle.measure(points, "validation").loss
        for split, value in (("training", loss), ("validation", held_out)):
            if not bool(torch.isfinite(value).all()):
                raise UserError(
                    f"problem {problem.name!r} has a {split} loss of {value.item():g} at its initial weights: look for "
                    "NaN or infinity in its data, and for a model that divides by zero"
                )
    except UserError:
        raise
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")
        raise UserError(
            f"problem {problem.name!r} fails on a mini-batch ({type(error).__name__}: {reason}): "
            "make its model, data and loss fit together"
        ) from error


def why_not_vectorized(problem: Problem) -> str | None:
    """None if one `vmap` over the model gives the same as one member after another; else what stands in the way."""
    device = torch.device("cpu")
    points = torch.stack([problem.init(seed) for seed in (0, 1)])
    batch = problem.sampler([0, 1], [0, 0], 1, device).batch(torch.zeros(2, 1, dtype=torch.int64))
    direct, exact = Oracle(problem, "direct"), points.double()
    try:  # in float64 if the model can: rounding turns ReLUs and pools at their kinks, and a gradient with them
        grads, _ = direct.gradient_on(exact, batch)
        points = exact
    except RuntimeError:
        grads, _ = direct.gradient_on(points, batch)
    try:
        together, _ = Oracle(problem, "vectorized").gradient_on(points, batch)
    except (RuntimeError, NotImplementedError, ValueError, IndexError, TypeError) as error:
        layer = _culprit(problem) or "the model"
        return f"{layer} does not vectorize ({str(error).splitlines()[0][:120]})"
    if not torch.allclose(together, grads, rtol=1e-3, atol=1e-5 * float(grads.abs().max())):
        return f"{_culprit(problem) or 'the model'} gives other gradients when vectorized"
    return None


def invariance_of(problem: Problem, size: int, device: torch.device) -> str:
    """Whether a member's gradient changes with K and its slot, tried on random members."""
    oracle = Oracle(problem, "vectorized")
    points = torch.stack([problem.init(seed) for seed in range(size)]).to(device)
    sampler = problem.sampler(range(size), [0] * size, 1, device)
    batch = sampler.batch(torch.zeros(size, 1, dtype=torch.int64, device=device))
    reference, _ = oracle.gradient_on(points, batch)
    worst = 0.0
    for rows in ([0], [size - 1], list(range(size))[::-1], [1 % size, 0, size - 1]):
        part, _ = oracle.gradient_on(points[rows], {name: value[rows] for name, value in batch.items()})
        worst = max(worst, float((part - reference[rows]).abs().max() / reference.abs().max()))
    return "bit for bit" if worst == 0 else f"within {worst:.0e} of the largest entry of a gradient"


def machine() -> dict[str, Any]:
    """What a manifest says of the machine."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _culprit(problem: Problem) -> str | None:
    """The first layer that does not vectorize on the inputs that it sees, as ``layer '3' (GRU)``."""
    if not isinstance(problem, SupervisedProblem):
        return None
    model, inputs = problem.model, {}

    def record(module: nn.Module, args: tuple[Any, ...]) -> None:
        inputs[module] = args

    modules = list(model.modules())[::-1]  # children before parents, so that the smallest culprit is named
    hooks = [m.register_forward_pre_hook(record) for m in modules]
    try:
        x, y = (part[: problem.batch_size] for part in problem.tensors["train"])
        with torch.no_grad():
            problem.outputs(problem.unflatten(problem.init(0)), {"x": x, "y": y}, False)
    finally:
        for hook in hooks:
            hook.remove()
    names = {module: name for name, module in model.named_modules()}
    for module in modules:
        if module not in inputs or not all(isinstance(a, Tensor) for a in inputs[module]):
            continue
        params = {n: torch.stack([p.detach(), p.detach()]) for n, p in module.named_parameters()}
        args = tuple(torch.stack([a, a]) for a in inputs[module])
        try:
            vmap(lambda p, a, module=module: torch.func.functional_call(module, p, a))(params, args)
        except (RuntimeError, NotImplementedError, ValueError, IndexError, TypeError):
            what = f"layer {names[module]!r}" if names[module] else "the model"
            return f"{what} ({type(module).__name__})"
    return None
