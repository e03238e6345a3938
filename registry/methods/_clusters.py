"""k-means that gives the same clusters every time."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

_ROUNDS = 300


def clusters(points: Tensor, count: int, key: str) -> Tensor:
    """The cluster of each point ``(N, d)``, numbered from 0 without gaps, at most ``count`` of them; ``(N,)``.

    Lloyd's iterations from k-means++ centres, drawn from a generator seeded with ``key`` alone. Ties go to the
    first centre. Points that coincide never get two centres, and a cluster that runs empty is dropped.
    """
    if len(points) <= count:
        return torch.arange(len(points))
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square()  # (N, N)
    centres = points[_spread(distances, count, key)]  # (k, d)
    found = torch.full((len(points),), -1)
    for _ in range(_ROUNDS):
        gaps = torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist")  # (N, k)
        nearest = gaps.cpu().min(dim=1).indices  # (N,)
        numbers, nearest = torch.unique(nearest, return_inverse=True)
        if torch.equal(nearest, found):
            break
        found = nearest
        centres = torch.stack([points[(found == c).to(points.device)].mean(0) for c in range(len(numbers))])
    return found


def _spread(distances: Tensor, count: int, key: str) -> list[int]:
    """k-means++: each centre drawn with a probability that grows with its distance to those drawn before."""
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) >> 1)
    draws = torch.rand(count, generator=generator, dtype=torch.float64).tolist()
    chosen = [int(draws[0] * len(distances))]
    for draw in draws[1:]:
        chances = distances[chosen].amin(0).cpu()  # (N,)
        chances[chances <= 1e-24 * distances.max().cpu()] = 0
        if not bool(chances.any()):
            break
        steps = chances.cumsum(0)
        chosen.append(int((steps <= draw * steps[-1]).sum()))
    return chosen
