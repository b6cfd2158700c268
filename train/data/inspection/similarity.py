"""Groups photographs whose perceptual hashes nearly agree, in time that grows like n log n.

Two hashes of 64 bits that differ in at most four bits agree in at least one of five parts. So only
hashes that share a part are compared. Equal hashes are merged first, because a thousand frames of
one scene may have only a few different hashes.
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# Most bits, of 64, in which the hashes of similar photographs differ. That covers a photograph that
# was resized, recompressed, slightly cropped or retouched.
ALIKE = 4

_PARTS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))  # first bit, number of bits
_TABLE = 512  # largest bucket whose distances are all computed at once


def group_similar(hashes: Sequence[int]) -> np.ndarray:
    """Numbers the group of each photograph, from 0, in the order of ``hashes``.

    A chain of similar hashes makes a group: each hash differs from another one of the group in at
    most ``ALIKE`` bits.
    """
    if not len(hashes):
        return np.empty(0, int)
    unique, which = np.unique(np.array(hashes, np.uint64), return_inverse=True)
    # [n, 2] indices of hashes that are similar, enough of them to join each group
    joined: list[np.ndarray] = []
    for first, bits in _PARTS:
        parts = unique >> np.uint64(first) & np.uint64(2**bits - 1)
        order = np.argsort(parts, kind="stable")
        ends = np.flatnonzero(np.diff(parts[order])) + 1
        for bucket in np.split(order, ends):
            if len(bucket) > 1:
                joined.append(_join_bucket(unique, bucket))
    pairs = np.concatenate([np.empty((0, 2), int), *joined])
    graph = coo_array(
        (np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(unique),) * 2
    )
    _, groups = connected_components(graph, directed=False)
    return np.asarray(groups)[which.reshape(-1)]


def _join_bucket(unique: np.ndarray, bucket: np.ndarray) -> np.ndarray:
    """Pairs of similar hashes in a bucket, enough of them to join the groups in it.

    Fewer pairs than hashes are returned for a large bucket.
    """
    if len(bucket) <= _TABLE:
        hashes = unique[bucket]
        distances = np.bitwise_count(hashes[:, None] ^ hashes[None])
        return bucket[np.argwhere(np.triu(distances <= ALIKE, 1))]
    # Each hash is compared only with hashes that do not belong to a group yet.
    pairs = []
    left = bucket
    while len(left):
        reached, left = [left[0]], left[1:]
        while reached:
            here = reached.pop()
            near = np.bitwise_count(unique[left] ^ unique[here]) <= ALIKE
            found = left[near]
            pairs.append(np.column_stack([np.full(len(found), here), found]))
            reached.extend(found)
            left = left[~near]
    return np.concatenate(pairs)
