"""The emulator itself: it runs correct kernels, and detects everything that a kernel must not do."""

from __future__ import annotations

import numpy as np
import pytest
from emulator import EmulationError, run

from convc.backends.cuda.launch import DeviceCode, Launch

HEADER = "#include <cuda_fp16.h>\n#define uchar unsigned char\n"


def one(body: str, block: tuple[int, int, int] = (64, 1, 1), shared: int = 0, grid: int = 1) -> DeviceCode:
    """The launch of a kernel ``k(const float* x, float* y)`` with this body."""
    source = f'{HEADER}extern "C" __global__ void k(float* __restrict__ x, float* __restrict__ y) {{ {body} }}\n'
    return DeviceCode(source, (Launch("k", (grid, 1, 1), block, shared, (0, 1)),))


def result(code: DeviceCode, x: np.ndarray, size: int = 64) -> np.ndarray:
    y = np.full(size, -1, np.float32)
    run(code, [x, y])
    return y


X = np.arange(64, dtype=np.float32)
REVERSE = (
    "__shared__ alignas(64) float s[64]; s[threadIdx.x] = x[threadIdx.x]; %s y[threadIdx.x] = s[63 - threadIdx.x];"
)
COPY = """
  extern __shared__ __align__(64) uchar buffer[];
  unsigned to = __cvta_generic_to_shared((char*)buffer + threadIdx.x * 16);
  if (threadIdx.x < 16)
    __asm__ __volatile__("cp.async.cg.shared.global [%%0], [%%1], %%2;" :: "r"(to), "l"(x + threadIdx.x * 4), "n"(16));
  %s
  %s
  __syncthreads();
  y[threadIdx.x] = ((float*)buffer)[threadIdx.x];"""
COMMIT, WAIT = 'asm volatile("cp.async.commit_group;" : : );', 'asm volatile("cp.async.wait_group 0;" : : : "memory");'


def test_threads_meet_at_a_barrier() -> None:
    np.testing.assert_array_equal(result(one(REVERSE % "__syncthreads();"), X), X[::-1])


def test_shared_memory_starts_as_poison() -> None:
    assert np.isnan(result(one("__shared__ float s[64]; y[threadIdx.x] = s[threadIdx.x];"), X)).all()


def test_lanes_of_a_warp_meet_too() -> None:
    y = result(one(REVERSE.replace("63 -", "31 -") % "__syncwarp();", (32, 1, 1)), X, 32)
    np.testing.assert_array_equal(y, X[31::-1])


def test_asynchronous_copy() -> None:
    np.testing.assert_array_equal(result(one(COPY % (COMMIT, WAIT), shared=256), X), X)


@pytest.mark.parametrize("kept", [(COMMIT, ""), ("", WAIT), ("", "")], ids=["no wait", "no commit", "neither"])
def test_a_copy_not_waited_for_has_not_landed(kept: tuple[str, str]) -> None:
    assert np.isnan(result(one(COPY % kept, shared=256), X)).all()


def test_shuffles_sum_a_warp() -> None:
    body = (
        "float v = x[threadIdx.x]; for (int d = 16; d; d /= 2) v += __shfl_down_sync(~0u, v, d, 32); "
        "v = __shfl_sync(~0u, v, 0, 32); y[threadIdx.x] = v;"
    )
    np.testing.assert_array_equal(result(one(body), X), np.repeat([X[:32].sum(), X[32:].sum()], 32))


def test_halves_round_as_the_hardware_does() -> None:
    body = "half a = __float2half_rn(x[threadIdx.x] / 7.0f); y[threadIdx.x] = __half2float(a * a + a);"
    a = (X / np.float32(7)).astype(np.float16)
    np.testing.assert_array_equal(result(one(body), X), (a * a + a).astype(np.float32))


WRONG = [
    (REVERSE % "", "thread 32 of the block writes byte 128 of shared memory, which thread 31 of the block read"),
    (REVERSE % "__syncthreads();" + " s[threadIdx.x] = 0;", "a race"),
    (REVERSE % "__syncwarp();", "a race"),
    ("y[threadIdx.x] = 1; x[threadIdx.x] = y[63 - threadIdx.x];", "a race: .* of the kernel's buffer 1"),
    (
        "y[threadIdx.x / 2] = 1;",
        "a race: thread 1 of the block writes byte 0 of the kernel's buffer 1, which thread 0 of the block wrote",
    ),
    (
        "y[threadIdx.x] = x[threadIdx.x + 1];",
        "4 bytes read out of bounds: 256 bytes after the start of the kernel's buffer 0, which has 256",
    ),
    ("y[threadIdx.x] = x[(int)threadIdx.x - 1];", "4 bytes read out of bounds: -4 bytes after the start"),
    ("if (threadIdx.x < 32) __syncthreads(); y[threadIdx.x] = 0;", "__syncthreads is reached by 1 of 2 warps"),
    ("if (threadIdx.x < 20) __syncthreads(); y[threadIdx.x] = 0;", "the warp has diverged"),
    ("if (threadIdx.x == 63) __syncwarp(); else __syncthreads();", "the warp has diverged"),
    ("y[threadIdx.x + 1] = 0;", "4 bytes written out of bounds: 256 bytes after the start of the kernel's buffer 1"),
    ("y[(int)threadIdx.x - 1] = 0;", "4 bytes written out of bounds"),
    (
        "__shared__ float s[64]; s[threadIdx.x + 1] = 0; y[threadIdx.x] = 0;",
        "4 bytes written out of bounds of every array in shared memory",
    ),
    ("*(float4*)(y + threadIdx.x) = make_float4(0, 0, 0, 0);", "misaligned address"),
    ("y[threadIdx.x * 100000000] = 0;", "signal"),
    ("y[threadIdx.x] = __shfl_sync(~0u, x[threadIdx.x], 40, 64);", "a shuffle from lane 40 of 32"),
    ('asm volatile("wgmma.fence.sync.aligned;");', "does not know the PTX"),
    ("y[threadIdx.x] = nothing;", "was not declared"),
]


@pytest.mark.parametrize(("body", "message"), WRONG, ids=[b[:40] for b, _ in WRONG])
def test_what_no_kernel_may_do(body: str, message: str) -> None:
    with pytest.raises(EmulationError, match=message):
        result(one(body), X)


def test_blocks_that_write_the_same_place() -> None:
    with pytest.raises(EmulationError, match="of the kernel's buffer 1, which another block wrote"):
        result(one("y[threadIdx.x] = blockIdx.x;", grid=2), X)


def test_a_launch_that_does_not_fit_its_kernel() -> None:
    code = one("y[threadIdx.x] = 0;")
    with pytest.raises(EmulationError, match="takes 2 parameters and is launched with 1"):
        run(DeviceCode(code.source, (Launch("k", (1, 1, 1), (64, 1, 1), 0, (1,)),)), [X, X.copy()])
    with pytest.raises(EmulationError, match="2048 threads"):
        run(DeviceCode(code.source, (Launch("k", (1, 1, 1), (2048, 1, 1), 0, (0, 1)),)), [X, X.copy()])


def test_scratch_memory_lies_after_the_arguments() -> None:
    source = (
        HEADER
        + 'extern "C" __global__ void a(float* x, float* t) { t[threadIdx.x] = x[threadIdx.x] + 1; }\n'
        + 'extern "C" __global__ void b(float* t, float* y) { y[threadIdx.x] = 2 * t[threadIdx.x]; }\n'
    )
    block = ((1, 1, 1), (64, 1, 1), 0)
    code = DeviceCode(source, (Launch("a", *block, (0, -1 - 512)), Launch("b", *block, (-1 - 512, 1))), 512 + 256)
    np.testing.assert_array_equal(result(code, X), 2 * (X + 1))


MMA = """
  unsigned a[4], b[2]; float c[4] = {0, 0, 0, 0};
  __shared__ alignas(64) half s[384];
  for (int i = threadIdx.x; i < 384; i += 32) s[i] = half(x[i]);
  __syncthreads();
  unsigned pa = __cvta_generic_to_shared(s + threadIdx.x % 16 * 16 + threadIdx.x / 16 * 8);
  unsigned pb = __cvta_generic_to_shared(s + 256 + threadIdx.x % 16 * 8);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
    : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3]) : "r"(pa));
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(b[0]), "=r"(b[1]) : "r"(pb));
  asm volatile(
    "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
    : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])
    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
  for (int i = 0; i < 4; i++) y[(threadIdx.x / 4 + i / 2 * 8) * 8 + threadIdx.x % 4 * 2 + i % 2] = c[i];
"""


def test_matrix_product_of_a_warp() -> None:
    x = np.random.default_rng(0).integers(-8, 8, 384).astype(np.float32)
    y = result(one(MMA, (32, 1, 1)), x, 128)
    np.testing.assert_array_equal(y.reshape(16, 8), x[:256].reshape(16, 16) @ x[256:].reshape(16, 8))
