// Shared memory, poisoned with 0xFF (NaN) before each block, and asynchronous copies into it.
#pragma once
#include "accesses.h"

namespace emulator {

constexpr size_t MOST_STATIC = 48 << 10;
static size_t reserved, static_bytes;  // the dynamic array comes first in the arena, then the static ones
static size_t launches;

void* dynamic_shared() { return arena; }

inline size_t reserve(size_t bytes, size_t alignment) {
  size_t at = (reserved + alignment - 1) / alignment * alignment;
  reserved = at + bytes + RED_ZONE;
  if (reserved > ARENA) fail("more than %zu bytes of shared memory", MOST_SHARED);
  arrays.push_back({at, at + bytes});
  return at;
}

void* static_shared(StaticArray& array) {
  if (array.launch != launches) {
    array.launch = launches;
    static_bytes += array.bytes;
    if (static_bytes > MOST_STATIC) fail("more than %zu bytes of static shared memory", MOST_STATIC);
    array.at = reserve(array.bytes, array.alignment);
  }
  return arena + array.at;
}

inline void begin_shared(size_t dynamic) {
  launches++;
  arrays.clear();
  reserved = static_bytes = 0;
  if (dynamic) reserve(dynamic, 1024);
  memset(arena, 0xff, ARENA);
}

inline void begin_block() { memset(arena, 0xff, reserved); }

unsigned shared_address(const void* p) {
  ptrdiff_t at = static_cast<const unsigned char*>(p) - arena;
  if (at < 0 || at >= static_cast<ptrdiff_t>(ARENA))
    fail("an address that is not in shared memory where one is needed");
  return static_cast<unsigned>(at);
}

// The cp.async copies of each thread. A copy's target is NaN from its start until its group has been waited for.
struct Copy {
  unsigned char* to;
  const void* from;
  int bytes, filled;
};
struct Copies {
  std::vector<Copy> copies;
  std::vector<size_t> groups;  // where each committed group ends
};
static Copies pending[MOST_THREADS];

void ptx_copy(unsigned to, const void* from, int bytes, int filled) {
  if (bytes != 4 && bytes != 8 && bytes != 16) fail("cp.async of %d bytes", bytes);
  if (to % bytes || (filled && reinterpret_cast<uintptr_t>(from) % bytes))
    fail("misaligned address: cp.async of %d bytes from or to an address that is no multiple", bytes);
  if (filled) any_access(from, filled, false);
  shared_access(to, bytes, current->number, true);
  memset(arena + to, 0xff, bytes);
  pending[current->number].copies.push_back({arena + to, from, bytes, filled});
}
void ptx_copy(unsigned to, const void* from, int bytes) { ptx_copy(to, from, bytes, bytes); }
void ptx_copy_if(unsigned to, const void* from, int bytes, int predicate) {
  ptx_copy(to, from, bytes, predicate ? bytes : 0);
}
void ptx_commit() {
  Copies& c = pending[current->number];
  c.groups.push_back(c.copies.size());
}
void ptx_wait(int allowed) {
  Copies& c = pending[current->number];
  int landed = static_cast<int>(c.groups.size()) - allowed;
  if (landed <= 0) return;
  size_t end = c.groups[landed - 1];
  for (size_t i = 0; i < end; i++) {
    const Copy& copy = c.copies[i];
    shared_access(copy.to - arena, copy.bytes, current->number, true);
    memcpy(copy.to, copy.from, copy.filled);
    memset(copy.to + copy.filled, 0, copy.bytes - copy.filled);
  }
  c.copies.erase(c.copies.begin(), c.copies.begin() + end);
  c.groups.erase(c.groups.begin(), c.groups.begin() + landed);
  for (size_t& g : c.groups) g -= end;
}
void ptx_wait_all() {
  ptx_commit();
  ptx_wait(0);
}

}  // namespace emulator
