"""Networks of the papers, layer by layer.

Sources: Entropy-SGD (arXiv 1611.01838, section 5) for mnistfc, LeNet and All-CNN-BN; CurveBall (arXiv 1805.08095,
section 4) for the basic CIFAR network, ResNet-18, VGG-f and the tanh network.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


def mnistfc(classes: int = 10) -> nn.Sequential:
    """Build 784-1024-1024-10 with dropout and batch normalization, 1,867,786 parameters."""
    return nn.Sequential(
        *(nn.Flatten(), nn.Dropout(0.2), nn.Linear(784, 1024), nn.ReLU(), nn.BatchNorm1d(1024)),
        *(nn.Dropout(0.2), nn.Linear(1024, 1024), nn.ReLU(), nn.Dropout(0.2), nn.BatchNorm1d(1024)),
        nn.Linear(1024, classes),
    )


def lenet(classes: int = 10) -> nn.Sequential:
    """Build LeNet for 28 × 28 images of one channel, 131,220 parameters."""
    return nn.Sequential(
        *(nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(3), nn.BatchNorm2d(20), nn.Dropout(0.25)),
        *(nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(50), nn.Dropout(0.25)),
        *(nn.Flatten(), nn.Linear(200, 500), nn.ReLU(), nn.Dropout(0.25), nn.Linear(500, classes)),
    )


def mnist_tanh(classes: int = 10) -> nn.Sequential:
    """Build 784-128-64-32-10 with tanh, 111,146 parameters."""
    widths = (784, 128, 64, 32)
    hidden = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(32, classes))


def allcnn(classes: int = 10) -> nn.Sequential:
    """Build All-CNN-BN for 32 × 32 images of convolutions only, two with stride 2; 1,667,166 parameters."""

    def layer(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        nn.Dropout(0.2),
        *(*layer(3, 96), *layer(96, 96), *layer(96, 96, stride=2), nn.Dropout(0.5)),
        *(*layer(96, 192), *layer(192, 192), *layer(192, 192, stride=2), nn.Dropout(0.5)),
        *(*layer(192, 192), *layer(192, 192), *layer(192, classes, 1)),
        *(nn.AvgPool2d(8), nn.Flatten()),
    )


def cifar_basic(classes: int = 10, batch_norm: bool = False) -> nn.Sequential:
    """Build the small CIFAR network of MatConvNet's examples, 145,578 parameters; batch normalization is optional."""

    def layer(inputs: int, outputs: int, size: int, pool: nn.Module | None) -> list[nn.Module]:
        padding = size // 2 if size % 2 else 0
        norm: list[nn.Module] = [nn.BatchNorm2d(outputs)] if batch_norm else []
        return [nn.Conv2d(inputs, outputs, size, padding=padding), *norm, nn.ReLU(), *([pool] if pool else [])]

    return nn.Sequential(
        *layer(3, 32, 5, nn.MaxPool2d(3, 2, ceil_mode=True)),
        *layer(32, 32, 5, nn.AvgPool2d(3, 2, ceil_mode=True)),
        *layer(32, 64, 5, nn.AvgPool2d(3, 2, ceil_mode=True)),
        *layer(64, 64, 4, None),
        *(nn.Conv2d(64, classes, 1), nn.Flatten()),
    )


def resnet18(classes: int = 10, small: bool = True) -> nn.Module:
    """Build the ResNet-18 of torchvision.

    Args:
        classes: number of classes.
        small: use the 3 × 3 stem that is usual for 32 × 32 images (11,173,962 parameters).
    """
    from torchvision.models import resnet18 as original

    model: nn.Module = original(num_classes=classes)
    if small:
        model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
    return model


def vggf(classes: int) -> nn.Sequential:
    """Build VGG-f (Chatfield et al., arXiv 1405.3531, CNN-F) with batch normalization, for 224 × 224 images."""

    def layer(inputs: int, outputs: int, size: int, stride: int = 1, padding: int = 0) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, size, stride, padding)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    def full(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]

    return nn.Sequential(
        *(*layer(3, 64, 11, stride=4), nn.MaxPool2d(3, 2, ceil_mode=True)),
        *(*layer(64, 256, 5, padding=2), nn.MaxPool2d(3, 2, ceil_mode=True)),
        *(*layer(256, 256, 3, padding=1), *layer(256, 256, 3, padding=1), *layer(256, 256, 3, padding=1)),
        *(nn.MaxPool2d(3, 2), nn.Flatten(), *full(256 * 6 * 6, 4096), *full(4096, 4096), nn.Linear(4096, classes)),
    )


class CharLSTM(nn.Module):
    """Two layers of LSTM that predict the next character of a text.

    Args:
        characters: size of the alphabet.
        width: units of both layers, and dimensions of the embedding.
    """

    def __init__(self, characters: int, width: int = 128) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        self.lstm = nn.LSTM(width, width, num_layers=2, batch_first=True)
        self.output = nn.Linear(width, characters)

    def forward(self, x: Tensor) -> Tensor:
        """Map characters ``[B, T]`` to logits ``[B, T, C]`` of the next characters."""
        hidden: Tensor = self.lstm(self.embedding(x))[0]
        logits: Tensor = self.output(hidden)
        return logits


class CharTransformer(nn.Module):
    """A small causal transformer (pre-norm, GELU, learned positions) that predicts the next character of a text.

    Source: Radford et al. 2019 (GPT-2) for the order of layers, here without dropout.

    Args:
        characters: size of the alphabet.
        length: maximum number of characters of a window.
        width: dimensions of a character's representation.
        blocks: number of pairs of attention and network.
        heads: number of attention heads; a divisor of `width`.
    """

    def __init__(self, characters: int, length: int, width: int = 64, blocks: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(characters, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(blocks)))
        self.output = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, characters, bias=False))
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map characters ``[B, T]`` to logits ``[B, T, C]`` of the next characters."""
        positions = torch.arange(x.shape[-1], device=x.device)
        logits: Tensor = self.output(self.blocks(self.embedding(x) + self.positions(positions)))
        return logits


class TransformerBlock(nn.Module):
    """Causal attention, then a network of one hidden layer, each added to its input.

    Attention is written out, because PyTorch's fused one has no forward mode of differentiation, which CurveBall needs.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries, self.keys, self.values, self.mix = (nn.Linear(width, width) for _ in range(4))
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, width]`` to the same shape; a place sees itself and those before it."""
        x = x + self._attention(self.before(x))
        result: Tensor = x + self.network(self.between(x))
        return result

    def _attention(self, x: Tensor) -> Tensor:
        length = x.shape[-2]
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(-3, -2)
            for layer in (self.queries, self.keys, self.values)
        )
        later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
        weights = scores.masked_fill(later, -torch.inf).softmax(-1)
        mixed: Tensor = self.mix((weights @ v).transpose(-3, -2).flatten(-2))
        return mixed


def parameters(model: nn.Module) -> int:
    """Return the number of parameters of a model."""
    return sum(p.numel() for p in model.parameters())
