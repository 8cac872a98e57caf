"""Images for a made-up study: noise of 8 x 8 pixels, and what the stage explain would leave."""

import torch

from src.evidence import answers, examples
from src.report.pictures import Images

EXPLAINED, BATCH, SIDE, PLACES = 4, 6, 8, 7


def images_of(files, classes, sizes):
    """Images of as many as `sizes` says, whose predictions are `files`, as data/predictions/*.pt are loaded."""
    noise = torch.Generator().manual_seed(0)
    drawn = {
        split: torch.randint(0, 256, (sizes[split], 3, SIDE, SIDE), generator=noise, dtype=torch.uint8)
        for split in ("train", "test")
    }
    whole = answers.joined(*files)
    frozen, finetuned = (examples.named_on_test(whole, method) for method in ("frozen", "finetuned"))
    chosen = torch.tensor(examples.to_explain(finetuned, EXPLAINED)["index"].tolist())
    labels = whole["label"][whole["split"] == 0]
    explained = {
        **{"index": chosen, "maps": torch.rand(len(chosen), PLACES, PLACES, generator=noise)},
        **{"batch": drawn["train"][:BATCH], "batch_labels": labels[:BATCH]},
    }
    return Images(
        **drawn, labels=labels, classes=tuple(classes), frozen=frozen, finetuned=finetuned, explained=explained
    )
