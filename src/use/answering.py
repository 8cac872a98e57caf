"""An exported model in ONNX Runtime: stored images -> probabilities. Needs neither torch nor anything of a study.

N images, S x S stored pixels, K classes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as problems

PROBABILITIES, LOGITS = "probabilities", "logits"
MADE_BY = "allowed: a file that `dvc repro export` made"
_NO_MODEL = (
    *(problems.InvalidProtobuf, problems.InvalidGraph, problems.Fail, problems.NoSuchFile, problems.NoModel),
    *(problems.InvalidArgument, problems.NotImplemented, problems.RuntimeException),
)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model that is ready to answer.

    Attributes:
        session: images uint8 (N, 3, S, S) -> probabilities float32 (N, K), and the logits behind them, any N.
        classes: the K names.
        size: S.
        threshold: probability from which on an answer is sure enough to be given; None where none is.
        metadata: all that the file says of itself.
    """

    session: Any
    classes: tuple[str, ...]
    size: int
    threshold: float | None
    metadata: Mapping[str, str]

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Calibrated, of shape (N, K), of images (N, 3, S, S)."""
        found: NDArray[np.float32] = self.session.run([PROBABILITIES], {"images": images})[0]
        return found

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Whose softmax the probabilities are, of shape (N, K)."""
        found: NDArray[np.float32] = self.session.run([LOGITS], {"images": images})[0]
        return found


def load(model: str | Path | bytes, *, threads: int = 0) -> Model:
    """A model from its file, or from what such a file holds; `threads` 0 is one for each core.

    Raises:
        ValueError: there is no such file, or it is no model of this project's.
    """
    name = "the model" if isinstance(model, bytes) else str(model)
    if not isinstance(model, bytes) and not Path(model).is_file():
        raise ValueError(f"{name} does not exist; {MADE_BY}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors alone, which are raised
    try:
        content = model if isinstance(model, bytes) else str(model)
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except _NO_MODEL as error:
        raise ValueError(f"{name} is no ONNX model: {' '.join(str(error).split())[:200]}; {MADE_BY}") from None
    stated = session.get_modelmeta().custom_metadata_map
    if missing := [key for key in ("classes", "image_size", "threshold") if key not in stated]:
        raise ValueError(f"{name} does not say its {', '.join(missing)}; {MADE_BY}")
    return Model(
        session=session,
        classes=tuple(json.loads(stated["classes"])),
        size=int(stated["image_size"]),
        threshold=json.loads(stated["threshold"]),
        metadata=stated,
    )
