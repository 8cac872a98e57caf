"""The model behind MLflow's server: images in base64 in, what `predict --json` says of them out.

`python -m src.use.register` puts this file, what it imports and the model into the registry. It needs MLflow, ONNX
Runtime, NumPy and Pillow (requirements-serve.txt), no torch.
"""

import base64
import binascii
import threading
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel
from numpy.typing import NDArray
from pandas import DataFrame

from src.images.decoding import BadImageError, decode_image
from src.use import answering
from src.use.answers import COLUMN, NEVER, answer, values

MAX_BYTES = 20 * 2**20  # of a file; the command line takes larger ones
AT_ONCE = 2  # images that are decoded at a time, each within 1 GiB (decoding.MAX_MEMORY)


class Served(PythonModel):
    """Rows with a column `image`, base64 of a file -> for each {"answer": class or null, "top": [...]}, in their order.

    A row that is no image makes the whole request an error that names it: status 400 over HTTP.
    """

    def load_context(self, context: Any) -> None:
        self.model = answering.load(context.artifacts["model"])
        self.turns = threading.Semaphore(AT_ONCE)

    def predict(
        self, context: Any, model_input: DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, object]]:
        top, threshold = _asked(params or {})
        decoded = [self._pixels(row, text) for row, text in enumerate(model_input[COLUMN])]
        named = min(top, len(self.model.classes))
        return [values(answer(self.model, "", each, top=named, threshold=threshold)) for each in decoded]

    def _pixels(self, row: int, text: object) -> NDArray[np.uint8]:
        """Of the file that `text` is: base64, alone or as a data: URL."""
        if not isinstance(text, str):
            _refuse(f"image {row}: {type(text).__name__} is no text; allowed: a file in base64")
        if len(text) > MAX_BYTES * 4 // 3 + 100:
            _refuse(f"image {row}: more than {MAX_BYTES >> 20} MiB")
        content = text.partition(",")[2] if text.startswith("data:") else text
        try:
            file = base64.b64decode("".join(content.split()), validate=True)
        except (binascii.Error, ValueError):
            _refuse(f"image {row}: no base64; allowed: a JPEG, PNG, WEBP or BMP file in base64")
        if not file:
            _refuse(f"image {row}: is empty")
        try:
            with self.turns:
                return decode_image(file, self.model.size)
        except BadImageError as error:
            _refuse(f"image {row}: {error}")


def _asked(params: Mapping[str, Any]) -> tuple[int, float]:
    top, threshold = int(params["top"]), float(params["threshold"])
    if top < 1:
        _refuse(f"top: {top}; allowed: 1 or more classes")
    if not (0 <= threshold <= 1 or threshold == NEVER):
        _refuse(f"threshold: {threshold:g}; allowed: a probability, 0 to 1")
    return top, threshold


def _refuse(why: str) -> NoReturn:
    raise MlflowException(why, error_code=INVALID_PARAMETER_VALUE)


set_model(Served())
