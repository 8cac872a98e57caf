"""A copy of an exported model whose products are of 8-bit integers: smaller, and on some processors faster.

N images, S x S stored pixels.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

AT_ONCE = 32  # images
PRODUCTS = ("Conv", "Gemm", "MatMul")
KEPT = 2  # convolutions: EfficientNet's stem and its first depthwise one, whose channels have the least alike ranges
CLIPPED = "Clip"  # ReLU6: with it the range of what follows ends at 6, without it at whatever comes before the clipping


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """Images in batches, as the calibration asks for them."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = (
            images[start : start + AT_ONCE] for start in range(0, len(images), AT_ONCE)
        )

    def get_next(self) -> Mapping[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}


def quantised(model: onnx.ModelProto, images: NDArray[np.uint8]) -> onnx.ModelProto:
    """`model` with its products in 8 bits, and what clips them: static ranges from `images`, weights per channel.

    Weights have 7 bits, as products of 8 by 8 overflow on processors without instructions for them (AVX2): the answers
    are to be the same everywhere. What comes before the network (pixels to its resolution) stays as it is, and so do
    its first KEPT convolutions.
    """
    first = [node.name for node in model.graph.node if node.op_type == "Conv"][:KEPT]
    alone = [*_before_the_network(model), *first]
    logging.getLogger().addFilter(_worth_saying)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "int8.onnx")
            quantize_static(
                model,
                path,
                _Images(images),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=[*PRODUCTS, CLIPPED],
                nodes_to_exclude=alone,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
            return onnx.load(path)
    finally:
        logging.getLogger().removeFilter(_worth_saying)


def _worth_saying(record: logging.LogRecord) -> bool:
    """All but advice to prepare models in ways that the exporter already did."""
    return "pre-processing before quantization" not in record.getMessage()


def _before_the_network(model: onnx.ModelProto) -> list[str]:
    """Names of the products that depend on no weight of the network: those of the resampling."""
    weights = {each.name for each in model.graph.initializer if each.name.startswith("network.")}
    touched, names = set(weights), []
    for node in model.graph.node:
        if touched.isdisjoint(node.input):
            names += [node.name] if node.op_type in PRODUCTS else []
        else:
            touched.update(node.output)
    return names
