"""Train at ever higher learning rates, and suggest one for `finetune`.  `python -m stages.find_lr`

No stage of dvc.yaml: it decides nothing, and the network that it trains is thrown away.
"""

from pathlib import Path

from src.base import artifacts, devices, splits
from src.figures.rate import range_test
from src.images.image_batches import ImageBatches
from src.interface import console, params
from src.models import backbones
from src.models.heads import Head
from src.training import rate_finding
from src.training.loop import Recipe
from src.transfer import finetuning

IMAGES, HEAD, HEAD_WEIGHTS = "data/images/train.pt", "models/best_head.json", "models/frozen_head.pt"
BEFORE = "run `dvc repro train_frozen` first"
STEPS = 100


def main() -> None:
    cfg = params.load()
    for path in (IMAGES, HEAD, HEAD_WEIGHTS):
        if not Path(path).is_file():
            raise ValueError(f"{path} does not exist: {BEFORE}")
    device = devices.choose(deterministic=cfg.deterministic)
    backbone = backbones.load_backbone(cfg.backbone, seed=cfg.seed)
    split, view = splits.load_split(IMAGES), finetuning.seen(backbone.view, cfg.finetune)
    train = ImageBatches.of(split, device, view=view, augment=cfg.augment, seed=cfg.seed)
    best, weights = Head(**artifacts.read_json(HEAD)), artifacts.load(HEAD_WEIGHTS)
    try:
        network = finetuning.assemble(
            backbone, best, weights, cfg.finetune, classes=len(split.classes), seed=cfg.seed
        ).to(device)
    except RuntimeError:  # of load_state_dict: DVC, which would have noticed, does not start this script
        raise ValueError(f"{HEAD_WEIGHTS} is no head for {cfg.backbone.name} on these images: {BEFORE}") from None
    optimizer = finetuning.optimizer(network, cfg.finetune, lr=cfg.lr)
    recipe = Recipe.of(cfg.finetune, class_weights=cfg.class_weights)
    with console.progress(STEPS * recipe.batch_size, "images", "find_lr") as bar:
        rows = rate_finding.run(network, optimizer, train, recipe, seed=cfg.seed, steps=STEPS, advance=bar.advance)
    artifacts.write_csv(rows, "plots/find_lr/curve.csv")
    rate = float(f"{rate_finding.suggest(rows):.2g}")
    artifacts.write_text(range_test(rows, rate), "plots/find_lr/curve.svg")
    console.say(f"find_lr: the loss falls fastest at lr {rate:g}; try: dvc exp run -S lr={rate:g}")


if __name__ == "__main__":
    console.run(main)
