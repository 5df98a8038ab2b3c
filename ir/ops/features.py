"""Import of features for classical machine learning: ONNX TfIdfVectorizer on numbers, and two ops of ``ai.onnx.ml``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from ..graph import Value
from ..onnx_io import ImportNode, imports
from .binary import Add, Mul
from .cast import Cast
from .compare import Equal, Greater
from .gather import Gather
from .matmul import MatMul
from .reduce import ReduceProd, ReduceSum
from .reshape import Reshape


@imports("ai.onnx.ml::ArrayFeatureExtractor")
def _import_array_feature_extractor(n: ImportNode) -> Any:
    """Import the elements of the last axis at some indices. A vector becomes a matrix of one row."""
    x, indices = n.input(0), n.input(1)
    flat = n.emit(Reshape((indices.type.numel,)), indices)
    y = n.emit(Gather(x.type.rank - 1), x, flat)
    return y if x.type.rank > 1 else n.emit(Reshape((1, indices.type.numel)), y)


@imports("ai.onnx.ml::Binarizer")
def _import_binarizer(n: ImportNode) -> Any:
    """Import 1 where the operand is above a threshold, else 0."""
    x = n.input(0)
    return n.emit(Cast(x.type.dtype), n.emit(Greater(), x, n.scalar(n.attr("threshold", 0.0), x)))


@imports("TfIdfVectorizer")
def _import_tf_idf(n: ImportNode) -> Any:
    """Import how often each n-gram of a pool occurs in ``[C]`` or in each row of ``[B, C]``, a result ``[B, columns]``;
    ONNX TfIdfVectorizer-9.

    The elements of an n-gram may lie up to ``max_skip_count + 1`` places apart, all equally far. ``mode`` gives the
    counts (TF), the weights of what occurs (IDF), or their product (TFIDF).
    """
    x, mode = n.input(0), n.attr("mode")
    starts, columns = n.attr("ngram_counts"), n.attr("ngram_indexes")
    least, most, skips = (n.attr(name) for name in ("min_gram_length", "max_gram_length", "max_skip_count"))
    weights = n.attr("weights")
    if n.attr("pool_int64s") is None or n.attr("pool_strings") is not None:
        raise n.unsupported("its pool holds strings; only numbers are supported")
    if mode not in ("TF", "IDF", "TFIDF") or not starts or not columns or x.type.rank not in (1, 2):
        raise n.error(f"takes a vector or rows of numbers, ngram_counts, ngram_indexes and mode TF, IDF or TFIDF, not "
                      f"{x.type} and mode {mode!r}")  # fmt: skip
    if min(columns) < 0 or max(columns) > len(columns) or min(skips, least - 1, most - least) < 0:
        raise n.error("its ngram_indexes, its lengths of n-grams or max_skip_count are out of range")
    if weights is not None and len(weights) != len(columns):
        raise n.error(f"it has {len(weights)} weights for {len(columns)} n-grams")
    width = max(columns) + 1
    rows = n.emit(Cast("i64"), n.emit(Reshape((1, x.type.numel)), x) if x.type.rank == 1 else x)
    y = n.filled((rows.type.sizes[0], width), 0, "f32")
    for grams, place in _pools(n, width):
        length = grams.shape[1]
        if least <= length <= most:
            for apart in range(1, 2 + (skips if length > 1 else 0)):
                found = _occurrences(n, rows, grams, apart)
                if found is not None:
                    y = n.emit(Add(), y, n.emit(MatMul(), found, n.constant(place, "columns")))
    if mode == "IDF":
        y = n.emit(Cast("f32"), n.emit(Greater(), y, n.scalar(0, y)))
    if mode != "TF":
        by = np.zeros(width, np.float32)
        by[list(columns)] = 1 if weights is None else weights
        y = n.emit(Mul(), y, n.constant(by, "weights"))
    return y if x.type.rank == 2 else n.emit(Reshape((width,)), y)


def _pools(n: ImportNode, width: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The n-grams of each length, one per row, and a matrix that puts their counts into columns of the result."""
    pool, starts, columns = n.attr("pool_int64s"), n.attr("ngram_counts"), n.attr("ngram_indexes")
    number = 0
    for length, (begin, end) in enumerate(pairwise((*starts, len(pool))), 1):
        if not 0 <= begin <= end <= len(pool) or (end - begin) % length:
            raise n.error(f"ngram_counts {list(starts)} do not divide a pool of {len(pool)} numbers")
        grams = np.array(pool[begin:end], np.int64).reshape(-1, length)
        which = columns[number : number + len(grams)]
        number += len(grams)
        if len(which) < len(grams):
            raise n.error(f"it has {len(columns)} ngram_indexes for at least {number} n-grams")
        if len(grams):
            place = np.zeros((len(grams), width), np.float32)
            place[np.arange(len(grams)), list(which)] = 1
            yield grams, place


def _occurrences(n: ImportNode, rows: Value, grams: np.ndarray, apart: int) -> Value | None:
    """How often each n-gram occurs in each row, its elements ``apart`` places apart; ``None`` where none fits."""
    batch, size = rows.type.sizes
    length = grams.shape[1]
    places = size - apart * (length - 1)
    if places < 1 or not batch:
        return None
    at = np.arange(places)[:, None] + apart * np.arange(length)
    windows = n.emit(Reshape((batch, places, 1, length)), n.emit(Gather(1), rows, n.constant(at, "windows")))
    same = n.emit(Cast("i32"), n.emit(Equal(), windows, n.constant(grams, "grams")))
    made: Value = n.emit(Cast("f32"), n.emit(ReduceSum((1,), False), n.emit(ReduceProd((3,), False), same)))
    return made
