"""The networks of the papers, layer by layer."""

from __future__ import annotations

from torch import nn


def lenet() -> nn.Sequential:
    """LeNet for 28 × 28 images of one channel, 131,220 parameters (Entropy-SGD, arXiv 1611.01838, section 5.2)."""
    return nn.Sequential(
        *(nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(3), nn.BatchNorm2d(20), nn.Dropout(0.25)),
        *(nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(50), nn.Dropout(0.25)),
        *(nn.Flatten(), nn.Linear(200, 500), nn.ReLU(), nn.Dropout(0.25), nn.Linear(500, 10)),
    )
