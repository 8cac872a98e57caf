"""Classification by a vote of nearest neighbours. N reference images, M queries, D feature width, K classes."""

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 0.07  # of the neighbours' votes, as in Wu et al., arXiv:1805.01978
CHUNK = 1024  # queries at a time: their similarities to 50 000 references take 200 MB


def nearest_neighbours(
    references: Tensor, labels: Tensor, queries: Tensor, *, classes: int, neighbours: int, leave_one_out: bool = False
) -> Tensor:
    """Logits (M, K): log of the share of votes; the k most similar references vote, exp(cosine similarity / 0.07) each.

    Args:
        references: floating point of shape (N, D).
        labels: int64 of shape (N,).
        queries: floating point of shape (M, D).
        classes: K.
        neighbours: k; all references where there are fewer.
        leave_one_out: the queries are the references: none votes for itself.
    """
    known = F.normalize(references.float())
    count = min(neighbours, len(known) - leave_one_out)
    shares = []
    for start in range(0, len(queries), CHUNK):
        similarity = F.normalize(queries[start : start + CHUNK].float()) @ known.T  # (chunk, N)
        if leave_one_out:
            similarity.diagonal(start).fill_(-torch.inf)
        nearest, index = similarity.topk(count, dim=1)  # (chunk, k)
        votes = ((nearest - nearest[:, :1]) / TEMPERATURE).exp()
        share = torch.zeros(len(votes), classes, device=votes.device).scatter_add_(1, labels[index], votes)
        shares.append(share / share.sum(1, keepdim=True))
    return torch.cat(shares).clamp_min(1e-6).log()
