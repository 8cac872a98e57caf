"""What a comparison of experiments says, in sentences and rows of text that claim no more than its intervals bear."""

from collections.abc import Sequence

from src.report.comparison import Pairing, Row
from src.report.numbers import MINUS, count, digits, listed, percent, points
from src.report.sides import Side, kind
from src.report.study import LABELS

OF_STAGE = {"train_frozen": LABELS["frozen"], "finetune": LABELS["finetuned"]}
GAIN = "gain"  # a difference itself
SHARES = ("accuracy", "test_accuracy", "val_accuracy", "balanced_accuracy", "neighbours", GAIN, *LABELS)  # fractions
SEEDS = "seeds"


def images(number: int) -> str:
    return f"{count(number)} test image{'' if number == 1 else 's'}"


def answer(pairings: Sequence[Pairing]) -> str:
    """Did it help, by how much, how sure is that; a sentence for each other side."""
    return " ".join(sentence(pairing) for pairing in pairings)


def sentence(pairing: Pairing) -> str:
    first, second, row = pairing.first.label, pairing.second.label, pairing.main
    if row is None:
        return f"{second} against {first}: {_without_a_test(pairing)}."
    change = row.change
    values = f"{percent(change.second)} against {percent(change.first)} on test ({of_what(row)})"
    if not change.settled:
        verdict = f"{second} cannot be told apart from {first}: {values}"
    else:
        verdict = f"{second} is {'better' if change.difference > 0 else 'worse'} than {first}: {values}"
    return f"{verdict}, {bounds(row)} points, p {equals(change.p_value)}."


def _without_a_test(pairing: Pairing) -> str:
    stages = dict.fromkeys(each.stage for each in pairing.rows)
    if stages:
        return f"metrics of {listed(stages)} differ, and no interval says how sure that is"
    if not pairing.uncompared:
        return "no metric differs"
    lacking = f"{listed(pairing.uncompared)} could not be compared"
    return f"no metric that both have differs, and {lacking}" if pairing.equal else f"{lacking}, nor anything else"


def sureness(pairing: Pairing) -> str:
    """What the interval of the answer covers, and what it does not."""
    row = pairing.main
    if row is None:
        return ""
    if row.change.over == SEEDS:
        return (
            "Over seeds: the interval is Student's t, and covers the luck in training on these test images, not which "
            "images were drawn."
        )
    lost, gained = row.change.alone or (0, 0)
    return (
        f"{pairing.second.name} alone names {images(gained)} right, {pairing.first.name} alone "
        f"{count(lost)}. The interval is paired by image: it covers which images were drawn, not the luck of another "
        "seed, which only more seeds show."
    )


def of_what(row: Row) -> str:
    """What a row is about, in words for people."""
    family, _, member = row.stage.partition("@")
    name = OF_STAGE.get(family, "") or LABELS.get(row.score, "") or family
    if family == "compare_backbones":
        name = f"backbone {member}{', neighbours' * (row.score == 'neighbours')}"
    if family == "scaling_ablation":
        name = f"arm {member}"
    return name[0].lower() + name[1:]


def bounds(row: Row) -> str:
    """The difference with its interval, in points where it is one of fractions."""
    change = row.change
    if kind(row.leaf) == "accuracy" and row.score in SHARES:
        ends = "" if change.low is None else f" [{points(change.low)}, {points(change.high or 0.0)}]"
        return f"{points(change.difference)}{ends}"
    ends = "" if change.low is None else f" [{signed(change.low)}, {signed(change.high or 0.0)}]"
    return f"{signed(change.difference)}{ends}"


def both(row: Row) -> tuple[str, str]:
    """The metric on both sides."""
    return value(row, row.change.first), value(row, row.change.second)


def value(row: Row, number: float) -> str:
    if row.score == GAIN:
        return points(number)
    if row.score in SHARES:
        return percent(number)
    return count(round(number)) if number == round(number) else digits(number)


def signed(number: float) -> str:
    if number == round(number):
        return f"{'+' if number > 0 else MINUS if number < 0 else ''}{count(abs(round(number)))}"
    return f"{number:+.3f}".replace("-", MINUS)


def p_value(p: float | None) -> str:
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def equals(p: float | None) -> str:
    """`= 0.03` or `< 0.001`."""
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def short(row: Row) -> str:
    """`finetune test.accuracy`, as DVC names it."""
    return f"{row.stage} {row.leaf}"


def people(sides: Sequence[Side]) -> str:
    """Which experiments are compared."""
    return listed(side.label for side in sides)
