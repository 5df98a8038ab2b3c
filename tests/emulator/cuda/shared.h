// Shared memory, poisoned with 0xFF (NaN) before each block, with red zones between arrays, and asynchronous copies into it.
#pragma once
#include <vector>
#include "fibers.h"

namespace emulator {

constexpr size_t MOST_SHARED = 228 << 10, MOST_STATIC = 48 << 10, RED_ZONE = 256;
alignas(1024) static unsigned char arena[MOST_SHARED + 64 * RED_ZONE];  // the dynamic array first, then the static ones
static size_t dynamic_bytes, reserved, static_bytes;
struct Zone { size_t at, bytes; };
static std::vector<Zone> zones;
static size_t launches;

inline void* dynamic_shared() { return arena; }

inline size_t reserve(size_t bytes, size_t alignment) {
  size_t at = (reserved + alignment - 1) / alignment * alignment;
  zones.push_back({at + bytes, RED_ZONE});
  reserved = at + bytes + RED_ZONE;
  if (reserved > sizeof arena) fail("more than %zu bytes of shared memory", MOST_SHARED);
  return at;
}

// The static array that the ID-th declaration names; it keeps its place from launch to launch.
template <class T, int ID, size_t ALIGNMENT> T& static_shared() {
  static size_t launch = 0, at = 0;
  if (launch != launches) {
    launch = launches;
    static_bytes += sizeof(T);
    if (static_bytes > MOST_STATIC) fail("more than %zu bytes of static shared memory", MOST_STATIC);
    at = reserve(sizeof(T), ALIGNMENT);
  }
  return *reinterpret_cast<T*>(arena + at);
}

inline void begin_launch(size_t dynamic) {
  launches++;
  zones.clear();
  reserved = static_bytes = 0;
  if (dynamic) reserve(dynamic, 1024);
  memset(arena, 0xff, sizeof arena);
}

inline void begin_block() { memset(arena, 0xff, reserved); }

inline void end_block() {
  for (const Zone& zone : zones)
    for (size_t i = 0; i < zone.bytes; i++)
      if (arena[zone.at + i] != 0xff) fail("a write %zu bytes past the end of an array in shared memory", i);
}

inline unsigned shared_address(const void* p) {
  ptrdiff_t at = static_cast<const unsigned char*>(p) - arena;
  if (at < 0 || at >= static_cast<ptrdiff_t>(sizeof arena)) fail("an address that is not in shared memory where one is needed");
  return static_cast<unsigned>(at);
}

// Copies by cp.async, of each thread: the target is poison from the copy's start until its group has been waited for.
struct Copy { unsigned char* to; const void* from; int bytes, filled; };
struct Copies {
  std::vector<Copy> copies;
  std::vector<size_t> groups;  // where each committed group ends
};
static Copies pending[MOST_THREADS];

inline void copy_async(unsigned to, const void* from, int bytes, int filled, int aligned) {
  if (to % aligned || reinterpret_cast<uintptr_t>(from) % aligned) fail("cp.async of %d bytes from or to an address that is no multiple", aligned);
  memset(arena + to, 0xff, bytes);
  pending[current->number].copies.push_back({arena + to, from, bytes, filled});
}
inline void ptx_copy(unsigned to, const void* from, int bytes) { copy_async(to, from, bytes, bytes, bytes); }
inline void ptx_copy(unsigned to, const void* from, int bytes, int filled) { copy_async(to, from, bytes, filled, bytes); }
inline void ptx_copy_if(unsigned to, const void* from, int bytes, int predicate) {
  if (predicate) copy_async(to, from, bytes, bytes, bytes);
  else copy_async(to, arena, bytes, 0, bytes);
}
inline void ptx_commit() { Copies& c = pending[current->number]; c.groups.push_back(c.copies.size()); }
inline void ptx_wait(int allowed) {
  Copies& c = pending[current->number];
  int landed = static_cast<int>(c.groups.size()) - allowed;
  if (landed <= 0) return;
  size_t end = c.groups[landed - 1];
  for (size_t i = 0; i < end; i++) {
    const Copy& copy = c.copies[i];
    memcpy(copy.to, copy.from, copy.filled);
    memset(copy.to + copy.filled, 0, copy.bytes - copy.filled);
  }
  c.copies.erase(c.copies.begin(), c.copies.begin() + end);
  c.groups.erase(c.groups.begin(), c.groups.begin() + landed);
  for (size_t& g : c.groups) g -= end;
}
inline void ptx_wait_all() { ptx_commit(); ptx_wait(0); }

}  // namespace emulator

#define __cvta_generic_to_shared(p) emulator::shared_address(p)
