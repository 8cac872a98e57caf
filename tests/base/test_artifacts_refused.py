"""Files that hold no tensors, or more than tensors, are refused in one line that says what to do."""

import io
import os
import pickle
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.base import artifacts


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("trap-was-run",)


MODEL = torch.nn.Linear(2, 2)
REFUSED = {
    "code": ({"weights": Trap()}, "posix.mkdir"),
    "a whole model": (MODEL, "torch.nn.modules.linear.Linear"),
    "settings beside the weights": ({"state": MODEL.state_dict(), "args": Namespace(lr=1)}, "argparse.Namespace"),
    "a number of NumPy": ({"state": MODEL.state_dict(), "best": np.float64(0.5)}, r"numpy\S+multiarray.scalar"),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_is_no_tensor_is_refused_by_name_in_one_line_that_says_how_to_save(
    what: str, zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's own message has escape codes, and advises to read the file without this protection."""
    monkeypatch.chdir(tmp_path)
    content, thing = REFUSED[what]
    torch.save(content, tmp_path / "trap.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=rf"trap.pt holds {thing}, which is no tensor") as caught:
        artifacts.load(tmp_path / "trap.pt")
    assert "allowed: names and tensors, as torch.save(model.state_dict(), ...) writes them" in str(caught.value)
    assert str(caught.value).isprintable()
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "trap-was-run").exists()


@given(kind=st.sampled_from(["bytes", "zip", "legacy", "pickle"]), data=st.data())
def test_bytes_that_torch_did_not_write_are_one_line_whatever_they_are(kind: str, data: st.DataObject) -> None:
    buffer = io.BytesIO()
    torch.save(
        {"weight": torch.ones(2, 3), "classes": ("a", "b")}, buffer, _use_new_zipfile_serialization=kind == "zip"
    )
    content = bytearray(pickle.dumps([1, {"a": 2.0}], protocol=4) if kind == "pickle" else buffer.getvalue())
    if kind == "bytes":
        content = bytearray(data.draw(st.binary(max_size=60)))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)) if content else []:
        content[place] = data.draw(st.integers(0, 255))
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        file.write(content[: data.draw(st.integers(0, len(content)))])
        file.flush()
        try:
            artifacts.load(file.name)
        except ValueError as error:
            said = str(error)
            assert said.startswith(file.name)
            assert len(said.splitlines()) == 1
            assert "weights_only" not in said
