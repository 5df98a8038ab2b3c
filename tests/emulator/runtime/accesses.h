// Checks every access of a kernel to memory, which -fsanitize=thread reports by a call before it. The access must be in
// bounds, and a barrier must lie between it and accesses of other threads to the same bytes. Each byte has a record of
// its last write and its last reads.
#pragma once
#include <algorithm>
#include <vector>

#include "fibers.h"

namespace emulator {

constexpr size_t MOST_SHARED = 228 << 10, RED_ZONE = 256, ARENA = MOST_SHARED + 64 * RED_ZONE;
alignas(1024) static unsigned char arena[ARENA];  // the shared memory of a block

constexpr uint16_t WHOLE_WARP = 0x8000, MANY = 0xffff;
struct Access {
  uint32_t phase;
  uint16_t thread;  // or WHOLE_WARP | warp for several threads of a warp, or MANY for threads of several warps
  uint16_t step;
};
struct Cell {
  Access write, read;
};
struct Range {
  size_t start, end;
};
static Cell arena_cells[ARENA];
static std::vector<Range> arrays;  // the arrays in the launch's shared memory
static char* memory;               // the memory of the GPU, and a record for each byte
static size_t memory_bytes;
static Cell* memory_cells;
static std::vector<Range> buffers, of_launch;  // all buffers; those that the launch was given

inline unsigned warp_of(const Access& a) { return a.thread & WHOLE_WARP ? a.thread & ~WHOLE_WARP : a.thread / WARP; }

// Whether an earlier access and the current one of a thread may happen in either order.
inline bool unordered(const Access& earlier, unsigned thread, bool global) {
  if (earlier.phase != phase) return global && earlier.phase >= launch_phase && earlier.phase < block_phase;
  if (earlier.thread == thread) return false;
  return earlier.thread == MANY || warp_of(earlier) != thread / WARP || earlier.step == steps[thread / WARP];
}

inline void remember_read(Access& last, unsigned thread) {
  Access now{phase, static_cast<uint16_t>(thread), steps[thread / WARP]};
  if (last.phase != phase || last.thread == thread)
    last = now;
  else if (last.thread == MANY || warp_of(last) != thread / WARP)
    last.thread = MANY;
  else if (last.step != now.step)
    last = now;
  else
    last.thread = WHOLE_WARP | thread / WARP;
}

[[noreturn]] inline void race(const char* now, const char* before, const Access& other, unsigned thread, bool global,
                              size_t at) {
  char who[64] = "other threads", where[64] = "shared memory";
  if (other.phase != phase)
    strcpy(who, "another block");
  else if (!(other.thread & WHOLE_WARP))
    snprintf(who, sizeof who, "thread %u of the block", other.thread);
  for (size_t i = of_launch.size(); global && i-- > 0;)
    if (at >= of_launch[i].start && at < of_launch[i].end) {
      snprintf(where, sizeof where, "the kernel's buffer %zu", i);
      at -= of_launch[i].start;
      break;
    }
  fail("a race: thread %u of the block %s byte %zu of %s, which %s %s with no barrier between", thread, now, at, where,
       who, before);
}

inline void access(Cell* cells, size_t at, size_t bytes, unsigned thread, bool write, bool global) {
  for (Cell* cell = cells + at; bytes--; cell++) {
    if (unordered(cell->write, thread, global))
      race(write ? "writes" : "reads", "wrote", cell->write, thread, global, cell - cells);
    if (write) {
      if (unordered(cell->read, thread, global)) race("writes", "read", cell->read, thread, global, cell - cells);
      cell->write = {phase, static_cast<uint16_t>(thread), steps[thread / WARP]};
    } else {
      remember_read(cell->read, thread);
    }
  }
}

inline void shared_access(size_t at, size_t bytes, unsigned thread, bool write) {
  for (const Range& r : arrays)
    if (at >= r.start && at + bytes <= r.end) return access(arena_cells, at, bytes, thread, write, false);
  fail("%zu bytes %s out of bounds of every array in shared memory", bytes, write ? "written" : "read");
}

inline void global_access(size_t at, size_t bytes, unsigned thread, bool write) {
  for (const Range& r : of_launch)
    if (at >= r.start && at + bytes <= r.end) return access(memory_cells, at, bytes, thread, write, true);
  for (size_t i = 0; i < of_launch.size(); i++)
    if (at + bytes + 4096 > of_launch[i].start && at < of_launch[i].end + 4096)
      fail("%zu bytes %s out of bounds: %td bytes after the start of the kernel's buffer %zu, which has %zu bytes",
           bytes, write ? "written" : "read", static_cast<ptrdiff_t>(at - of_launch[i].start), i,
           of_launch[i].end - of_launch[i].start);
  fail("%zu bytes %s in no buffer of the kernel", bytes, write ? "written" : "read");
}

inline void any_access(const void* p, size_t bytes, bool write) {
  size_t in_arena = static_cast<const unsigned char*>(p) - arena, in_memory = static_cast<const char*>(p) - memory;
  if (in_arena < ARENA)
    shared_access(in_arena, bytes, current->number, write);
  else if (in_memory < memory_bytes)
    global_access(in_memory, bytes, current->number, write);
}

// The buffers that a launch's arguments point into.
inline void begin_accesses(const std::vector<size_t>& offsets) {
  launch_phase = phase + 1;
  of_launch.clear();
  for (size_t offset : offsets) {
    auto found = std::find_if(buffers.begin(), buffers.end(),
                              [&](const Range& r) { return offset >= r.start && offset <= r.end; });
    if (found == buffers.end()) fail("an argument at offset %zu, which is in no buffer", offset);
    of_launch.push_back(*found);
  }
}

}  // namespace emulator

extern "C" {
#define ACCESS(n)                                                               \
  void __tsan_read##n(void* p) { emulator::any_access(p, n, false); }           \
  void __tsan_write##n(void* p) { emulator::any_access(p, n, true); }           \
  void __tsan_unaligned_read##n(void* p) { emulator::any_access(p, n, false); } \
  void __tsan_unaligned_write##n(void* p) { emulator::any_access(p, n, true); } \
  void __tsan_volatile_read##n(void* p) { emulator::any_access(p, n, false); }  \
  void __tsan_volatile_write##n(void* p) { emulator::any_access(p, n, true); }
ACCESS(1) ACCESS(2) ACCESS(4) ACCESS(8) ACCESS(16) void __tsan_read_range(void* p, size_t n) {
  emulator::any_access(p, n, false);
}
void __tsan_write_range(void* p, size_t n) { emulator::any_access(p, n, true); }
void __tsan_init() {}
}
