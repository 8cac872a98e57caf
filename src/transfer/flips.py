"""Averaging what a network says of an image and of its mirror image. N images, K classes."""

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.images.image_batches import ImageBatches
from src.interface.params import Finetune
from src.models.backbones import Backbone
from src.models.heads import Head, build_head, join
from src.training import fitting


def restored(backbone: Backbone, best: Head, state: dict[str, Tensor], *, classes: int) -> nn.Sequential:
    """The fine-tuned network, from the state that the stage finetune left.

    Raises:
        RuntimeError: the state is of another network.
    """
    head = build_head(best.classifier, width=backbone.width, classes=classes, dropout=best.dropout, seed=0)
    network = join(backbone.network, head)
    network.load_state_dict(state)
    return network


def averaged(network: nn.Module, images: ImageBatches, settings: Finetune) -> Tensor:
    """Logits (N, K) whose softmax is the mean of those of each image and of its mirror image.

    Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks" (2012), 4.1,
    average softmax outputs so, there over crops as well.
    """
    predict = partial(fitting.predict, network, batch_size=settings.batch_size, precision=settings.precision)
    mirrored = replace(images, images=images.images.flip(-1))
    views = torch.stack([F.log_softmax(predict(each), dim=1) for each in (images, mirrored)])  # (2, N, K)
    return views.logsumexp(dim=0) - views.new_tensor(2).log()
