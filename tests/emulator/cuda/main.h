// Runs launches: `program MEMORY LAUNCH...`, where MEMORY is a file that holds every buffer, and a launch is one argument,
// "kernel gx gy gz bx by bz shared offset offset ...", the offsets being those of the kernel's buffers in the file.
#pragma once
#include <fcntl.h>
#include <sys/stat.h>
#include "shim.h"

namespace emulator {

struct Kernel {
  const char* name;
  void (*run)(void** arguments);
  unsigned parameters;
};
extern const Kernel kernels[];

template <class... A, size_t... I> void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) { kernel(static_cast<A>(arguments[I])...); }
template <auto KERNEL> struct Caller;
template <class... A, void (*KERNEL)(A...)> struct Caller<KERNEL> {
  static constexpr unsigned PARAMETERS = sizeof...(A);
  static void run(void** arguments) { call(KERNEL, arguments, std::index_sequence_for<A...>()); }
};

static const Kernel* kernel;
static void* arguments[64];

inline const Kernel* find(const char* name) {
  for (const Kernel* k = kernels; k->name; k++)
    if (!strcmp(k->name, name)) return k;
  fail("no kernel is called %s", name);
}

inline void launch(char* memory, size_t bytes, char* text) {
  char* rest;
  kernel = find(strtok_r(text, " ", &rest));
  auto next = [&] { return strtok_r(nullptr, " ", &rest); };
  unsigned sizes[7];
  for (unsigned& s : sizes) s = strtoul(next(), nullptr, 10);
  gridDim = {sizes[0], sizes[1], sizes[2]};
  blockDim = {sizes[3], sizes[4], sizes[5]};
  unsigned n = 0, threads = sizes[3] * sizes[4] * sizes[5];
  while (char* word = next()) {
    size_t offset = strtoull(word, nullptr, 10);
    if (n == 64 || offset > bytes) fail("a launch of %s with an argument that is none", kernel->name);
    arguments[n++] = memory + offset;
  }
  if (n != kernel->parameters) fail("%s takes %u parameters and is launched with %u", kernel->name, kernel->parameters, n);
  if (threads == 0 || threads > MOST_THREADS || sizes[5] > 64) fail("%s is launched with %u threads", kernel->name, threads);
  if (sizes[1] > 65535 || sizes[2] > 65535 || !sizes[0] || !sizes[1] || !sizes[2]) fail("%s is launched with a grid of %u x %u x %u blocks", kernel->name, sizes[0], sizes[1], sizes[2]);
  if (sizes[6] > MOST_SHARED) fail("%s is launched with %u bytes of shared memory", kernel->name, sizes[6]);
  make_stacks(threads);
  body = [] { kernel->run(arguments); };
  begin_launch(sizes[6]);
  for (unsigned z = 0; z < gridDim.z; z++)
    for (unsigned y = 0; y < gridDim.y; y++)
      for (unsigned x = 0; x < gridDim.x; x++) {
        blockIdx = {x, y, z};
        begin_block();
        for (unsigned i = 0; i < threads; i++) pending[i].copies.clear(), pending[i].groups.clear();
        run_block(threads, (x + y + z) % 2);
        end_block();
      }
}

}  // namespace emulator

int main(int count, char** words) {
  int file = open(words[1], O_RDWR);
  struct stat status;
  if (file < 0 || fstat(file, &status)) { perror(words[1]); return 2; }
  void* memory = mmap(nullptr, status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) { perror("mmap"); return 2; }
  for (int i = 2; i < count; i++) emulator::launch(static_cast<char*>(memory), status.st_size, words[i]);
  return 0;
}
