"""Write the fine-tuned network as ONNX, checked on real images.  `python -m stages.export`

A copy in 8 bits lies beside it where it loses no more accuracy than `export.int8_tolerance` allows.
"""

from dataclasses import replace
from pathlib import Path

import torch

from src.base import artifacts, devices
from src.base.splits import load_split
from src.base.stage_records import Recorder
from src.interface import console, params, tracking
from src.models import backbones
from src.models.heads import Head
from src.use import answering, eight_bits, exporting, judging, licences, timing, verifying
from stages import given

IMAGES = {"train": "data/images/train.pt", "val": "data/images/val.pt", "test": "data/images/test.pt"}
HEAD, WEIGHTS = "models/best_head.json", "models/finetuned.pt"
MODEL, INT8, VERDICT = "models/finetuned.onnx", "models/int8/finetuned.onnx", "models/int8/verdict.json"


def main() -> None:
    noted = given.of("export")
    cfg, record = params.parse(noted.content), Recorder("export", noted.sections)
    devices.choose()  # the number of threads: an exported model is for a CPU, and all of this happens on one
    with tracking.stage(record, cfg) as run:
        backbone = backbones.load_backbone(cfg.backbone, seed=0)
        view = replace(backbone.view, resolution=cfg.finetune.resolution or backbone.view.resolution)
        splits = {name: load_split(path) for name, path in IMAGES.items()}
        classes, side = splits["train"].classes, splits["train"].images.shape[-1]
        head, state = Head(**artifacts.read_json(HEAD)), artifacts.load(WEIGHTS)
        network = exporting.restored(backbone, head, state, classes=len(classes))
        noted.settle()
        images = {name: splits[name].images.numpy() for name in judging.JUDGED}
        labels = {name: splits[name].labels.numpy() for name in judging.JUDGED}
        passes = 1 + len(verifying.BATCHES) + bool(cfg.export.calibration_images)
        with console.progress(passes * sum(map(len, labels.values())), "images", "export") as bar:
            logits = {name: exporting.logits_of(network, splits[name].images, view, bar.advance) for name in images}
            exact = judging.calibrated(logits, labels, cfg.export.target)
            whole = exporting.Whole(network, view, side=side, temperature=exact.temperature)
            graph = exporting.to_onnx(whole, side)
            facts = {
                **{"classes": classes, "image_size": side, "resolution": view.resolution, "precision": "float32"},
                **{"temperature": exact.temperature, "threshold": exact.threshold, "target": cfg.export.target},
                **{"backbone": cfg.backbone.name, "dataset": cfg.dataset.name, "versions": exporting.versions()},
                **{"finetuned_sha256": artifacts.sha256(WEIGHTS)},
                "licence": licences.licence(cfg.backbone, cfg.dataset.name),
            }
            content = exporting.described(graph, facts)
            model = answering.load(content, threads=torch.get_num_threads())
            parity = verifying.compare(model, images, exact.logits, tolerance=cfg.export.tolerance, advance=bar.advance)
            coarse = eight_bits.attempt(
                graph, facts, splits["train"], images, labels, exact, cfg.export, advance=bar.advance
            )
        engines: dict[str, timing.Answer] = {"torch": exporting.runner(whole), "onnx": model.probabilities}
        if coarse.model:
            engines["int8"] = coarse.model.probabilities
        times = timing.measure(engines, images["test"])
        scores = judging.metrics(exact, labels, parity.agreement, cfg.export.target)
        scores |= {"int8": coarse.metrics} if coarse.metrics else {}
        with artifacts.together(noted.confirm):
            exporting.write(content, MODEL)
            artifacts.write_json(coarse.verdict, VERDICT)
            if not coarse.refused:
                exporting.write(coarse.content, INT8)
            artifacts.write_json(scores, "metrics/export.json")
            run.metrics(scores, **{name: len(each) for name, each in labels.items()})
            record.note(image_size=side, licence=facts["licence"])
            record.note(threads=torch.get_num_threads(), difference=parity.difference, refused=coarse.refused)
            record.note(
                times=times, bytes={"onnx": len(content), **({"int8": len(coarse.content)} if coarse.model else {})}
            )
            artifacts.write_json(record.values(), "data/runs/export.json")
    if coarse.refused:
        Path(INT8).unlink(missing_ok=True)  # of an earlier run by hand; DVC has removed it
        console.say(f"export: no copy in 8 bits: {coarse.refused}")
    console.answer("export", f"{MODEL} answers as torch does on {sum(map(len, labels.values()))} images")


if __name__ == "__main__":
    console.run(main)
