"""A GPU through NVIDIA's driver, called directly by ctypes: the machine needs nothing of the CUDA toolkit."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import numpy as np

from convc.ir.errors import DeviceError

from .device import Extent, Stream

MINIMUM = 13000
"""The oldest CUDA version that the driver must support: 13.0, as that is the version the code is compiled with."""
_LIBRARY = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
_GPU = 2
"""DLPack's device type of CUDA."""
_MAJOR, _MINOR = 75, 76
"""The device attributes of the compute capability (CUDA Driver API, ``CUdevice_attribute``)."""
_MAX_DYNAMIC_SHARED = 8
"""The function attribute of dynamic shared memory (``CUfunction_attribute``)."""
_STATIC_SHARED = 48 * 1024
"""A kernel must ask for its dynamic shared memory when it needs more than this many bytes."""
_NON_BLOCKING = 1
"""The flag of a stream that does not wait for the default one (``CUstream_flags``)."""
_DISABLE_TIMING = 2
"""The flag of an event that records no time (``CUevent_flags``)."""
_THREAD_LOCAL = 1
"""The capture mode in which other threads may call the driver freely (``CUstreamCaptureMode``)."""


class NvidiaGpu:
    """One of the machine's GPUs, a ``Device``. It uses the primary context, as PyTorch and CuPy do."""

    def __init__(self, index: int = 0) -> None:
        """Open the GPU of this number.

        Raises ``DeviceError`` when there is no driver, when there is no such GPU, or when the driver is too old.
        """
        driver()
        handle = ctypes.c_int()
        count = device_count()
        if not 0 <= index < count:
            has = f"GPUs 0 to {count - 1}" if count > 1 else "one GPU, 0"
            raise DeviceError(f"there is no GPU {index}: the machine has {has}")
        call("cuDeviceGet", ctypes.byref(handle), index)
        name = ctypes.create_string_buffer(256)
        call("cuDeviceGetName", name, len(name), handle)
        self.name = name.value.decode(errors="replace")
        major, minor = (self._attribute(which, handle) for which in (_MAJOR, _MINOR))
        self.arch = 10 * major + minor
        self.dlpack = (_GPU, index)
        self._context = ctypes.c_void_p()
        call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), handle)

    @staticmethod
    def _attribute(which: int, handle: ctypes.c_int) -> int:
        value = ctypes.c_int()
        call("cuDeviceGetAttribute", ctypes.byref(value), which, handle)
        return value.value

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Make the context current for the calling thread, and restore the thread's previous one afterwards."""
        call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def _call(self, name: str, *arguments: Any) -> None:
        with self._current():
            call(name, *arguments)

    def allocate(self, nbytes: int) -> int:
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(nbytes))
        return address.value

    def free(self, address: int) -> None:
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def copy_in(self, to: int, array: np.ndarray, stream: Stream) -> None:
        size = ctypes.c_size_t(array.nbytes)
        self._call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(to), ctypes.c_void_p(array.ctypes.data), size, _at(stream))
        self.synchronise(stream)  # the caller's memory may be pinned, and is then read after the call returns

    def copy_out(self, array: np.ndarray, source: int, stream: Stream) -> None:
        size = ctypes.c_size_t(array.nbytes)
        self._call(
            "cuMemcpyDtoHAsync_v2", ctypes.c_void_p(array.ctypes.data), ctypes.c_uint64(source), size, _at(stream)
        )
        self.synchronise(stream)

    def copy(self, to: int, source: int, nbytes: int, stream: Stream) -> None:
        size = ctypes.c_size_t(nbytes)
        self._call("cuMemcpyDtoDAsync_v2", ctypes.c_uint64(to), ctypes.c_uint64(source), size, _at(stream))

    def load(self, code: bytes) -> Any:
        module = _Owned(self, "cuModuleUnload")
        self._call("cuModuleLoadData", ctypes.byref(module.handle), ctypes.c_char_p(code))
        return module

    def kernel(self, module: Any, name: str, shared: int) -> Any:
        kernel = ctypes.c_void_p()
        self._call("cuModuleGetFunction", ctypes.byref(kernel), module.handle, name.encode())
        # otherwise the driver loads the kernel at the first launch, which a capture does not allow
        self._call("cuFuncLoad", kernel)
        if shared > _STATIC_SHARED:
            self._call("cuFuncSetAttribute", kernel, _MAX_DYNAMIC_SHARED, shared)
        return kernel

    def launch(
        self, kernel: Any, grid: Extent, block: Extent, shared: int, addresses: Sequence[int], stream: Stream
    ) -> None:
        values = [ctypes.c_uint64(a) for a in addresses]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
        self._call("cuLaunchKernel", kernel, *grid, *block, shared, _at(stream), pointers, None)

    def new_stream(self) -> Stream:
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), _NON_BLOCKING)
        return stream.value or 0

    def capture(self, work: Callable[[Stream], None]) -> Callable[[Stream], None]:
        stream = self.new_stream()
        graph, runnable = ctypes.c_void_p(), _Owned(self, "cuGraphExecDestroy")
        with self._current():
            call("cuStreamBeginCapture_v2", _at(stream), _THREAD_LOCAL)
            try:
                work(stream)
            finally:
                call("cuStreamEndCapture", _at(stream), ctypes.byref(graph))
            call("cuGraphInstantiateWithFlags", ctypes.byref(runnable.handle), graph, ctypes.c_uint64(0))
            call("cuGraphDestroy", graph)
            call("cuStreamDestroy_v2", _at(stream))
        return lambda stream: self._call("cuGraphLaunch", runnable.handle, _at(stream))

    def mark(self, stream: Stream) -> Any:
        event = _Owned(self, "cuEventDestroy_v2")
        with self._current():
            call("cuEventCreate", ctypes.byref(event.handle), _DISABLE_TIMING)
            call("cuEventRecord", event.handle, _at(stream))
        return event

    def wait(self, stream: Stream, mark: Any) -> None:
        self._call("cuStreamWaitEvent", _at(stream), mark.handle, 0)

    def synchronise(self, stream: Stream) -> None:
        self._call("cuStreamSynchronize", _at(stream))


class _Owned:
    """A handle of the driver that is destroyed with this object."""

    def __init__(self, gpu: NvidiaGpu, destroy: str) -> None:
        self.handle = ctypes.c_void_p()
        self._gpu = gpu
        self._destroy = destroy

    def __del__(self) -> None:
        if self.handle.value:
            with suppress(Exception):  # at the end of the process the driver may already be gone
                self._gpu._call(self._destroy, self.handle)


def _at(stream: Stream) -> ctypes.c_void_p:
    return ctypes.c_void_p(stream)


@cache
def driver() -> Any:
    """The driver's library, initialised.

    Raises ``DeviceError`` when there is none, when it finds no GPU, or when it is too old.
    """
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        raise DeviceError(
            f"no NVIDIA driver: {_LIBRARY} is not on this machine; "
            "install the driver (running needs nothing else of CUDA)"
        ) from None
    _start(library)
    return library


def _start(library: Any) -> None:
    status = library.cuInit(0)
    if status:
        raise DeviceError(f"the NVIDIA driver finds no GPU that it can use: {_words(library, status)}")
    version = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    if version.value < MINIMUM:
        needs, has = (f"{v // 1000}.{v % 1000 // 10}" for v in (MINIMUM, version.value))
        raise DeviceError(f"the NVIDIA driver is for CUDA {has}, and the model's code needs one for {needs} or newer")


def device_count() -> int:
    """The number of GPUs that the driver finds, at least 1; raises ``DeviceError`` when it finds none."""
    count = ctypes.c_int()
    call("cuDeviceGetCount", ctypes.byref(count))
    if not count.value:
        raise DeviceError("the NVIDIA driver finds no GPU: none is there, or CUDA_VISIBLE_DEVICES hides it")
    return count.value


def call(name: str, *arguments: Any) -> None:
    """Call a function of the driver; raises ``DeviceError`` with the driver's own explanation when it fails."""
    status = getattr(driver(), name)(*arguments)
    if status:
        raise DeviceError(f"the GPU failed in {name}: {_words(driver(), status)}{_ADVICE.get(status, '')}")


_ADVICE = {
    2: ": free memory of the GPU, or build for smaller inputs",
    209: ": the code was built for another architecture",
    222: ": the PTX is newer than the driver: update the driver",
    700: ": please report this; the process must be started anew",
}
"""Advice by status: out of memory, no binary for the GPU, unsupported PTX, illegal address."""


def _words(library: Any, status: int) -> str:
    """The driver's name and explanation of a status."""
    texts = []
    for function in ("cuGetErrorName", "cuGetErrorString"):
        text = ctypes.c_char_p()
        if not getattr(library, function)(status, ctypes.byref(text)) and text.value:
            texts.append(text.value.decode(errors="replace"))
    return f"{texts[0]} ({texts[1]})" if len(texts) == 2 else f"error {status}"
