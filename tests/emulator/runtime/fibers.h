// One fiber for each CUDA thread of a block; the blocks of a grid run one after another on one core.
//
// A fiber runs until it reaches a barrier or an operation of its warp. The warp continues when all its lanes have
// reached the same operation, and the block continues when all its threads have reached __syncthreads. Anything else
// is an error, and so is a lane that ends early.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include "../cuda/emulator.h"

uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

[[noreturn]] void fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "block (%u, %u, %u), thread (%u, %u, %u): ", blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x,
          threadIdx.y, threadIdx.z);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  _exit(3);
}

constexpr unsigned MOST_THREADS = 1024;
constexpr size_t STACK = 512 << 10, PAGE = 4096;

struct Lane;
using Meeting = void (*)(Lane* warp, unsigned lanes);

struct Lane {
#if defined(__x86_64__)
  void* context;
#else
  ucontext_t context;
#endif
  uint3 index;
  unsigned number;
  enum { READY, AT_BARRIER, AT_MEETING, DONE } state;
  Meeting meeting;  // the operation of the warp, which runs once when all lanes have reached it
  void* operands;   // the operands of that operation
};

static Lane lanes[MOST_THREADS];
static Lane* current;
static char* stacks;
static unsigned stacks_made;
static void (*body)();

// The order of memory accesses. The phase changes with each block and each __syncthreads, and never repeats; the step
// of a warp changes with each __syncwarp.
static uint32_t phase, block_phase, launch_phase;
static uint16_t steps[MOST_THREADS / WARP];

#if defined(__x86_64__)
static void* scheduler;
extern "C" void emulator_switch(void** saved, void* next);
// Saves the registers that a call must preserve, and switches to another stack. swapcontext makes two system calls.
asm(R"(
.text
.globl emulator_switch
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
inline void to_scheduler() { emulator_switch(&current->context, scheduler); }
inline void to_lane(Lane& lane) { emulator_switch(&scheduler, lane.context); }
inline void prepare(Lane& lane, char* stack, void (*entry)()) {
  void** top =
      reinterpret_cast<void**>(stack + STACK) - 2;  // the entry expects the alignment of a stack after a call
  *top = reinterpret_cast<void*>(entry);
  lane.context = top - 6;
}
#else
static ucontext_t scheduler;
inline void to_scheduler() { swapcontext(&current->context, &scheduler); }
inline void to_lane(Lane& lane) { swapcontext(&scheduler, &lane.context); }
inline void prepare(Lane& lane, char* stack, void (*entry)()) {
  getcontext(&lane.context);
  lane.context.uc_stack.ss_sp = stack + PAGE;
  lane.context.uc_stack.ss_size = STACK - PAGE;
  lane.context.uc_link = &scheduler;
  makecontext(&lane.context, entry, 0);
}
#endif

inline void wait(int state) {
  current->state = static_cast<decltype(Lane::state)>(state);
  to_scheduler();
  threadIdx = current->index;
}

// The calling lane joins an operation of its warp with its operands, and continues when the operation is done.
inline void meet(Meeting meeting, void* operands) {
  current->meeting = meeting;
  current->operands = operands;
  wait(Lane::AT_MEETING);
}

inline void entry() {
  body();
  wait(Lane::DONE);
}

inline void make_stacks(unsigned threads) {
  if (!stacks)
    stacks = static_cast<char*>(mmap(nullptr, MOST_THREADS * STACK, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (stacks == MAP_FAILED) fail("no memory for stacks");
  for (; stacks_made < threads; stacks_made++) mprotect(stacks + stacks_made * STACK, PAGE, PROT_NONE);  // a guard
}

// Runs the lanes of a warp until they reach the barrier of the block (true) or end (false).
inline bool run_warp(Lane* warp, unsigned size, bool backwards) {
  for (;;) {
    unsigned counts[4] = {};
    for (unsigned i = 0; i < size; i++) {
      Lane& lane = warp[backwards ? size - 1 - i : i];
      if (lane.state == Lane::READY) {
        current = &lane;
        threadIdx = lane.index;
        to_lane(lane);
      }
      counts[lane.state]++;
    }
    if (counts[Lane::DONE] == size) return false;
    if (counts[Lane::AT_BARRIER] == size) return true;
    for (unsigned i = 0; i < size; i++)
      if (warp[i].state != Lane::AT_MEETING || warp[i].meeting != warp[0].meeting)
        fail("the warp has diverged: %u lanes at a warp operation (or several), %u at __syncthreads, %u ended",
             counts[Lane::AT_MEETING], counts[Lane::AT_BARRIER], counts[Lane::DONE]);
    warp[0].meeting(warp, size);
    for (unsigned i = 0; i < size; i++) warp[i].state = Lane::READY;
  }
}

// Warps and lanes run in forward and in reverse order by turns, from block to block and from barrier to barrier, so
// that results which depend on their order differ.
inline void run_block(unsigned threads, bool backwards) {
  for (unsigned i = 0; i < threads; i++) {
    lanes[i].state = Lane::READY;
    lanes[i].number = i;
    lanes[i].index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    prepare(lanes[i], stacks + i * STACK, entry);
  }
  block_phase = phase + 1;
  unsigned warps = (threads + WARP - 1) / WARP, waiting = 1;
  for (; waiting; backwards = !backwards) {
    if (++phase == 0) fail("too many barriers");
    waiting = 0;
    for (unsigned i = 0; i < warps; i++) {
      unsigned first = (backwards ? warps - 1 - i : i) * WARP;
      waiting += run_warp(lanes + first, threads - first < WARP ? threads - first : WARP, backwards);
    }
    if (waiting && waiting != warps)
      fail("__syncthreads is reached by %u of %u warps, and the others ended", waiting, warps);
    for (unsigned i = 0; waiting && i < threads; i++) lanes[i].state = Lane::READY;
  }
}

inline void step(Lane* warp, unsigned) { steps[warp->number / WARP]++; }

int lane() { return current->number % WARP; }
int lanes_of_warp() {
  unsigned rest = blockDim.x * blockDim.y * blockDim.z - current->number / WARP * WARP;
  return rest < WARP ? rest : WARP;
}

}  // namespace emulator

void __syncthreads() { emulator::wait(emulator::Lane::AT_BARRIER); }
void __syncwarp(unsigned) { emulator::meet(emulator::step, nullptr); }
