"""Say what the predictions of the transfer study are worth.  `python -m stages.evidence`"""

from src.base import artifacts
from src.base.stage_records import Recorder
from src.evidence import answers, assessment, options, questions, repeated
from src.interface import console, params, tracking
from stages import given

ASSESSED = ("frozen", "finetuned")  # methods whose logits are of probabilities


def main() -> None:
    noted = given.of("evidence")
    cfg, record = params.parse(noted.content), Recorder("evidence", noted.sections)
    with tracking.stage(record, cfg) as run:
        predictions = answers.joined(
            artifacts.load("data/predictions/baseline.pt"),
            artifacts.load("data/predictions/train_frozen.pt"),
            artifacts.load("data/predictions/finetune.pt"),
        )
        seeds = artifacts.load("data/predictions/finetune_repeats.pt")
        flips = artifacts.load("data/predictions/flips.pt")
        noted.settle()
        run.given(noted.identity()["files"])
        found = {
            method: assessment.assess(
                assessment.judged(predictions, method, "val"),
                assessment.judged(predictions, method, "test"),
                predictions["classes"],
                bins=cfg.evidence.bins,
                targets=cfg.evidence.targets,
            )
            for method in ASSESSED
        }
        headlines = {method: each.headline for method, each in found.items()}
        named = questions.right_on_test(predictions)
        over_seeds = repeated.as_rows(questions.over_seeds(seeds, named["frozen"]))
        beside = options.offered(seeds, flips)
        compared = options.compared(assessment.judged(predictions, options.PLAIN, "test"), beside)
        with artifacts.together(noted.confirm):
            answer = headlines["finetuned"]["coverage"]
            artifacts.write_json({"coverage": answer, **headlines}, "metrics/evidence.json")
            artifacts.write_csv(assessment.table(found, "scores"), "plots/evidence/scores.csv")
            artifacts.write_csv(assessment.table(found, "classes"), "plots/evidence/classes.csv")
            artifacts.write_csv(assessment.table(found, "reliability"), "plots/evidence/reliability.csv")
            artifacts.write_csv(assessment.table(found, "coverage"), "plots/evidence/coverage.csv")
            artifacts.write_csv(questions.as_rows(questions.differences(named)), "plots/evidence/differences.csv")
            artifacts.write_csv(over_seeds, "plots/evidence/seeds.csv")
            artifacts.write_csv(compared, "plots/evidence/options.csv")
            run.metrics(headlines)
            artifacts.write_json(record.values(), "data/runs/evidence.json")
    stated, right = (100 * found["finetuned"].value(score) for score in ("confidence", "accuracy"))
    console.answer("evidence", f"fine-tuned, {stated:.1f} % sure on average and {right:.1f} % right on test")


if __name__ == "__main__":
    console.run(main)
