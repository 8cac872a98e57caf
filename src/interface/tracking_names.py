"""What MLflow calls things: `stage/split/score`, so that its charts fold into sections. One name has one meaning.

`finetune/test/accuracy` is that of the kept epoch, `finetune/epoch/val_accuracy` one of each epoch,
`tune_head/trial/val/accuracy` that of a trial's kept epoch. `…_low` and `…_high` beside a score are its 95 % interval.
An experiment has what each stage found as `answer/finetuned`, too, under the name with which `metrics.headed` opens;
where two stages have one name, as an arm and a compared backbone, as `answer/scaling_ablation/resnet50`.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from src.base.artifacts import leaves
from src.base.proportions import wilson_interval
from src.interface import params

Row = Mapping[str, Any]
SHARES = ("accuracy", "nearest_mean", "nearest_neighbours")  # scores that are right answers over images
KINDS = ("trial", "candidate", "seed")  # of which a stage has many, and a column of a row says which it is about
ANSWERS, GAIN = "answer", "gain"
# The score that the first number of a stage's metrics repeats, where that is not as `metrics.headed` has it; "": none.
REPEATED = {"baseline": "test.nearest_neighbours", "evidence": "finetuned.coverage", "export": "", "scaling_search": ""}
ENDS = ("low", "high")  # of an interval
BY_FILE = ("skipped",)  # facts by the names of files: many, and in letters that no key of MLflow may have
LENGTH = 500  # of a text that servers of every version take
PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")  # texts that Hydra takes for such without quotes
WORDS = ("true", "false", "null", "inf", "nan")  # but for these


def numbers(values: Row, section: str, images: Mapping[str, int]) -> dict[str, float]:
    """The finite numbers among the leaves of `values`, below `section`, and the intervals of shares.

    A stage's answer is left out: it has another name below.

    Args:
        images: of each split; a score of another split, or one that no count of them gives, has no interval.
    """
    found = {key: float(x) for key, x in leaves(values) if isinstance(x, int | float) and math.isfinite(x)}
    head, _ = headline(section, values)
    found.pop(head, None)
    bounds = {name: bound for key, share in found.items() for name, bound in _interval(key, share, found, images)}
    return {_below(section, key, found): value for key, value in (found | bounds).items()}


def whole(
    metrics: Mapping[str, Row], images: Mapping[str, int], intervals: Mapping[str, tuple[float, float]]
) -> dict[str, float]:
    """The same of all stages, `metrics` by stage, with their answers.

    Args:
        intervals: low and high by name, of scores that are no shares of images.
    """
    found: dict[str, float] = {}
    answers: dict[str, dict[str, str]] = {}  # by name and stage, the score that is repeated
    for section, values in _members(metrics):
        own = numbers(values, section, images)
        own |= {f"{key}_{end}": bound for key in own for end, bound in zip(ENDS, intervals.get(key, ()), strict=False)}
        head, same = headline(section, values)
        names = {head: same} if head else {}
        if GAIN in values:
            names[GAIN] = GAIN
        for name, key in names.items():
            answers.setdefault(name, {})[_stage(section)] = _below(section, key)
        found |= own
    return _answers(answers, found) | found


def _answers(answers: Mapping[str, Mapping[str, str]], found: Mapping[str, float]) -> dict[str, float]:
    """With their intervals; the stage goes into a name that several have."""
    repeated: dict[str, float] = {}
    for name, stages in answers.items():
        for stage, of in stages.items():
            own = f"{ANSWERS}/{stage}/{name}" if len(stages) > 1 else f"{ANSWERS}/{name}"
            ends = [end for end in ("", *(f"_{end}" for end in ENDS)) if of + end in found]
            repeated |= {f"{own}{end}": found[of + end] for end in ends}
    return repeated


def headline(section: str, values: Row) -> tuple[str, str]:
    """The name of a stage's answer (`metrics.headed`), and of the score that it repeats; "" where it has none."""
    first = next(iter(values), "")
    same = REPEATED.get(_stage(section), "test.accuracy" if "test" in values else "val.accuracy")
    answer = values.get(first)
    return (first, same) if isinstance(answer, float) and dict(leaves(values)).get(same) == answer else ("", "")


def _stage(section: str) -> str:
    return section.partition("/")[0]


def _members(metrics: Mapping[str, Row]) -> Iterator[tuple[str, Row]]:
    """By section; a stage that has members, as the arms, is one for each."""
    for stage, values in metrics.items():
        family = values and all(isinstance(each, Mapping) and {"val", "test"} & {*each} for each in values.values())
        yield from ((f"{stage}/{name}", own) for name, own in values.items()) if family else [(stage, values)]


def _below(section: str, key: str, found: Row | None = None) -> str:
    """`finetune/test/accuracy`; bounds that a stage found itself are called as those found here.

    Args:
        found: all scores of the stage, of which one that stands beside bounds is what they are about.
    """
    *path, last = key.split(".")
    if last in ENDS:
        last = f"{'difference' if '.'.join((*path, 'difference')) in (found or {}) else 'accuracy'}_{last}"
    return "/".join((section, *path, last))


def _interval(key: str, share: float, found: Row, images: Mapping[str, int]) -> Iterator[tuple[str, float]]:
    split, _, score = key.rpartition(".")
    if all(f"{split}.{end}" in found for end in ENDS):
        return  # the stage's own
    count = images.get(split.rpartition(".")[2], 0)
    if score not in SHARES or f"{key}_std" in found or not count or abs(share * count - round(share * count)) > 1e-6:
        return  # a mean over seeds is no share of images
    low, high = wilson_interval(round(share * count), count)
    yield from ((f"{key}_low", low), (f"{key}_high", high))


def of_an_epoch(row: Row, section: str) -> dict[str, float]:
    """The finite numbers of a row of a curve."""
    left_out = ("epoch", *KINDS)
    kept = {key: x for key, x in row.items() if key not in left_out and isinstance(x, int | float)}
    return {f"{section}/epoch/{key}": float(x) for key, x in kept.items() if math.isfinite(x)}


def settings(cfg: params.Params) -> dict[str, str]:
    """All values of params.yaml, without those that members of families might have of their own, and have not."""
    families = tuple(f"{name}." for name, value in vars(cfg).items() if isinstance(value, dict))
    return {key: text for key, text in texts(asdict(cfg)).items() if text != "null" or not key.startswith(families)}


def texts(values: Row) -> dict[str, str]:
    """Leaves as params.yaml writes them (null, true, [0.1, 0.2]), cut to what servers of every version take."""
    found = {key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in leaves(values)}
    return {key: text[:LENGTH] for key, text in found.items()}


def kind_of(row: Row) -> tuple[str, int] | None:
    """Which of many a row is about: ("trial", 3); None where it is about the stage itself."""
    return next(((kind, int(row[kind])) for kind in KINDS if kind in row), None)


def overrides(base: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    """What `dvc exp run -S` takes to make the values `base` into `now`."""
    for key in {**base, **now}:
        path, old, new = f"{prefix}{key}", base.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from overrides(old, new, f"{path}.")
        elif key not in now:
            yield f"~{path}"
        elif key not in base:
            yield f"+{path}={written(new)}"
        elif old != new:
            yield f"{'++' if old is None else ''}{path}={written(new)}"


def written(value: Any) -> str:
    """A value of params.yaml as Hydra reads it, which `dvc exp run -S` asks."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{written(each)}" for key, each in value.items() if each is not None) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(written, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    return value if PLAIN.fullmatch(value) and value.lower() not in WORDS else _quoted(value)


def _quoted(text: str) -> str:
    """In single quotes: OmegaConf unescapes what stands before `${`, after Hydra has what stands before a quote."""
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    return "'" + re.sub(r"(\\*)('|\Z)", lambda at: 2 * at[1] + ("\\'" if at[2] else ""), literal) + "'"
