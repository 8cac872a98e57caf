"""The card of the exported model, `reports/model_card.md`: Hugging Face's sections and header, this study's numbers.

N images, K classes.
"""

import json
from dataclasses import asdict
from typing import Any

import pandas as pd

from src.evidence import answers
from src.report import answer, exported, pages, provenance
from src.report.numbers import NARROW, count, interval, listed, percent
from src.report.pages import Page, Section, Table
from src.report.study import Study

WEAKEST = 5  # classes that are named
TERMS = "terms-of-its-weights-and-images"  # which stand in words below; a hub takes small letters and - alone
HUB = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100", "svhn": "ufldl-stanford/svhn"}  # names there
TRAINED_BY = (
    "strategy",
    "epochs",
    "batch_size",
    "optimizer",
    "schedule",
    "weight_decay",
    "label_smoothing",
    "ema_decay",
)


def card(study: Study) -> str:
    """The card as Markdown, whose header a hub reads."""
    row = exported.on_test(study)
    page = Page(
        title=f"{answer.title(study)}: the fine-tuned network",
        answer=f"Right on {interval(row)} of {count(row['images'])} test images, with its 95 % interval.",
        facts=answer.facts(study),
        warnings=[
            *provenance.duplicate_warnings(study.metrics["download"]),
            *provenance.skipped_warnings(study.records["download"]),
        ],
        lead=[],
        sections=[_details(study), _uses(study), _limits(study), _start(study), _training(study), _evaluation(study)],
    )
    return f"---\n{_header(study, row)}---\n\n{pages.as_markdown(page)}"


def _header(study: Study, row: dict[str, Any]) -> str:
    """YAML, of which JSON is a part: names of any script and with any sign stay what they are."""
    task = {"type": "image-classification", "name": "Image Classification"}
    known = HUB.get(study.settings["dataset"].name)
    metric = {"type": "accuracy", "value": round(float(row["accuracy"]), 4), "name": "accuracy on test"}
    name = study.settings["dataset"].name
    result = {"task": task, "dataset": {"type": known or name, "name": name, "split": "test"}, "metrics": [metric]}
    values = {
        "license": "other",
        "license_name": TERMS,
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "onnx", study.settings["backbone"].name],
        **({"datasets": [known]} if known else {}),
        "metrics": ["accuracy"],
        "model-index": [{"name": answer.title(study), "results": [result]}],
    }
    return "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())


def _details(study: Study) -> Section:
    backbone, features = study.settings["backbone"], study.records["extract_features"].facts
    facts = study.records["export"].facts
    side = facts["image_size"]
    kept = {name: size for name, size in facts["bytes"].items() if name != "int8" or not facts["refused"]}
    rows = {
        "Network": f"{backbone.name} with a {study.best_head['classifier']} head",
        "Began with": features.get("weights") or backbone.weights,
        "SHA-256 of these weights": features.get("weights_sha256"),
        "Input": f"RGB, uint8 (N, 3, {side}, {side}), 0 to 255, as src/images/decoding.py makes them",
        "Seen by the network": f"{study.records['finetune'].facts['resolution']} pixels a side, resized in the file",
        "Output": f"probabilities (N, {len(study.answers.classes)}), and the logits behind them",
        "Classes": listed(map(str, study.answers.classes)),
        "Sizes": ", ".join(f"{name} {size / 2**20:.1f}{NARROW}MiB" for name, size in kept.items()),
        "Terms": facts["licence"],
    }
    known = [[name, value] for name, value in rows.items() if value]
    table = Table(caption="The model.", rows=pd.DataFrame(known, columns=["Item", "Value"]), text_columns=2)
    return Section(title="Model Details", blocks=[table])


def _uses(study: Study) -> Section:
    name = answer.DATASETS.get(study.settings["dataset"].name, "the folder that it was trained on")
    meant = (
        f"It names one of {count(len(study.answers.classes))} classes for an image like those of {name}. It was made "
        "to measure how well a pretrained network transfers, and may be used where its accuracy is enough."
    )
    beyond = (
        "It answers any image with one of its classes, also one that shows none of them; its probabilities are "
        "calibrated for images like those that it was tested on, and for no others."
    )
    return Section(title="Uses", blocks=[meant, f"Out of scope: {beyond}"])


def _limits(study: Study) -> Section:
    rows = answers.accuracy_per_class(study.answers, "finetuned").sort_values("accuracy", kind="stable")
    worst = rows.head(WEAKEST)
    table = Table(
        caption=f"The {len(worst)} classes that it recognises least often on test, with 95 % intervals.",
        rows=pd.DataFrame(
            {
                "Class": worst["class"],
                "Images": worst["images"].map(count),
                "Recognised": list(map(interval, worst.to_dict("records"))),
            }
        ),
    )
    text = (
        "Who relies on single answers should look at the weakest classes, and at what they are taken for (report.md)."
    )
    return Section(title="Bias, Risks, and Limitations", blocks=[text, table])


def _start(study: Study) -> Section:
    answered = study.metrics["export"]["test"]["coverage"]
    text = (
        "python -m src.use.predict photo.jpg reads a file, a folder or a pattern and needs ONNX Runtime, NumPy and "
        "Pillow alone. Below the threshold in the model's metadata an answer is 'not sure': of the test images "
        f"{percent(answered)} are answered."
    )
    return Section(title="How to Get Started with the Model", blocks=[text])


def _training(study: Study) -> Section:
    download, values = study.metrics["download"], asdict(study.settings["finetune"])
    data = (
        f"{count(download['train']['images'])} images trained it, {count(download['val']['images'])} of validation "
        f"chose its head, its epoch ({study.metrics['finetune']['best_epoch']}), its temperature and its threshold."
    )
    settings = ", ".join(f"{name.replace('_', ' ')} {values[name]}" for name in TRAINED_BY)
    commands = (
        "The commands: dvc repro export makes it again from params.yaml as it stands in reports/report.md under "
        "Settings; dvc repro, with the report."
    )
    blocks = [data, provenance.own_split(study), f"Fine-tuning: lr {study.settings['lr']:g}, {settings}.", commands]
    return Section(title="Training Details", blocks=[block for block in blocks if block])


def _evaluation(study: Study) -> Section:
    return Section(title="Evaluation", blocks=exported.chapter(study).blocks)
