// A stand-in for libcuda.so.1, to test how convc calls the driver on machines without one. The memory of a device is
// host memory, and kernel launches are only recorded. Environment variables set its behaviour: FAKE_CUDA_STATUS is the
// result of cuInit, FAKE_CUDA_VERSION the version of the driver, FAKE_CUDA_ARCH the compute capability of the devices,
// FAKE_CUDA_COUNT their number, and FAKE_CUDA_FAIL the name of a function that fails with "out of memory".
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

typedef void* Handle;
typedef unsigned int uint;

static int setting(const char* name, int otherwise) {
  const char* text = getenv(name);
  return text ? atoi(text) : otherwise;
}

struct Module {
  std::string code;
};
struct Function {
  std::string name;
  int shared = 49152;
};
static std::vector<std::string>* captured = nullptr;
static int streams = 0, events = 0;

static int failed(const char* function) {
  const char* which = getenv("FAKE_CUDA_FAIL");
  return which && !strcmp(which, function) ? 2 : 0;
}

static int say(const std::string& line) {
  if (captured)
    captured->push_back(line);
  else
    printf("%s\n", line.c_str()), fflush(stdout);
  return 0;
}

extern "C" {
int cuInit(uint flags) { return flags ? 1 : setting("FAKE_CUDA_STATUS", 0); }
int cuDriverGetVersion(int* version) { return *version = setting("FAKE_CUDA_VERSION", 13000), 0; }
int cuDeviceGetCount(int* count) { return *count = setting("FAKE_CUDA_COUNT", 1), 0; }
int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, 0; }
int cuDeviceGetName(char* name, int length, int) { return strncpy(name, "Fake GPU", length), 0; }
int cuDeviceGetAttribute(int* value, int which, int) {
  int arch = setting("FAKE_CUDA_ARCH", 80);
  *value = which == 75 ? arch / 10 : which == 76 ? arch % 10 : -1;
  return 0;
}
int cuDevicePrimaryCtxRetain(Handle* context, int device) { return *context = (Handle)(intptr_t)(device + 100), 0; }
int cuCtxPushCurrent_v2(Handle) { return 0; }
int cuCtxPopCurrent_v2(Handle*) { return 0; }
int cuGetErrorName(int status, const char** text) { return *text = status == 100 ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR_OUT_OF_MEMORY", 0; }
int cuGetErrorString(int status, const char** text) { return *text = status == 100 ? "no CUDA-capable device is detected" : "out of memory", 0; }

int cuMemAlloc_v2(uint64_t* address, size_t size) {
  if (!size) return 1;
  return *address = (uint64_t)aligned_alloc(256, (size + 255) / 256 * 256), say("allocate"), failed("cuMemAlloc_v2");
}
int cuMemFree_v2(uint64_t address) { return free((void*)address), say("free"); }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t size, Handle) { return memcpy((void*)to, from, size), 0; }
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t size, Handle) { return memcpy(to, (void*)from, size), 0; }
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, Handle) { return memcpy((void*)to, (void*)from, size), 0; }

int cuModuleLoadData(Handle* module, const void* image) {
  *module = new Module{std::string((const char*)image, 4)};
  return say("load " + ((Module*)*module)->code.substr(1));
}
int cuModuleUnload(Handle module) { return delete (Module*)module, say("unload"); }
int cuModuleGetFunction(Handle* function, Handle, const char* name) { return *function = new Function{name}, 0; }
int cuFuncLoad(Handle) { return captured ? 900 : 0; }
int cuFuncSetAttribute(Handle f, int which, int value) {
  ((Function*)f)->shared = value;
  return which == 8 ? 0 : 1;
}
int cuLaunchKernel(Handle f, uint gx, uint gy, uint gz, uint bx, uint by, uint bz, uint shared, Handle stream, void** parameters, void** extra) {
  Function* function = (Function*)f;
  if (extra || (int)shared > function->shared || !*(uint64_t*)parameters[0]) return 1;
  char line[500];
  snprintf(line, sizeof line, "launch %s %u,%u,%u %u,%u,%u %u", function->name.c_str(), gx, gy, gz, bx, by, bz, shared);
  return say(line);
}

int cuStreamCreate(Handle* stream, uint flags) { return *stream = (Handle)(intptr_t)(1000 + ++streams), flags != 1; }
int cuStreamDestroy_v2(Handle) { return 0; }
int cuStreamSynchronize(Handle) { return captured ? 900 : 0; }
int cuStreamBeginCapture_v2(Handle stream, int mode) { return captured = new std::vector<std::string>, !stream || mode != 1; }
int cuStreamEndCapture(Handle, Handle* graph) { return *graph = captured, captured = nullptr, 0; }
int cuGraphInstantiateWithFlags(Handle* runnable, Handle graph, unsigned long long flags) {
  return *runnable = new std::vector<std::string>(*(std::vector<std::string>*)graph), (int)flags;
}
int cuGraphDestroy(Handle graph) { return delete (std::vector<std::string>*)graph, 0; }
int cuGraphExecDestroy(Handle runnable) { return delete (std::vector<std::string>*)runnable, say("graph destroyed"); }
int cuGraphLaunch(Handle runnable, Handle stream) {
  printf("graph on %ld\n", (long)(intptr_t)stream);
  for (auto& line : *(std::vector<std::string>*)runnable) say(line);
  return 0;
}

int cuEventCreate(Handle* event, uint flags) { return *event = (Handle)(intptr_t)++events, flags != 2; }
int cuEventRecord(Handle event, Handle stream) { return printf("event %ld on %ld\n", (long)(intptr_t)event, (long)(intptr_t)stream), 0; }
int cuStreamWaitEvent(Handle stream, Handle event, uint) { return printf("%ld waits for event %ld\n", (long)(intptr_t)stream, (long)(intptr_t)event), 0; }
int cuEventDestroy_v2(Handle) { return 0; }
}
