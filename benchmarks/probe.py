"""The linear probe's whole path of penalties against scikit-learn's LogisticRegression, fit by fit.

Both minimise the same objective on the same standardised float32 features, from random clouds as wide as
EfficientNet-Lite0's features. Ours goes from one penalty to the next and ends at its own, tighter tolerance;
scikit-learn begins anew for each, at its default one.

`python -m benchmarks.probe`
"""

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from benchmarks import timing
from src.interface import params
from src.transfer.probe import Scale, fit_path

IMAGES, WIDTH, CLASSES = 5_000, 1_280, 10
SPREAD = 12.0  # of a class about its centre: classes overlap, as those of real features do


def clouds() -> tuple[Tensor, Tensor]:
    """Features (IMAGES, WIDTH) and their labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(IMAGES) % CLASSES
    centres = torch.randn(CLASSES, WIDTH, generator=generator)
    found = centres[labels] + SPREAD * torch.randn(IMAGES, WIDTH, generator=generator)
    return Scale.of(found).applied(found), labels


def main() -> None:
    print(timing.machine())
    features, labels = clouds()
    penalties = params.load().comparison.penalties

    def ours() -> None:
        for fit in fit_path(features, labels, penalties, classes=CLASSES):
            assert fit.converged

    def theirs() -> None:
        for penalty in penalties:
            LogisticRegression(C=1 / (penalty * IMAGES), max_iter=10_000).fit(features.numpy(), labels.numpy())

    seconds = timing.interleaved({"ours": ours, "scikit-learn": theirs})
    title = f"linear probe, {IMAGES} images, {WIDTH} features, {CLASSES} classes, {len(penalties)} penalties"
    timing.report(title, seconds, {("ours", "scikit-learn"): 1.0}, images=IMAGES * len(penalties))


if __name__ == "__main__":
    main()
