"""Operators of segmentation networks: tensors in, tensors out."""

from pixelwise.ops.pooling import (
    MaxPoolWithSwitches,
    MaxUnpool,
    max_pool_with_switches,
    max_unpool,
    pack_switches,
    unpack_switches,
)
from pixelwise.ops.transposed_convolution import (
    TransposedConv,
    as_direct_conv,
    conv_matrix,
    has_uneven_overlap,
    overlap_counts,
    transposed_conv,
)
from pixelwise.ops.upsampling import (
    Interpolate,
    UnpoolBedOfNails,
    UnpoolNearest,
    bilinear_kernel,
    bilinear_weight,
    interpolate,
    unpool_bed_of_nails,
    unpool_nearest,
)

__all__ = [
    "Interpolate",
    "MaxPoolWithSwitches",
    "MaxUnpool",
    "TransposedConv",
    "UnpoolBedOfNails",
    "UnpoolNearest",
    "as_direct_conv",
    "bilinear_kernel",
    "bilinear_weight",
    "conv_matrix",
    "has_uneven_overlap",
    "interpolate",
    "max_pool_with_switches",
    "max_unpool",
    "overlap_counts",
    "pack_switches",
    "transposed_conv",
    "unpack_switches",
    "unpool_bed_of_nails",
    "unpool_nearest",
]
