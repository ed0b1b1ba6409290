"""The convolutional layers of ResNet, ResNeXt and Wide ResNet, with the names and weights of torchvision.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016 (arXiv:1512.03385), with the stride in
the 3x3 convolution of a bottleneck. torchvision has the same networks, but its import takes longer than PyTorch's.
"""

from collections.abc import Mapping

from torch import Tensor, nn

RESNETS: Mapping[str, tuple[tuple[int, ...], int, int]] = {
    "resnet18": ((2, 2, 2, 2), 0, 1),
    "resnet34": ((3, 4, 6, 3), 0, 1),
    "resnet50": ((3, 4, 6, 3), 64, 1),
    "resnet101": ((3, 4, 23, 3), 64, 1),
    "resnet152": ((3, 8, 36, 3), 64, 1),
    "resnext50_32x4d": ((3, 4, 6, 3), 128, 32),
    "resnext101_32x8d": ((3, 4, 23, 3), 256, 32),
    "resnext101_64x4d": ((3, 4, 23, 3), 256, 64),
    "wide_resnet50_2": ((3, 4, 6, 3), 128, 1),
    "wide_resnet101_2": ((3, 4, 23, 3), 128, 1),
}
"""Name → blocks of each stage; channels of the 3x3 convolutions of the first stage (0: no bottlenecks); and groups."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions whose output is added to the input.

    Args:
        in_channels: C of the input.
        channels: Channels of the output.
        stride: Stride of the block.
        downsample: Layers that give the input the shape of the output; None if it has this shape.
    """

    def __init__(self, in_channels: int, channels: int, *, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        activated: Tensor = self.relu(y)
        return activated


class Bottleneck(nn.Module):
    """A 3x3 convolution of `width` channels between two 1x1 convolutions, otherwise as `BasicBlock`."""

    def __init__(
        self, in_channels: int, channels: int, *, stride: int, downsample: nn.Module | None, width: int, groups: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        activated: Tensor = self.relu(y)
        return activated


def build_resnet_layers(name: str) -> dict[str, nn.Module]:
    """Return the layers of a network of `RESNETS` for 3 channels, before its global pooling.

    The same seed gives the same weights as in torchvision.
    """
    depths, width, groups = RESNETS[name]
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, 64, 7, 2, padding=3, bias=False),
        "bn1": nn.BatchNorm2d(64),
        "relu": nn.ReLU(inplace=True),
        "maxpool": nn.MaxPool2d(3, 2, padding=1),
    }
    in_channels = 64
    for stage, depth in enumerate(depths):
        channels = (256 if width else 64) << stage
        blocks: list[nn.Module] = []
        for index in range(depth):
            stride = 2 if stage and not index else 1
            downsample = None
            if in_channels != channels or stride != 1:
                convolution = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
                downsample = nn.Sequential(convolution, nn.BatchNorm2d(channels))
            if width:
                inner = width << stage
                block: nn.Module = Bottleneck(
                    in_channels, channels, stride=stride, downsample=downsample, width=inner, groups=groups
                )
            else:
                block = BasicBlock(in_channels, channels, stride=stride, downsample=downsample)
            blocks.append(block)
            in_channels = channels
        layers[f"layer{stage + 1}"] = nn.Sequential(*blocks)
    nn.Linear(in_channels, 1000)  # draws the random numbers of torchvision's last layer
    for module in nn.ModuleDict(layers).modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return layers
