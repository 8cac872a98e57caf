"""The report's sections: which tables and figures show a study. A further section takes its place in `report`.

N images, K classes.
"""

from src.evidence import answers, questions
from src.report import (
    answer,
    backbones,
    certainty,
    provenance,
    scaling,
    scaling_search,
    scaling_training,
    scaling_verdict,
)
from src.report.answer import accuracy_figure, accuracy_rows
from src.report.head_search import search_chapter
from src.report.mistakes import mistakes
from src.report.pages import Page
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
            accuracy_figure(study, accuracies),
            answer.how_told(study.assessed.difference(*questions.MAIN), study.assessed.over_seeds["difference"]),
            answer.context(accuracies, study.assessed.differences, commonest, chance),
            *([backbones.answer(study)] if study.compared.keys else []),
            *_scaling_lead(study),
            accuracy_rows(study, accuracies),
        ],
        sections=[
            *([backbones.chapter(study)] if study.compared.keys else []),
            mistakes(study),
            certainty.chapter(study),
            training_chapter(study),
            search_chapter(study),
            *([scaling.ablation(study)] if study.scaling.arms else []),
            scaling_search.search(study),
            provenance.data(study),
            provenance.machine(study),
            provenance.settings(study),
        ],
    )


def _scaling_lead(study: Study) -> list[str]:
    """The verdict, and beside it under what conditions it holds."""
    verdict = scaling_verdict.verdict(study)
    return [verdict, scaling_training.conditions(study)] if verdict else []
