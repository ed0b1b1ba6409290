"""Write the packaged ImageNet weights of EfficientNet-Lite0 with timm's names, for other programs.

python benchmarks/lite0_weights.py lite0.safetensors
"""

import argparse
from pathlib import Path

from safetensors.torch import save_file

from pixelwise.networks.weights import build_classifier


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    classifier = build_classifier("tf_efficientnet_lite0", weights="imagenet")
    save_file({name: tensor.contiguous() for name, tensor in classifier.network.state_dict().items()}, arguments.output)
    print(f"written: {arguments.output}")


if __name__ == "__main__":
    main()
