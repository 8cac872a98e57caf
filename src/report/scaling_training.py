"""How the arms' training went: what each began with, whether it trained at all, and what all of them shared."""

import pandas as pd

from src.evidence.optimisation import EXPLODED, Optimisation
from src.report.numbers import count, digits, listed
from src.report.pages import Table
from src.report.study import Study

NOT_TRAINED = "did not train"


def failed(study: Study) -> list[str]:
    """The arms whose accuracy says nothing of their shape."""
    return [arm for arm, how in study.optimisations.items() if how.failed]


def failures(study: Study) -> str:
    """Which arms did not train, how that shows, and what follows; empty where all did."""
    found = study.optimisations
    arms = [arm for arm in found if found[arm].failed]
    if not arms:
        return ""
    which = "; ".join(f"{arm} {NOT_TRAINED}: {_symptom(found[arm], found.get('baseline'))}" for arm in arms)
    left_out = "It is" if len(arms) == 1 else "They are"
    return f"{which}. {left_out} left out of all comparisons: a failed optimisation says nothing of a network's shape."


def _symptom(how: Optimisation, baseline: Optimisation | None) -> str:
    if how.at_chance:
        some = "" if how.seeds == 1 else f" with {count(how.at_chance)} of {count(how.seeds)} seeds"
        return f"on validation it is not above chance{some}"
    began = "" if baseline is None else f" ({digits(how.first_norm)} against {digits(baseline.first_norm)})"
    return (
        f"its first gradient is {digits(how.times or 0)} times the baseline's{began}, and it fits even the training "
        "images worse"
    )


def conditions(study: Study) -> str:
    """What the arms shared, and whom it may have favoured."""
    return " ".join(filter(None, [_start(study), _rates(study), _interpolation(study)]))


def _start(study: Study) -> str:
    """How weights begin, of the networks that this study scales itself."""
    others = [arm for arm, found in study.scaling.metrics.items() if "depth" not in found]  # nor a width: as published
    if len(others) == len(study.scaling.arms):
        return ""
    if not study.settings["scaling"].zero_init:
        return "Weights begin as the authors' do (scaling.zero_init: false): the first gradient grows with every block."
    published = f" {listed(others)} {'begins' if len(others) == 1 else 'begin'} as published." if others else ""
    return (
        f"The last batch norm of each residual block{' of scaled networks' if others else ''} begins at 0 "
        "(scaling.zero_init), which is not the authors' initialisation: theirs lets the first gradient grow with every "
        f"block.{published}"
    )


def _rates(study: Study) -> str:
    rate, arms = study.settings["scaling"].learning_rate, study.settings["scaling_arms"]
    own = [arm for arm in study.scaling.arms if arm in arms and arms[arm].learning_rate is not None]
    shared = [arm for arm in study.scaling.arms if arm not in own]
    if not shared:
        return ""
    but = f" but {listed(own)}" if own else ""
    if rate != "auto":
        return (
            f"All arms{but} share one learning rate, {rate:g}, which was found for none of them "
            "(scaling.learning_rate: auto finds each its own)."
        )
    found = [f"{arm} {study.scaling.runs[arm].facts['learning_rate']:g}" for arm in shared]
    return f"Each arm{but} has the learning rate that a range test and validation gave it: {', '.join(found)}."


def _interpolation(study: Study) -> str:
    """ImageNet's photographs hold more pixels than any network here or there sees."""
    stored = study.settings["dataset"].image_size
    above = [arm for arm, found in study.scaling.metrics.items() if found["resolution"] > stored]
    if not above:
        return ""
    return (
        f"Images are stored at {stored} pixels a side: whatever {listed(above)} {'sees' if len(above) == 1 else 'see'} "
        "beyond that is interpolated and holds no further detail, unlike in the paper's ImageNet."
    )


def training_rows(study: Study) -> Table:
    """How each arm's training began and ended."""
    rows = [
        [
            arm,
            digits(how.first_norm),
            "" if how.times is None else digits(how.times),
            f"{how.first_loss:.3f}",
            f"{how.last_loss:.3f}",
            NOT_TRAINED if how.failed else "yes",
        ]
        for arm, how in study.optimisations.items()
    ]
    columns = ["Arm", "First gradient", "× baseline", "First loss", "Last loss", "Trained"]
    return Table(
        name="scaling_training",
        caption="How training went, means over seeds: the norm of the first step's gradient; training loss (nats) in "
        "the first and last epoch; and whether an arm trained at all. One did not where validation is not above chance "
        f"by its 95 % interval with some seed, or where it began with more than {EXPLODED:g} times the "
        "baseline's gradient and, though its network can do all that the baseline's can, fits training images worse.",
        rows=pd.DataFrame(rows, columns=columns),
    )


def marked(study: Study, arm: str) -> str | None:
    """What stands in place of a difference to the baseline: None where that difference means something."""
    lost = failed(study)
    if not {arm, "baseline"} & set(lost):
        return None
    return f"{listed([each for each in lost if each in (arm, 'baseline')])} {NOT_TRAINED}"
