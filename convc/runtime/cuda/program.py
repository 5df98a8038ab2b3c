"""Running a plan on a device: weights are packed once, and every call replays one graph of kernel launches."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from .. import dlpack
from ..description import Port
from ..place import Place
from .device import Device, Stream
from .plan import Plan, Start


class DeviceArray:
    """An output of a program on a device. Any library with DLPack takes it without a copy."""

    def __init__(self, pool: Pool, address: int, port: Port, stream: Stream) -> None:
        self._pool = pool
        self._address = address
        self.shape, self._dtype = port.sizes, np.dtype(port.dtype)
        self._nbytes = port.nbytes
        self.stream = stream
        """The stream whose work fills the array, or the stream of the library that took it last."""
        self._ready = pool.device.mark(stream)

    @property
    def dtype(self) -> str:
        """The dtype's name in numpy."""
        return str(self._dtype)

    def numpy(self) -> np.ndarray:
        """A copy in host memory."""
        made: np.ndarray = np.empty(self.shape, self._dtype)
        self._pool.device.copy_out(made, self._address, self.stream)
        return made

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._pool.device.dlpack

    def __dlpack__(self, *, stream: int | None = None, **_: Any) -> Any:
        """A DLPack capsule; work that the caller gives to ``stream`` waits until the tensor is computed."""
        taker = 0 if stream in (None, dlpack.LEGACY_STREAM) else stream
        if taker not in (-1, self.stream):
            self._pool.device.wait(taker, self._ready)
            self.stream = taker
        return dlpack.capsule(self, self._address, self.shape, self._dtype, self.__dlpack_device__())

    def __del__(self) -> None:
        with suppress(Exception):  # the device may be gone at the end of the process
            self._pool.give(self._address, self._nbytes, self.stream)


class Pool:
    """Device memory for outputs, which is reused once nobody holds it."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._free: dict[int, list[tuple[int, Any]]] = {}

    def take(self, size: int, stream: Stream) -> int:
        """The address of ``size`` bytes for work given to ``stream`` from now on."""
        free = self._free.get(size)
        if not free:
            return self.device.allocate(max(size, 1))
        address, used = free.pop()
        self.device.wait(stream, used)
        return address

    def give(self, address: int, size: int, stream: Stream) -> None:
        """Return memory that only work given to ``stream`` so far still uses."""
        self._free.setdefault(size, []).append((address, self.device.mark(stream)))

    def __del__(self) -> None:
        with suppress(Exception):
            for address in (address for free in self._free.values() for address, _ in free):
                self.device.free(address)


class Program:
    """A plan with its code and weights on a device. It is thread-safe: concurrent calls run one after another."""

    def __init__(
        self,
        device: Device,
        plan: Plan,
        modules: Sequence[bytes],
        weights: Mapping[str, np.ndarray],
        inputs: Sequence[Port],
        outputs: Sequence[Port],
    ) -> None:
        """Load the code, pack the weights, and capture the launches."""
        self.device = device
        self._inputs, self._outputs = inputs, outputs
        self._modules = [device.load(code) for code in modules]  # kernels are valid only as long as their modules are
        self._kernels = {
            (s.module, s.kernel): device.kernel(self._modules[s.module], s.kernel, s.shared)
            for s in (*plan.load, *plan.run)
        }
        self._stream = device.new_stream()
        self._lock = threading.Lock()
        self._pool = Pool(device)
        self._bases: dict[Place, int] = {}
        self._reserve(plan)
        self._pack(plan, weights)
        self._replay = device.capture(lambda stream: self._launch(plan.run, stream))
        self._last, self._done = self._stream, device.mark(self._stream)

    def _reserve(self, plan: Plan) -> None:
        """Allocate one piece of memory for inputs, outputs and the workspace, and one for the packed weights."""
        at, offsets = 0, []
        for size in (*(p.nbytes for p in (*self._inputs, *self._outputs)), plan.workspace):
            offsets.append(at)
            at = -(-(at + size) // PAGE) * PAGE
        start, packed = self.device.allocate(max(at, 1)), self.device.allocate(max(plan.loading, 1))
        self._allocated = [start, packed]
        names = [*(Place("input", i) for i in range(len(self._inputs)))]
        names += [*(Place("output", i) for i in range(len(self._outputs))), Place("workspace", 0)]
        self._bases = {name: start + offset for name, offset in zip(names, offsets, strict=True)}
        self._bases[Place("packed", 0)] = packed

    def _address(self, place: Place) -> int:
        if place in self._bases:
            return self._bases[place]
        return self._bases[Place(place.base, 0)] + int(place.at)

    def _pack(self, plan: Plan, weights: Mapping[str, np.ndarray]) -> None:
        """Copy weights to the device and run the launches that compute on weights alone.

        Each weight that only those launches read is on the device just as long as they need it.
        """
        for name, at in plan.copies:
            self.device.copy_in(self._address(Place("packed", at)), np.ascontiguousarray(weights[name]), self._stream)
        last = {place: i for i, start in enumerate(plan.load) for place in start.arguments if place.base == "weight"}
        for i, start in enumerate(plan.load):
            for place in dict.fromkeys(p for p in start.arguments if p in last and p not in self._bases):
                array = np.ascontiguousarray(weights[str(place.at)])
                self._bases[place] = self.device.allocate(max(array.nbytes, 1))
                self.device.copy_in(self._bases[place], array, self._stream)
            self._launch((start,), self._stream)
            done = [place for place in set(start.arguments) if last.get(place) == i]
            if done:
                self.device.synchronise(self._stream)
            for place in done:
                self.device.free(self._bases.pop(place))
        self.device.synchronise(self._stream)
        if plan.loading > plan.packed:
            whole, kept = self._bases[Place("packed", 0)], self.device.allocate(max(plan.packed, 1))
            self.device.copy(kept, whole, plan.packed, self._stream)
            self.device.synchronise(self._stream)
            self._bases[Place("packed", 0)] = self._allocated[1] = kept
            self.device.free(whole)

    def _launch(self, starts: Sequence[Start], stream: Stream) -> None:
        for s in starts:
            addresses = [self._address(place) for place in s.arguments]
            self.device.launch(self._kernels[s.module, s.kernel], s.grid, s.block, s.shared, addresses, stream)

    def __call__(self, arrays: Sequence[np.ndarray | dlpack.View], stream: Stream | None = None) -> list[Any]:
        """Run the network on arrays of the right shapes and dtypes, in host or device memory.

        With ``stream``, the work is given to that stream and the results stay on the device (``DeviceArray``). Without
        it, the results are numpy arrays, and they are complete when this returns.
        """
        with self._lock:
            work = self._stream if stream is None else stream
            if work != self._last:
                self.device.wait(work, self._done)
            for i, (array, port) in enumerate(zip(arrays, self._inputs, strict=True)):
                to = self._bases[Place("input", i)]
                if isinstance(array, np.ndarray):
                    self.device.copy_in(to, np.ascontiguousarray(array), work)
                else:
                    self.device.copy(to, array.address, port.nbytes, work)
            self._replay(work)
            results = [self._result(i, port, work, stream is None) for i, port in enumerate(self._outputs)]
            self._last, self._done = work, self.device.mark(work)
        return results

    def _result(self, i: int, port: Port, stream: Stream, to_host: bool) -> Any:
        source = self._bases[Place("output", i)]
        if to_host:
            made: np.ndarray = np.empty(port.sizes, port.dtype)
            self.device.copy_out(made, source, stream)
            return made
        address = self._pool.take(port.nbytes, stream)
        self.device.copy(address, source, port.nbytes, stream)
        return DeviceArray(self._pool, address, port, stream)

    def replay(self, count: int) -> None:
        """Run the network ``count`` times on whatever its inputs hold, for timing; returns when all runs are done."""
        with self._lock:
            self.device.wait(self._stream, self._done)
            for _ in range(count):
                self._replay(self._stream)
            self.device.synchronise(self._stream)

    def __del__(self) -> None:
        with suppress(Exception):  # at the end of the process the device may already be gone
            self.device.wait(self._stream, self._done)
            self.device.synchronise(self._stream)
            for address in self._allocated:
                self.device.free(address)


PAGE = 256
"""Alignment in bytes of inputs, outputs and the workspace, the same as CUDA gives its allocations."""
