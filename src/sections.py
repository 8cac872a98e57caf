"""The report's sections: which tables and figures show a study. A further section takes its place in `report`.

N images, K classes.
"""

from src import findings, provenance, scaling_findings, scaling_search_chapter, scaling_sections
from src.evidence import answers
from src.findings import accuracy_figure, accuracy_rows
from src.mistakes import mistakes
from src.pages import Page
from src.scaling_results import LABELS, Study
from src.search_chapter import search_chapter
from src.training_chapter import training_chapter


def report(study: Study) -> Page:
    """The whole report."""
    accuracies = answers.accuracy_table(study.answers, list(LABELS))
    chance, commonest = 1 / len(study.answers.classes), answers.commonest_class_accuracy(study.answers)
    return Page(
        title=study.settings["report"].title,
        answer=findings.answer(accuracies, chance),
        facts=findings.facts(study),
        warnings=[
            *provenance.duplicate_warnings(study.metrics["download"]),
            *provenance.version_warnings(study.records),
        ],
        lead=[
            accuracy_figure(study, accuracies),
            findings.context(accuracies, commonest, chance),
            *filter(None, [scaling_findings.verdict(study)]),
            accuracy_rows(study, accuracies),
        ],
        sections=[
            mistakes(study),
            training_chapter(study),
            search_chapter(study),
            *([scaling_sections.ablation(study)] if study.scaling.arms else []),
            scaling_search_chapter.search(study),
            provenance.data(study),
            provenance.machine(study),
            provenance.settings(study),
        ],
    )
