"""The chapter on how many images it takes: a linear probe by the number of training images, and a law of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pandas as pd

from src.evidence import power_law
from src.evidence.power_law import Foretold, PowerLaw
from src.figures import data_efficiency as figures
from src.figures.style import both
from src.report import class_sizes
from src.report.numbers import MINUS, count, interval, percent, points
from src.report.pages import Figure, Section, Table
from src.report.study import Study

TIMES = 10.0  # as many images, that the sentence speaks of
LAST = 5  # rungs that the law is fitted to: with very few images, error falls otherwise (Hestness et al., 1712.00409)
POINTS = 60  # of the law's line


@dataclass(frozen=True)
class _Fitted:
    """The law of a study's rungs, None where there are too few or where more images do not help."""

    rungs: pd.DataFrame

    @cached_property
    def law(self) -> PowerLaw | None:
        first, last = self.used["accuracy"].iloc[[0, -1]]
        return power_law.fit(*self._values(self.used)) if last > first else None

    @property
    def used(self) -> pd.DataFrame:
        """The rungs that the law is fitted to."""
        return self.rungs.iloc[-LAST:]

    @property
    def most(self) -> float:
        return float(self.rungs["images"].iloc[-1])

    def gain(self) -> tuple[float, float]:
        """The interval of what TIMES as many images bring, by the law."""
        return power_law.interval(*self._values(self.used), lambda law: law.gain(self.most, TIMES), seed=0)

    def foretold(self) -> Foretold | None:
        """What the rungs before the last say of it; None where these are too few for a floor."""
        rungs = self.rungs.iloc[-LAST - 1 :]
        if self.law is None or len(rungs) <= power_law.WITH_FLOOR:
            return None
        return power_law.foretold(*self._values(rungs), seed=0)

    @staticmethod
    def _values(rungs: pd.DataFrame) -> tuple[Any, Any, Any]:
        images, accuracy, spread = (rungs[name].to_numpy(dtype=float) for name in ("images", "accuracy", "spread"))
        return images, 1 - accuracy, spread


def chapter(study: Study) -> Section:
    """The answer, the curve and its numbers."""
    fitted = _Fitted(study.data_efficiency.rungs)
    blocks: list[str | Figure | Table] = [answer(study), *class_sizes.lacking(study), *_check(fitted)]
    blocks += [_figure(study, fitted), _rows(study)]
    return Section(title="How many images?", blocks=blocks)


def answer(study: Study) -> str:
    """What few images and all of them reach, and what ten times as many would bring."""
    fitted, rungs = _Fitted(study.data_efficiency.rungs), study.data_efficiency.rungs.to_dict("records")
    first, last = rungs[0], rungs[-1]
    text = f"A linear probe on frozen features reaches {interval(last)} with all {count(round(last['images']))} images"
    if len(rungs) > 1:
        text += f", and {interval(first)} with {_a_class(first)}"
    if fitted.law is None:
        best = max(rungs, key=lambda rung: rung["accuracy"])  # the first of these
        return f"{text}." + (f" From {_a_class(best)} on, more did not help." if len(rungs) > 1 else "")
    gain, (low, high) = fitted.law.gain(fitted.most, TIMES), fitted.gain()
    return (
        f"{text}. Ten times the images: about {points(gain)} points [{points(low)}, {points(high)}], by a power law "
        f"that is fitted to the last {len(fitted.used)} of these numbers and carried on beyond them."
    )


def _a_class(row: Mapping[Any, Any]) -> str:
    each = row["per_class"]
    return f"{each:.0f} a class" if each == round(each) else f"{count(round(row['images']))} images"


def _check(fitted: _Fitted) -> list[str]:
    """How well the law foretells the last rung from the others, which is all that vouches for the next."""
    found, law = fitted.foretold(), fitted.law
    if found is None or law is None:
        return []
    expected = interval({"accuracy": 1 - found.error, "low": 1 - found.high, "high": 1 - found.low})
    reached = percent(float(fitted.rungs["accuracy"].iloc[-1]))
    floor = f"{100 * law.floor:.1f}" if law.floor else "0"
    missed = f"{points(found.missed)} points [{points(found.missed_low)}, {points(found.missed_high)}]"
    verdict = "does not contradict" if found.agrees else "contradicts"
    return [
        f"Error falls as {floor} + {100 * law.scale:.3g} × images^({MINUS}{law.exponent:.2f}), in per cent. Fitted "
        f"without all images, the law foretells {expected} for them. {reached} were reached, a difference of {missed}: "
        f"this {verdict} the law. Whether error goes on to fall so, nothing here can say."
    ]


def _figure(study: Study, fitted: _Fitted) -> Figure:
    law, rungs = fitted.law, study.data_efficiency.rungs
    first = float(fitted.used["images"].iloc[0])
    line = []
    if law is not None:
        steps = [first * (TIMES * fitted.most / first) ** (place / POINTS) for place in range(POINTS + 1)]
        line = [(images, 1 - law.error(images)) for images in sorted([*steps, fitted.most])]
    said = "; ".join(f"{count(round(row['images']))}: {interval(row)}" for row in rungs.to_dict("records"))
    return Figure(
        name="data_efficiency",
        **both(partial(figures.accuracy_by_images, study.data_efficiency.probes, rungs, line, fitted.most)),
        alt=f"Test accuracy by number of training images. {said}.",
        caption="Test accuracy of a linear probe by the number of training images: each draw (grey), means with 95 % "
        "intervals over draws and test images, and the power law, dashed where nothing was measured.",
    )


def _rows(study: Study) -> Table:
    penalties = study.data_efficiency.probes.groupby("images")["penalty"].agg(
        lambda found: math.exp(found.map(math.log).mean())
    )
    rows = [
        [
            _number(row["per_class"]),
            count(round(row["images"])),
            count(int(row["draws"])),
            interval(row),
            f"{penalties.iloc[place]:.2g}",
        ]
        for place, row in enumerate(study.data_efficiency.rungs.to_dict("records"))
    ]
    columns = ["Images a class", "Images", "Draws", "Test accuracy", "Penalty"]
    return Table(
        name="data_efficiency",
        caption="A linear probe on the clean features of so many training images, as many of each class as it has. "
        "Validation, all of it, chose each penalty; shown is their geometric mean.",
        rows=pd.DataFrame(rows, columns=columns),
        text_columns=0,
    )


def _number(value: float) -> str:
    return count(round(value)) if value == round(value) else f"{value:.1f}"
