"""`pixelwise quantize`: the network of a model in int8."""

import os

from pixelwise.quantization.result import QuantizeResult


def quantize(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    max_iou_drop: float = 1.0,
    format: str | None = None,
) -> QuantizeResult:
    """Quantize a model to int8 and write the result to a file next to it.

    Activation ranges are found on up to 32 training images. The mean IoU is measured on the validation
    split with every installed engine that computes in int8 and stored in the file. `predict`, `evaluate` and
    `load` use the file with precision "int8", `export` builds int8 files from it.

    Args:
        model: Run folder or model file.
        data: Dataset with a training and a validation split and the classes of the model.
        output: File to write; default `model.int8.onnx` next to the model file, where the other commands look for it.
        max_iou_drop: Points of mean IoU that int8 may lose, from 0 to 100. A point is 0.01.
        format: Dataset format; default: recognized.

    Raises:
        InvalidArgumentError: int8 loses more than `max_iou_drop`, a split is missing, the classes differ, the extra
            `onnx` is not installed, or `output` is a file that is not an int8 file.

    Example:
        >>> import pixelwise as pw
        >>> result = pw.quantize("runs/first", "street")  # doctest: +SKIP
        >>> result.accuracy.engines["onnxruntime"].mean_iou  # doctest: +SKIP
        0.7297
    """
    from pixelwise.quantization.quantize import quantize as run

    return run(model, data, output, max_iou_drop=max_iou_drop, format=format)
