"""Inside PyTorch Lightning's loop: the real package, with the module of the documentation."""

from __future__ import annotations

import functools
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from relaxbench.optim.drop_in.base import RuleOptimizer
from relaxbench.optim.drop_in.classes import DROP_INS

lightning: Any = None
"""Its package, which is imported for these tests alone: every process collects them, and it takes a second."""
pytestmark = pytest.mark.filterwarnings("ignore::Warning:pytorch_lightning", "ignore:.*deprecated", "ignore:.*workers")

PAGE = (Path(__file__).parents[3] / "docs" / "training-loops.md").read_text()
X = torch.randn(96, 10, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
LOADER = DataLoader(TensorDataset(X, Y), batch_size=16)
EPOCHS = 4
STEPS = EPOCHS * len(LOADER)


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    global lightning
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pytorch_lightning as lightning


def documented() -> Any:
    """The class of the documentation."""
    code = next(each for each in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "LightningModule" in each)
    names: dict[str, Any] = {}
    exec(code, names)
    return names["Classifier"]


@functools.cache
def adapted() -> Any:
    """The same with any of the methods; made when it is needed, because its base imports the package."""

    class Classifier(documented()):  # type: ignore[misc]
        def __init__(self, method: str) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.model, self.method = nn.Linear(10, 2), method

        def configure_optimizers(self) -> RuleOptimizer:
            return made(self.method, self.model)

    return Classifier


def classifier(method: str) -> Any:
    return adapted()(method)


def made(method: str, model: nn.Module) -> RuleOptimizer:
    values: dict[str, Any] = {"inner_steps": 4} if "inner_steps" in DROP_INS[method].rule_class.wide else {}
    return DROP_INS[method](model.parameters(), total_steps=STEPS, **values)


def trainer(folder: Path, **options: Any) -> Any:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return lightning.Trainer(
        **{"max_epochs": EPOCHS, "default_root_dir": folder, "enable_checkpointing": False, **quiet, **options}
    )


def vector(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def plain(method: str, clip: float = 0.0) -> nn.Module:
    """The same training in a loop of one's own."""
    torch.manual_seed(1)
    model = nn.Linear(10, 2)
    optimizer = made(method, model)
    for _ in range(EPOCHS):
        for x, y in LOADER:

            def closure(x: Tensor = x, y: Tensor = y) -> float:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x), y)
                torch.autograd.backward(loss)
                if clip:
                    nn.utils.clip_grad_norm_(model.parameters(), clip)
                return loss.item()

            optimizer.step(closure)
    optimizer.eval()
    return model


@pytest.mark.parametrize("method", [name for name in DROP_INS if name != "curveball"])
def test_it_takes_the_steps_of_a_plain_loop(method: str, tmp_path: Path) -> None:
    module = classifier(method)
    runner = trainer(tmp_path)
    runner.fit(module, LOADER, LOADER)
    runner.optimizers[0].eval()
    assert torch.equal(vector(module.model), vector(plain(method)))
    with torch.no_grad():  # validated at the deployed weights
        losses = [nn.functional.cross_entropy(module.model(x), y) for x, y in LOADER]
    assert runner.callback_metrics["loss"].item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_every_checkpoint_holds_the_deployed_weights(tmp_path: Path) -> None:
    """Within an epoch (and within an inner loop), and the best one by its validated loss."""
    best = lightning.callbacks.ModelCheckpoint(dirpath=tmp_path, filename="best", monitor="loss")
    often = lightning.callbacks.ModelCheckpoint(
        dirpath=tmp_path, filename="{step}", every_n_train_steps=7, save_top_k=-1
    )
    trainer(tmp_path, callbacks=[best, often], enable_checkpointing=True).fit(classifier("entropy-sgd"), LOADER, LOADER)
    torch.manual_seed(1)
    model = nn.Linear(10, 2)
    optimizer = made("entropy-sgd", model)
    for step, (x, y) in enumerate([*LOADER, *LOADER][:7]):
        assert step < 7
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    optimizer.eval()
    saved = torch.load(tmp_path / "step=7.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(saved["model.weight"], model.weight)
    saved = torch.load(tmp_path / "best.ckpt", weights_only=True)["state_dict"]
    model.load_state_dict({"weight": saved["model.weight"], "bias": saved["model.bias"]})
    with torch.no_grad():
        losses = [nn.functional.cross_entropy(model(x), y) for x, y in LOADER]
    assert best.best_model_score is not None
    assert torch.stack(losses).mean().item() == pytest.approx(best.best_model_score.item(), rel=1e-5)


def test_gradients_are_clipped(tmp_path: Path) -> None:
    module = classifier("entropy-sgd")
    runner = trainer(tmp_path, gradient_clip_val=0.01)
    runner.fit(module, LOADER)
    runner.optimizers[0].eval()
    assert torch.equal(vector(module.model), vector(plain("entropy-sgd", clip=0.01)))


def test_a_checkpoint_of_lightning_continues_in_the_middle_of_an_inner_loop(tmp_path: Path) -> None:
    assert len(LOADER) % 4  # an epoch is not a number of outer steps
    first = trainer(tmp_path, max_epochs=1)
    first.fit(classifier("entropy-sgd"), LOADER, LOADER)
    first.save_checkpoint(tmp_path / "one.ckpt")
    module, second = classifier("entropy-sgd"), trainer(tmp_path)
    second.fit(module, LOADER, LOADER, ckpt_path=tmp_path / "one.ckpt")
    second.optimizers[0].eval()
    assert torch.equal(vector(module.model), vector(plain("entropy-sgd")))


def test_the_module_of_the_documentation_trains(tmp_path: Path) -> None:
    runner = trainer(tmp_path)
    module = documented()()
    runner.fit(module, LOADER, LOADER)
    assert runner.callback_metrics["loss"].item() < 0.6
    assert runner.optimizers[0].total_steps == STEPS


def test_a_swap_before_the_checkpoint_is_refused_and_names_the_hook(tmp_path: Path) -> None:
    """Lightning saves after on_validation_end: what it saved then was the point of the next gradient."""

    class Early(adapted()):  # type: ignore[misc]
        def on_validation_epoch_end(self) -> None:
            with self.trainer.optimizers[0].deployed():  # allowed: it ends as it began
                pass

        def on_validation_end(self) -> None:
            for optimizer in self.trainer.optimizers:
                optimizer.train()

    with pytest.raises(RuntimeError, match=r"after on_validation_end, .* in on_train_batch_start"):
        trainer(tmp_path).fit(Early("entropy-sgd"), LOADER, LOADER)
