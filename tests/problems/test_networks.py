"""The published networks: their sizes and outputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from relaxbench.problems import networks
from relaxbench.problems.networks import CharLSTM, parameters

IMAGES = {
    "mnistfc": (networks.mnistfc, 1_867_786, (1, 28, 28), 10),
    "lenet": (networks.lenet, 131_220, (1, 28, 28), 10),
    "mnist-mlp-tanh": (networks.mnist_tanh, 111_146, (1, 28, 28), 10),
    "allcnn-bn": (networks.allcnn, 1_667_166, (3, 32, 32), 10),
    "cifar-basic": (networks.cifar_basic, 145_578, (3, 32, 32), 10),
    "cifar-basic-bn": (
        lambda: networks.cifar_basic(batch_norm=True),
        145_578 + 2 * (32 + 32 + 64 + 64),
        (3, 32, 32),
        10,
    ),
    "resnet18": (networks.resnet18, 11_173_962, (3, 32, 32), 10),
    "resnet18-imagenet": (lambda: networks.resnet18(1000, False), 11_689_512, (3, 64, 64), 1000),
}


@pytest.mark.parametrize("name", IMAGES)
def test_sizes_and_outputs_are_those_of_the_papers(name: str) -> None:
    make, count, shape, classes = IMAGES[name]
    model: nn.Module = make()
    assert parameters(model) == count
    assert model(torch.randn(2, *shape)).shape == (2, classes)


def of(network: Callable[[], nn.Module], *kinds: type[nn.Module]) -> list[nn.Module]:
    return [module for module in network().modules() if isinstance(module, kinds)]


def test_all_cnn_has_no_pooling_but_the_last_and_normalizes_every_convolution() -> None:
    convolutions = [m for m in of(networks.allcnn, nn.Conv2d) if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == len(of(networks.allcnn, nn.BatchNorm2d)) == len(of(networks.allcnn, nn.ReLU)) == 9
    assert [c.stride[0] for c in convolutions] == [1, 1, 2, 1, 1, 2, 1, 1, 1]
    assert [d.p for d in of(networks.allcnn, nn.Dropout) if isinstance(d, nn.Dropout)] == [0.2, 0.5, 0.5]
    assert len(of(networks.allcnn, nn.AvgPool2d)) == 1 and not of(networks.allcnn, nn.MaxPool2d, nn.Linear)


def test_vgg_f_has_the_sizes_of_cnn_f() -> None:
    """Chatfield et al., table 1: 64 11×11/4, 256 5×5, 3 times 256 3×3, and two layers of 4096."""
    with torch.device("meta"):
        model = networks.vggf(1000)
        assert model(torch.empty(2, 3, 224, 224)).shape == (2, 1000)
    found = [m.out_channels for m in model if isinstance(m, nn.Conv2d)]
    assert found == [64, 256, 256, 256, 256]
    assert [(m.in_features, m.out_features) for m in model if isinstance(m, nn.Linear)] == [
        (9216, 4096),
        (4096, 4096),
        (4096, 1000),
    ]


def test_the_character_model_sees_earlier_characters_only() -> None:
    torch.manual_seed(0)
    model, text = CharLSTM(20, width=8), torch.randint(0, 20, (3, 12))
    other = text.clone()
    other[:, 7:] = (other[:, 7:] + 1) % 20
    first, second = model(text), model(other)
    assert first.shape == (3, 12, 20)
    assert torch.equal(first[:, :7], second[:, :7]) and not torch.equal(first[:, 7:], second[:, 7:])


def test_the_transformer_is_that_of_pytorch_with_the_same_weights() -> None:
    """`nn.TransformerEncoderLayer` in its pre-norm form, under a causal mask, in float64."""
    own = networks.CharTransformer(11, 9, width=12, blocks=2, heads=3).double()
    x = torch.randint(0, 11, (4, 9), generator=torch.Generator().manual_seed(0))
    hidden = own.embedding(x) + own.positions.weight
    for block in own.blocks:
        assert isinstance(block, networks.TransformerBlock)
        layer = nn.TransformerEncoderLayer(12, 3, 48, 0.0, "gelu", batch_first=True, norm_first=True).double()
        projections = (block.queries, block.keys, block.values)
        weights = {
            "self_attn.in_proj_weight": torch.cat([p.weight for p in projections]),
            "self_attn.in_proj_bias": torch.cat([p.bias for p in projections]),
        }
        pairs = {"self_attn.out_proj": block.mix, "norm1": block.before, "norm2": block.between}
        pairs |= {"linear1": block.network[0], "linear2": block.network[2]}
        for name, module in pairs.items():
            weights |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        layer.load_state_dict(weights)
        hidden = layer(hidden, src_mask=nn.Transformer.generate_square_subsequent_mask(9).double(), is_causal=True)
    assert torch.allclose(own(x), own.output(hidden), rtol=1e-12, atol=1e-12)


def test_the_transformer_sees_only_what_came_before() -> None:
    model = networks.CharTransformer(11, 9)
    x = torch.randint(0, 11, (2, 9), generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[:, 5:] = (x[:, 5:] + 1) % 11
    now, then = model(x), model(other)
    assert torch.equal(now[:, :5], then[:, :5]) and not torch.isclose(now[:, 5:], then[:, 5:]).all(-1).any()
