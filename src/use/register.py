"""Put the exported model into MLflow's registry, and make it the champion where it beats the one there.

`python -m src.use.register`. The new version is `candidate`. `champion`, which `make serve` serves, moves to it only if
the interval of their paired difference on test is above zero; `--champion` moves it whatever that says. The same file
is registered once. A stage would not do: DVC restores one from its cache without running it.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.base import artifacts
from src.base.splits import SPLITS
from src.interface import console, tracking_store
from src.use import answering, registry
from src.use.registry import CANDIDATE, CHAMPION, Standing

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL, WEIGHTS = "models/finetuned.onnx", "models/finetuned.pt"
PREDICTIONS, TEST = "data/predictions/finetune.pt", "data/images/test.pt"
METHOD = "finetuned"


def standing() -> Standing:
    """Which images of test the fine-tuned network names right: `export` saw that the file names the same classes."""
    found = artifacts.load(PREDICTIONS)
    test = found["split"] == SPLITS.index("test")
    return Standing(
        images_sha256=artifacts.sha256(TEST),
        labels=found["label"][test].tolist(),
        named=found["logits"][METHOD][test].argmax(1).tolist(),
    )


def registered(client: "MlflowClient", sender: tracking_store.Sender, name: str, *, force: bool = False) -> list[str]:
    """Register MODEL as a version of `name` and say, in lines, what became of the aliases."""
    model, digest = answering.load(MODEL), artifacts.sha256(MODEL)
    if model.metadata.get("finetuned_sha256") != artifacts.sha256(WEIGHTS):
        raise ValueError(f"{MODEL} was not made from {WEIGHTS}; allowed: what `dvc repro export` leaves")
    now, known = standing(), registry.by_digest(client, name, digest)
    tags = {"onnx_sha256": digest, "test_accuracy": f"{now.right.mean():.4f}", "images_sha256": now.images_sha256}
    tags |= {key: model.metadata[key] for key in ("backbone", "dataset", "licence") if key in model.metadata}
    if not known:
        registry.choose_group(client, sender, model.metadata["dataset"])
    version = known or registry.add(client, name, model, MODEL, now, tags)
    client.set_registered_model_alias(name, CANDIDATE, version)
    first = f"{name} version {version}{' was registered before' if known else ''}: {CANDIDATE}"
    return [first, _champion(client, name, version, now, force=force)]


def _champion(client: "MlflowClient", name: str, version: str, now: Standing, *, force: bool) -> str:
    """Move the alias where that is due; what happened, in a line."""
    before: Any = registry.by_alias(client, name, CHAMPION)
    if before is not None and str(before.version) == version:
        return f"version {version} is the {CHAMPION} already"
    found = registry.verdict(now, registry.standing_of(client, before)) if before else None
    if found and not found.better and not force:
        return (
            f"{CHAMPION} stays version {before.version}: {found.why}; `python -m src.use.register --champion` moves it"
        )
    client.set_registered_model_alias(name, CHAMPION, version)
    if not found:
        return f"{CHAMPION}, as there was none: version {version}"
    client.set_model_version_tag(name, version, "against_champion", f"version {before.version}: {found.why}")
    return f"{CHAMPION} is version {version} now, no more {before.version}: {found.why}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m src.use.register", description=__doc__.partition("\n")[0])
    parser.add_argument("--name", help="of the registered model; default: <dataset>-classifier")
    parser.add_argument("--champion", action="store_true", help="move this alias whatever the comparison says")
    asked = parser.parse_args()
    if missing := [path for path in (MODEL, WEIGHTS, PREDICTIONS, TEST) if not Path(path).is_file()]:
        raise ValueError(f"{missing[0]} does not exist; allowed: what `dvc repro export` leaves")
    name = asked.name or f"{answering.load(MODEL).metadata['dataset']}-classifier"
    sender = tracking_store.Sender()
    client = registry.client(sender)
    try:
        for line in registered(client, sender, name, force=asked.champion):
            console.say(line)
    except tracking_store.failures() as error:
        if isinstance(error, ValueError):
            raise
        raise ValueError(f"MLflow at {sender.uri}: {tracking_store.reason(error)}") from None


if __name__ == "__main__":
    console.run(main)
