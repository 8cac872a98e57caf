"""Stateless randomness: every random draw comes from a generator seeded by what it is for.

Nothing depends on how many draws came before: a run that resumes, or runs its parts in another order, draws the same.
"""

import hashlib

import torch


def seed_of(*purpose: int | str) -> int:
    """A seed in [0, 2**63) that `purpose`, such as (seed, "shuffle", epoch), alone decides."""
    digest = hashlib.blake2b(repr(purpose).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*purpose: int | str) -> torch.Generator:
    """A CPU generator at the start of the stream that belongs to `purpose`."""
    return torch.Generator().manual_seed(seed_of(*purpose))
