// Runs launches: `program MEMORY BUFFERS LAUNCH...`. MEMORY is a file that holds all buffers. BUFFERS gives their
// places in the file, as "start end start end ...". A launch is one argument, "kernel gx gy gz bx by bz shared offset
// offset ...", whose offsets are those of its buffers in the file.
#include <fcntl.h>
#include <sys/stat.h>

#include "warp.h"

namespace emulator {

static const Kernel* kernel;
static void* arguments[64];

inline const Kernel* find(const char* name) {
  for (const Kernel* k = kernels; k->name; k++)
    if (!strcmp(k->name, name)) return k;
  fail("no kernel is called %s", name);
}

inline void launch(char* text) {
  char* rest;
  kernel = find(strtok_r(text, " ", &rest));
  auto next = [&] { return strtok_r(nullptr, " ", &rest); };
  unsigned sizes[7];
  for (unsigned& s : sizes) s = strtoul(next(), nullptr, 10);
  gridDim = {sizes[0], sizes[1], sizes[2]};
  blockDim = {sizes[3], sizes[4], sizes[5]};
  unsigned n = 0, threads = sizes[3] * sizes[4] * sizes[5];
  std::vector<size_t> offsets;
  while (char* word = next()) {
    if (n == 64) fail("%s is launched with more than 64 arguments", kernel->name);
    offsets.push_back(strtoull(word, nullptr, 10));
    arguments[n++] = memory + offsets.back();
  }
  if (n != kernel->parameters)
    fail("%s takes %u parameters and is launched with %u", kernel->name, kernel->parameters, n);
  if (threads == 0 || threads > MOST_THREADS || sizes[5] > 64)
    fail("%s is launched with %u threads", kernel->name, threads);
  if (sizes[1] > 65535 || sizes[2] > 65535 || !sizes[0] || !sizes[1] || !sizes[2])
    fail("%s is launched with a grid of %u x %u x %u blocks", kernel->name, sizes[0], sizes[1], sizes[2]);
  if (sizes[6] > MOST_SHARED) fail("%s is launched with %u bytes of shared memory", kernel->name, sizes[6]);
  make_stacks(threads);
  body = [] { kernel->run(arguments); };
  begin_accesses(offsets);
  begin_shared(sizes[6]);
  for (unsigned z = 0; z < gridDim.z; z++)
    for (unsigned y = 0; y < gridDim.y; y++)
      for (unsigned x = 0; x < gridDim.x; x++) {
        blockIdx = {x, y, z};
        begin_block();
        for (unsigned i = 0; i < threads; i++) pending[i].copies.clear(), pending[i].groups.clear();
        run_block(threads, (x + y + z) % 2);
      }
}

}  // namespace emulator

int main(int count, char** words) {
  using namespace emulator;
  int file = open(words[1], O_RDWR);
  struct stat status;
  if (file < 0 || fstat(file, &status)) {
    perror(words[1]);
    return 2;
  }
  memory_bytes = status.st_size;
  memory = static_cast<char*>(mmap(nullptr, memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
  memory_cells = static_cast<Cell*>(mmap(nullptr, memory_bytes * sizeof(Cell), PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (memory == MAP_FAILED || memory_cells == MAP_FAILED) {
    perror("mmap");
    return 2;
  }
  char* rest = words[2];
  for (size_t start; (start = strtoull(rest, &rest, 10)) != 0;) buffers.push_back({start, strtoull(rest, &rest, 10)});
  for (int i = 3; i < count; i++) launch(words[i]);
  return 0;
}
