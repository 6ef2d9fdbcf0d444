"""Train with Accelerate: what is validated is saved, and loaded again it has the same loss.

python accelerate_loop.py
"""

import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from relaxbench.optim import SAM, CurveBall, EntropySGD

EPOCHS = 4
x = torch.randn(512, 10, generator=torch.Generator().manual_seed(0))
dataset = TensorDataset(x, (x[:, 0] + 0.5 * x[:, 1] ** 2 > 0).long())


def train(method):
    """Print the number of steps, the loss that was validated, and that of what was saved."""
    accelerator, steps = Accelerator(cpu=True), 0
    model = torch.nn.Linear(10, 2).to(accelerator.device)  # there before the optimizer is made
    own = method(model if method is CurveBall else model.parameters(), total_steps=EPOCHS * 16)
    model, optimizer, loader = accelerator.prepare(model, own, DataLoader(dataset, batch_size=32))

    def loss_of_deployed():
        with own.deployed(), torch.no_grad():  # `optimizer` is Accelerate's wrapper; optimizer.optimizer is `own`
            return torch.stack([cross_entropy(model(x), y) for x, y in loader]).mean().item()

    for _ in range(EPOCHS):
        for x, y in loader:

            def closure(x=x, y=y):
                optimizer.zero_grad()
                loss = cross_entropy(model(x), y)
                accelerator.backward(loss)
                return loss

            if method is CurveBall:  # two functions: the wrapper passes on one
                own.step(lambda x=x: model(x), lambda outputs, y=y: cross_entropy(outputs, y))
            else:
                optimizer.step(closure)
            steps += 1
        validated = loss_of_deployed()
        with own.deployed():
            accelerator.save_state(f"accelerate/{method.__name__}")
    with torch.no_grad():
        [p.zero_() for p in model.parameters()]
    accelerator.load_state(f"accelerate/{method.__name__}")
    print(f"{method.__name__}: {steps} steps, {validated:.6f} {loss_of_deployed():.6f}")


for method in (EntropySGD, SAM, CurveBall):
    train(method)
