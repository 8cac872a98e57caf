"""The report's sections: which tables and figures show a study. A further section takes its place in `report`.

N images, K classes.
"""

from dataclasses import replace

import pandas as pd

from src.evidence import answers, questions
from src.report import (
    answer,
    audit,
    backbones,
    certainty,
    class_sizes,
    cost,
    data_efficiency,
    exported,
    provenance,
    scaling,
    scaling_search,
    scaling_verdict,
)
from src.report.answer import accuracy_figure, accuracy_rows
from src.report.head_search import search_chapter
from src.report.mistakes import mistakes
from src.report.pages import Page, Section
from src.report.study import LABELS, Study
from src.report.training import training_chapter


def report(study: Study) -> Page:
    """The whole report."""
    accuracies = answers.accuracy_table(study.answers, list(LABELS))
    chance, commonest = 1 / len(study.answers.classes), answers.commonest_class_accuracy(study.answers)
    return Page(
        title=answer.title(study),
        answer=answer.answer(accuracies, study.assessed.over_seeds, chance),
        facts=answer.facts(study),
        warnings=[
            *provenance.duplicate_warnings(study.metrics["download"]),
            *provenance.skipped_warnings(study.records["download"]),
            *provenance.version_warnings(study.records),
        ],
        lead=[
            *class_sizes.in_front(study),
            *_scaling_line(study),
            cost.answer(study, accuracies),
            accuracy_figure(study, accuracies),
        ],
        sections=[
            mistakes(study),
            _sure(study, accuracies, commonest, chance),
            provenance.data(study),
            audit.chapter(study),
            *([backbones.chapter(study)] if study.compared.keys else []),
            cost.chapter(study, accuracies),
            exported.chapter(study),
            data_efficiency.chapter(study),
            *([scaling.ablation(study)] if study.scaling.arms else []),
            *([scaling_search.search(study)] if study.scaling.arms or scaling_search.any_trained(study) else []),
            training_chapter(study),
            search_chapter(study),
            provenance.machine(study),
            provenance.settings(study),
        ],
    )


def _scaling_line(study: Study) -> list[str]:
    verdict = scaling_verdict.verdict(study)
    return [f"{verdict} Under which conditions that holds, the chapter says."] if verdict else []


def _sure(study: Study, accuracies: pd.DataFrame, commonest: float, chance: float) -> Section:
    """How the methods were told apart, their accuracies, and how far each answer can be believed."""
    found = certainty.chapter(study)
    told = answer.how_told(study.assessed.difference(*questions.MAIN), study.assessed.over_seeds["difference"])
    without = answer.context(accuracies, study.assessed.differences, commonest, chance)
    return replace(found, blocks=[told, without, accuracy_rows(study, accuracies), *found.blocks])
