"""Experiments side by side: every metric that differs, how sure that is, and which images it is about. N images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.base.artifacts import leaves
from src.evidence import changes
from src.evidence.changes import Change, Sides
from src.report.experiments import Experiment, why_not_paired
from src.report.numbers import listed
from src.report.sides import Side, kind, method_of

# The orders in which a change is looked for that the answer is about: by what a stage is for, then by stage.
HEADS = ("test.accuracy", "test.nearest_neighbours")
FIRST = ("finetune", "train_frozen", "compare_backbones", "scaling_ablation", "baseline")
BOUNDS = ("low", "high", "accuracy_std", "untrained_std")  # that say how sure another number is


@dataclass(frozen=True, kw_only=True)
class Row:
    """A metric that differs: its stage, its name in metrics/<stage>.json, and what became of it."""

    stage: str
    leaf: str
    change: Change

    @property
    def split(self) -> str:
        return self.leaf.partition(".")[0]

    @property
    def family(self) -> str:
        """Its stage, of families without the member."""
        return self.stage.partition("@")[0]

    @property
    def tested(self) -> bool:
        """Whether it is an accuracy on test with an interval."""
        return self.split == "test" and kind(self.leaf) == "accuracy" and bool(self.change.over)

    @property
    def score(self) -> str:
        return self.leaf.rpartition(".")[2]


@dataclass(frozen=True, kw_only=True)
class Flips:
    """The test images that one side, mostly, names right and the other, mostly, does not, by `method` of `stage`.

    Attributes:
        gained, lost: rows of data/images/test.pt that only the second, and only the first side names right; those
            first of which the loss changed most.
        actual: class (N,).
        named: class that each side named, mostly, (2, N).
    """

    stage: str
    method: str
    gained: Sequence[int]
    lost: Sequence[int]
    actual: NDArray[np.int64]
    named: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """The first side of a comparison and another.

    Attributes:
        rows: metrics that differ, by stage.
        equal: how many do not.
        main: the row that the answer is about; None where no accuracy on test changed that can be judged.
        refused: what could not be compared, and why, a line each.
        uncompared: stages that one side lacks, or whose metrics it lacks.
    """

    first: Side
    second: Side
    rows: Sequence[Row]
    equal: int
    main: Row | None
    flips: Flips | None
    refused: Sequence[str]
    uncompared: Sequence[str]

    @property
    def tested(self) -> list[Row]:
        """Accuracies on test with an interval."""
        return [row for row in self.rows if row.tested]


def compare(sides: Sequence[Side]) -> list[Pairing]:
    """The first of `sides` with each other; p-values and intervals on test are corrected for all that were tested."""
    drafts = [_Draft(sides[0], other) for other in sides[1:]]
    tests = {
        (i, *key): own for i, draft in enumerate(drafts) for key, own in draft.tests.items() if key[1][:4] == "test"
    }
    settled = changes.settle({key: own for key, own in tests.items() if kind(key[2]) == "accuracy"})
    return [
        draft.finished({key[1:]: change for key, change in settled.items() if key[0] == i})
        for i, draft in enumerate(drafts)
    ]


class _Draft:
    """A pairing before the correction for many tests."""

    def __init__(self, first: Side, second: Side) -> None:
        self.first, self.second = first, second
        self.uncompared: dict[str, None] = {}
        self.refused: list[str] = [*self._missing(), *self._unread()]
        self.splits = {split: why_not_paired(first.head, second.head, split) for split in ("train", "val", "test")}
        self.refused += self._unpaired()
        self.tests: dict[tuple[str, str], Sides] = {}
        self.plain: dict[tuple[str, str], Change] = {}
        self.equal = 0
        for stage in (stage for stage in first.head.metrics if stage in second.head.metrics):
            self._stage(stage)

    def _missing(self) -> Iterator[str]:
        for one, other in ((self.first, self.second), (self.second, self.first)):
            lacking = [stage for stage in other.head.lock if stage not in one.head.lock]
            self.uncompared |= dict.fromkeys(lacking)
            if lacking:
                yield f"{one.name} has no {listed(lacking)}, which {other.name} has: not compared"

    def _unread(self) -> Iterator[str]:
        for each in (*self.first.members, *self.second.members):
            self.uncompared |= dict.fromkeys(each.unread)
            if each.unread:
                yield (
                    f"{each.name}: its dvc.lock has metrics of {listed(each.unread)} that are not there: not compared; "
                    "`git add dvc.lock metrics` before a commit keeps both"
                )

    def _unpaired(self) -> Iterator[str]:
        names = listed((self.first.name, self.second.name))
        why: dict[str, list[str]] = {}
        for split, reason in self.splits.items():
            if reason:
                why.setdefault(reason, []).append(split)
        for reason, splits in why.items():
            yield f"{names} have {reason} in {listed(splits)}: numbers alone, no interval, no images there"

    def _stage(self, stage: str) -> None:
        for leaf in self._leaves(stage):
            one, other = (side.metric(stage, leaf) for side in (self.first, self.second))
            if one is None or other is None:
                continue
            if one == other and (kind(leaf) == "loss" or self._same_answers(stage, leaf)):
                self.equal += 1
                continue
            runs = self._runs(stage, leaf)
            if runs:
                self.tests[stage, leaf] = runs
            elif one == other:
                self.equal += 1
            else:
                self.plain[stage, leaf] = Change(first=one, second=other)

    def _same_answers(self, stage: str, leaf: str) -> bool:
        """Whether both sides named the same class for each image."""
        path = f"data/predictions/{stage.replace('@', '/')}.pt"
        if len({each.outputs(stage).get(path) for side in (self.first, self.second) for each in side.members}) == 1:
            return True
        if self.splits.get(leaf.partition(".")[0], "no split"):
            return False
        one, other = (side.named(stage, leaf) for side in (self.first, self.second))
        return bool(one) and one == other

    def _leaves(self, stage: str) -> list[str]:
        """Names of metrics, without bounds of others and what stands there twice."""
        own = {name: x for name, x in leaves(self.first.head.metrics[stage]) if isinstance(x, int | float)}
        below = {value for name, value in own.items() if "." in name}
        return [
            name
            for name, value in own.items()
            if name.rpartition(".")[2] not in BOUNDS and ("." in name or isinstance(value, int) or value not in below)
        ]

    def _runs(self, stage: str, leaf: str) -> Sides | None:
        if self.splits.get(leaf.partition(".")[0], "no split"):
            return None
        one, other = (side.scored(stage, leaf) for side in (self.first, self.second))
        if not one or not other:
            self._not_stored(stage)
            return None
        return Sides(first=one, second=other, score=kind(leaf))

    def _not_stored(self, stage: str) -> None:
        for each in (*self.first.members, *self.second.members):
            path = f"data/predictions/{stage.replace('@', '/')}.pt"
            if path in each.outputs(stage) and each.predictions(stage) is None:
                line = f"{each.name}: {path} is in no cache, so {stage} has no interval; `dvc pull` may bring it"
                self.refused += [line] * (line not in self.refused)

    def finished(self, settled: Mapping[tuple[str, str], Change]) -> Pairing:
        found = {key: settled.get(key) or runs.change() for key, runs in self.tests.items()}
        known = self.plain | found
        order = list(self.first.head.metrics)
        rows = [
            Row(stage=s, leaf=leaf, change=known[s, leaf])
            for s, leaf in sorted(known, key=lambda key: order.index(key[0]))
        ]
        main = _main(rows)
        return Pairing(
            first=self.first,
            second=self.second,
            rows=rows,
            equal=self.equal,
            main=main,
            flips=flips(self.first, self.second, main) if main else None,
            refused=self.refused,
            uncompared=list(self.uncompared),
        )


def _main(rows: Sequence[Row]) -> Row | None:
    """The row that the answer is about, of accuracies on test with an interval: the first of HEADS, then of FIRST."""
    tested = [row for row in rows if row.tested]
    return min(tested, key=lambda row: (_place(row.leaf, HEADS), _place(row.family, FIRST)), default=None)


def _place(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def flips(first: Side, second: Side, row: Row) -> Flips:
    """Which test images changed sides, by the method that `row` is about."""
    method = method_of(row.stage, row.leaf)
    both = [side.logits(row.stage, method, "test") for side in (first, second)]
    actual = next(iter(both[0].values()))[1]
    runs = [[changes.scored(logits, labels) for logits, labels in own.values()] for own in both]
    right = [np.mean([run.right for run in own], axis=0) > 0.5 for own in runs]
    costs = [np.mean([run.losses for run in own], axis=0) for own in runs]
    eased = costs[0] - costs[1]
    gained, lost = (np.flatnonzero(own) for own in (right[1] & ~right[0], right[0] & ~right[1]))
    return Flips(
        stage=row.stage,
        method=method,
        gained=gained[np.argsort(-eased[gained], kind="stable")].tolist(),
        lost=lost[np.argsort(eased[lost], kind="stable")].tolist(),
        actual=actual,
        named=np.stack([_mostly(own) for own in both]),
    )


def _mostly(own: Mapping[int, tuple[NDArray[Any], NDArray[np.int64]]]) -> NDArray[np.int64]:
    """The class that most trainings named, of equals the first, (N,)."""
    named = np.stack([logits.argmax(axis=1) for logits, _ in own.values()])
    classes = next(iter(own.values()))[0].shape[1]
    votes = np.apply_along_axis(np.bincount, 0, named, minlength=classes)
    most: NDArray[np.int64] = votes.argmax(axis=0)
    return most


def refusals(experiments: Sequence[Experiment]) -> list[str]:
    """Stages of all pipelines that have run nowhere, in one line."""
    nowhere = [stage for stage in experiments[0].missing if all(stage in each.missing for each in experiments)]
    return [f"{listed(nowhere)} ran nowhere: not compared"] if nowhere else []
