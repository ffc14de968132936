"""VL-Cache (arXiv 2410.23317) in numpy and float64, written from the paper's description, as an oracle.

It takes the attention probabilities A[layer][head, row, column] of a whole prompt and answers: how sparse the
post-vision rows of each layer are, how many tokens each layer may keep, and which ones. It shares no code and
no intermediate with the library: everything is materialised, nothing is clever.
"""
import math

import numpy as np

FALLBACK_ROWS = 32  # rows looked at when no text follows any picture


def round_half_up(x):
    """C's round() for what is not negative (Python's round() goes to even)."""
    return int(math.floor(x + 0.5))


def score_rows(ids, image_token):
    """The post-vision rows: text behind any picture, else the last FALLBACK_ROWS of the prompt."""
    first, n = ids.index(image_token), len(ids)
    rows = [i for i in range(first, n) if ids[i] != image_token]
    return rows or list(range(max(0, n - FALLBACK_ROWS), n))


def runs_of(rows):
    """Begin and end of each run of successive rows."""
    begins = [i for i in rows if i - 1 not in rows]
    ends = [i + 1 for i in rows if i + 1 not in rows]
    return [edge for run in zip(begins, ends) for edge in run]


def sparsity(attention, rows, threshold, near=1e-4):
    """Sparsity of one layer, the counts behind it and how many entries stand at the threshold.

    attention: [heads, N, N]. Returns (mean over heads, [heads, 2] counts of insignificant and causal entries,
    number of entries within `near`, relative, of threshold * row maximum).
    """
    counts, at_threshold = np.zeros((len(attention), 2), np.int64), 0
    for h, head in enumerate(attention):
        for i in rows:
            row = head[i, : i + 1]
            limit = threshold * row.max()
            counts[h] += (np.count_nonzero(row < limit), i + 1)
            at_threshold += np.count_nonzero(np.abs(row - limit) <= near * limit)
    return float(np.mean(counts[:, 0] / counts[:, 1])), counts, at_threshold


def budgets(layer_sparsity, alpha, n_tokens):
    """beta(l) and n(l) of all layers from their sparsity and the share alpha of the whole cache."""
    density = 1.0 - np.asarray(layer_sparsity, np.float64)
    beta = np.clip(density / density.sum() * alpha * len(density), 0.01, 1.0)
    return beta, [min(max(round_half_up(b * n_tokens), 1), n_tokens) for b in beta]


def scores(attention, rows, kv_heads):
    """[kv_heads, N]: attention that the rows of the group's query heads pay to each column."""
    heads, n, _ = attention.shape
    group = heads // kv_heads
    out = np.zeros((kv_heads, n))
    for h in range(heads):
        for i in rows:
            out[h // group, : i + 1] += attention[h, i, : i + 1]
    return out


def keep(score, n_keep, recent_share=0.10):
    """Ascending positions kept from one row of scores: the recent ones and the best of the others.

    Also returns the relative gap between the worst kept and the best dropped score (infinity when nothing was
    chosen): the safety of the choice against rounding.
    """
    n = len(score)
    recent = min(max(1, round_half_up(recent_share * n_keep)), n_keep)
    older = sorted(range(n - recent), key=lambda j: (-score[j], j))
    chosen, dropped = older[: n_keep - recent], older[n_keep - recent :]
    gap = math.inf
    if chosen and dropped:
        worst, best = score[chosen[-1]], score[dropped[0]]
        gap = (worst - best) / worst if worst > 0 else 0.0
    return sorted(chosen) + list(range(n - recent, n)), gap
