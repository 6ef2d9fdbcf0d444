"""A training loop of your own as an arm of a study: two networks, two optimizers, no problem class.

python own_loop.py                                 # one plain run, in the middle of the ranges
python -m relaxbench study studies/own-loop.toml   # from the folder above: tuned, confirmed and compared

A generator learns to draw from a ring of eight points, a discriminator to tell its draws from true ones. The metric is
the energy distance between both, which is 0 for equal distributions.
"""

import math
from pathlib import Path

import torch
from torch import nn

import relaxbench

trial = relaxbench.trial(study=Path(__file__).parents[1] / "studies" / "own-loop.toml")
params = dict(trial.params)  # in a study: those of this trial


def ring(count: int, seed: torch.Generator) -> torch.Tensor:
    """Draw true points."""
    angle = torch.randint(8, (count,), generator=seed) * math.pi / 4
    return torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(count, 2, generator=seed)


def distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the energy distance of two samples."""
    return 2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean()


generator, critic = (nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, outputs)) for outputs in (2, 1))
make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[trial.method]
rate, ratio = params.pop("lr"), params.pop("lr_ratio")
steps = make(generator.parameters(), rate, **params), make(critic.parameters(), rate * ratio, **params)
batches, held_out = torch.Generator().manual_seed(trial.seed), torch.Generator().manual_seed(1)
true, noise = ring(1000, held_out), torch.randn(500, 2, generator=held_out)
real_or_not = torch.ones(64, 1), torch.zeros(64, 1)

while trial.left >= 2:  # an iteration takes two gradients
    real, drawn = ring(64, batches), generator(torch.randn(64, 2, generator=batches))
    for optimizer in steps:
        ours = optimizer is steps[0]  # the generator's turn, then the critic's
        answers = critic(drawn) if ours else critic(torch.cat([real, drawn.detach()]))
        loss = nn.functional.binary_cross_entropy_with_logits(
            answers, real_or_not[0] if ours else torch.cat(real_or_not)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        trial.bill(gradients=1)
    if trial.due():
        with torch.no_grad():
            trial.report(validation=distance(generator(noise), true[:500]), training=loss.detach())
with torch.no_grad():
    trial.test(lambda: distance(generator(noise), true[500:]))
