"""What the study asks of its methods: the pairs, their correction, and the CSV that holds them."""

import numpy as np
import pandas as pd
import pytest
import torch

from src.evidence import paired, questions


def right(images: int = 400) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    shares = {"untrained": 0.1, "nearest_mean": 0.7, "nearest_neighbours": 0.72, "frozen": 0.8, "finetuned": 0.85}
    return {name: generator.random(images) < share for name, share in shares.items()}


def test_the_main_question_is_asked_alone_and_the_two_beside_it_share_one_level() -> None:
    found = questions.differences(right())
    assert [(each.first, each.second) for each in found] == [questions.MAIN, *questions.BESIDE]
    raw = [paired.mcnemar(*each.alone) for each in found]
    assert found[0].p_value == raw[0]
    assert sorted(each.p_value for each in found[1:]) == pytest.approx(
        [min(1, 2 * min(raw[1:])), max(min(1, 2 * min(raw[1:])), max(raw[1:]))]
    )


def test_a_csv_holds_them_whole(tmp_path) -> None:
    found = questions.differences(right())
    path = tmp_path / "differences.csv"
    pd.DataFrame(questions.as_rows(found)).to_csv(path, index=False)
    assert questions.from_rows(pd.read_csv(path)) == found


def test_who_is_right_is_counted_on_test_alone() -> None:
    file = {
        "split": torch.tensor([0, 1, 2, 2, 2]),
        "label": torch.tensor([0, 0, 0, 1, 1]),
        "logits": {"a": torch.eye(2)[[1, 1, 0, 0, 1]]},
    }
    assert questions.right_on_test(file)["a"].tolist() == [True, False, True]
