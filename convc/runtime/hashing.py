"""A hash that several threads compute at once: a tree of two levels of SHA-256."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress

BLOCK = 4 << 20
"""The number of bytes that a leaf of the tree covers."""


def tree_hash(chunks: Iterable[bytes | memoryview]) -> bytes:
    """The tree hash of the concatenated chunks: the SHA-256 of the SHA-256 hashes of each ``BLOCK`` bytes."""
    top, leaf, room = hashlib.sha256(), hashlib.sha256(), BLOCK
    for chunk in chunks:
        rest = memoryview(chunk).cast("B")
        while len(rest) >= room:
            leaf.update(rest[:room])
            top.update(leaf.digest())
            rest, leaf, room = rest[room:], hashlib.sha256(), BLOCK
        leaf.update(rest)
        room -= len(rest)
    if room < BLOCK:
        top.update(leaf.digest())
    return top.digest()


def tree_hash_of_file(descriptor: int, size: int, threads: int) -> bytes:
    """The tree hash of the first ``size`` bytes of an open file, computed by ``threads`` threads.

    Each thread holds one block in memory at a time.
    """

    def leaf(at: int) -> bytes:
        return hashlib.sha256(os.pread(descriptor, min(BLOCK, size - at), at)).digest()

    blocks = range(0, size, BLOCK)
    if threads > 1 and len(blocks) > 1:
        with suppress(RuntimeError):  # where no thread can be started any more, as when the process ends
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(threads) as pool:
                return hashlib.sha256(b"".join(pool.map(leaf, blocks))).digest()
    return hashlib.sha256(b"".join(map(leaf, blocks))).digest()
