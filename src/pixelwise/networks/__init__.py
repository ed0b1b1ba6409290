"""Networks: images in, logits out."""

from pixelwise.networks.segmenter import Segmenter
from pixelwise.networks.table import NETWORKS, build_network
from pixelwise.networks.unet import UNet

__all__ = ["NETWORKS", "Segmenter", "UNet", "build_network"]
