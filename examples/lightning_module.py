"""Train in PyTorch Lightning; the best checkpoint holds what was validated, and so does the model afterwards.

python lightning_module.py
"""

import contextlib

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from relaxbench.optim import SAM, CurveBall, EntropySGD


class Classifier(lightning.LightningModule):  # noqa: D101
    def __init__(self, method):
        super().__init__()
        self.model, self.method, self.automatic_optimization = torch.nn.Linear(10, 2), method, method is not CurveBall

    def training_step(self, batch, index):
        if self.automatic_optimization:
            return cross_entropy(self.model(batch[0]), batch[1])
        self.optimizers().step(closure=lambda: self.model(batch[0]), loss_fn=lambda out: cross_entropy(out, batch[1]))

    def validation_step(self, batch, index):
        self.log("loss", cross_entropy(self.model(batch[0]), batch[1]))

    test_step = validation_step

    def configure_optimizers(self):
        steps = int(self.trainer.estimated_stepping_batches)
        return self.method(self.model if self.method is CurveBall else self.parameters(), total_steps=steps)

    def deploy(self):
        [optimizer.eval() for optimizer in self.trainer.optimizers]

    on_validation_start = on_train_end = deploy  # the deployed weights stay in the model until training goes on

    def on_train_batch_start(self, batch, index):
        [optimizer.train() for optimizer in self.trainer.optimizers]

    def on_save_checkpoint(self, checkpoint):
        with contextlib.ExitStack() as stack:  # perhaps in the middle of an epoch
            [stack.enter_context(optimizer.deployed()) for optimizer in self.trainer.optimizers]
            checkpoint["state_dict"] = {name: value.clone() for name, value in self.state_dict().items()}


x = torch.randn(512, 10, generator=torch.Generator().manual_seed(0))
loader = DataLoader(TensorDataset(x, (x[:, 0] + 0.5 * x[:, 1] ** 2 > 0).long()), batch_size=32)
for method in (EntropySGD, SAM, CurveBall):
    best, module = ModelCheckpoint("checkpoints", monitor="loss"), Classifier(method)
    trainer = lightning.Trainer(max_epochs=4, callbacks=[best], logger=False, accelerator="cpu")
    trainer.fit(module, loader, loader)
    losses = [trainer.callback_metrics["loss"], trainer.test(module, loader)[0]["loss"], best.best_model_score]
    losses += [trainer.validate(Classifier(method), loader, ckpt_path=best.best_model_path)[0]["loss"]]
    print(f"{method.__name__}: {trainer.global_step} steps,", *(f"{float(loss):.4f}" for loss in losses))
