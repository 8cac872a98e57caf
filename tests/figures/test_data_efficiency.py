"""The figure of accuracy by number of images."""

import pytest

from src.figures import data_efficiency
from tests.builders.report import by_images


@pytest.mark.parametrize("line", [[], [(10.0, 0.34), (1200.0, 0.74), (12000.0, 0.8)]], ids=["no law", "a law"])
def test_equal_rows_give_equal_bytes_with_and_without_a_law(line: list[tuple[float, float]]) -> None:
    found = by_images()
    one, two = (data_efficiency.accuracy_by_images(found.probes, found.rungs, line, 1200.0) for _ in range(2))
    assert one == two
    assert "training images" in one
    assert ("stroke-dasharray: 4.4,3.3" in one) == bool(line)
