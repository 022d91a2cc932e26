// The part of CUDA's runtime and driver that CuPy and this library use, on the host: memory is the host's, kernels are
// functions of libraries that the simulator's compiler made, and streams are queues whose work is put off for as long
// as CUDA allows. What forgets to wait, or to say that it waits, then reads what is not there yet.
//
// With HOST_CUPY_FENCED set, what reads or writes beyond the end of an allocation, or in freed memory, is a segmentation fault.
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <sys/mman.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))
#define LOCKED std::lock_guard<std::recursive_mutex> guard(lock)

using Step = std::function<void()>;

static std::recursive_mutex lock;
static const bool fenced = getenv("HOST_CUPY_FENCED") != nullptr;
static const size_t capacity = 8ull << 30;
static const int devices = 2;
static thread_local int current = 0;

// Memory.

struct Block {
    size_t size;
    int device;
    bool host;  // page-locked memory of the host
};

static std::map<uintptr_t, Block> blocks;
static size_t used[devices];

static const Block* block_of(const void* at, size_t size) {
    auto after = blocks.upper_bound((uintptr_t)at);
    if (after == blocks.begin()) return nullptr;
    const auto& [start, block] = *--after;
    return (uintptr_t)at + size <= start + block.size ? &block : nullptr;
}

static bool on_device(const void* at, size_t size) {
    const Block* block = block_of(at, size);
    return block && !block->host;
}

static size_t rounded(size_t size, size_t to) { return (size + to - 1) / to * to; }

static constexpr size_t page = 4096;

static void* allocate(size_t size, bool host) {
    char* memory;
    if (fenced && !host) {
        // The last bytes lie before a page that cannot be touched.
        const size_t whole = rounded(size, page);
        char* base = (char*)mmap(nullptr, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base == MAP_FAILED) return nullptr;
        mprotect(base + whole, page, PROT_NONE);
        memory = base + whole - rounded(size, 16);
    } else {
        memory = (char*)aligned_alloc(512, rounded(size, 512) + 512);
        if (!memory) return nullptr;
    }
    std::memset(memory, 0xff, size);  // NaN
    blocks[(uintptr_t)memory] = {size, current, host};
    if (!host) used[current] += size;
    return memory;
}

static bool release(void* memory, bool host) {
    auto found = blocks.find((uintptr_t)memory);
    if (found == blocks.end() || found->second.host != host) return false;
    const size_t size = found->second.size;
    if (!host) used[found->second.device] -= size;
    blocks.erase(found);
    if (fenced && !host) {
        munmap((char*)memory + rounded(size, 16) - rounded(size, page), rounded(size, page) + page);
    } else {
        std::memset(memory, 0xfd, size);
        free(memory);
    }
    return true;
}

// Streams. A recording takes the place of the queue while a stream is captured.

struct Stream {
    int device = 0;
    bool waits_for_default = true;
    std::deque<Step> queue;
    unsigned long long pushed = 0, done = 0;
    std::shared_ptr<std::vector<Step>> recording;
    bool invalid = false;
};

using Graph = std::shared_ptr<std::vector<Step>>;

struct Event {
    Stream* stream = nullptr;
    unsigned long long position = 0;
    bool recorded = false, captured = false;
    double at = 0;
};

static Stream defaults[devices];
static std::set<Stream*> streams;

static Stream* stream_of(const void* handle) {
    return (uintptr_t)handle <= 2 ? &defaults[current] : (Stream*)handle;
}

static bool is_default(const Stream* stream) { return stream >= defaults && stream < defaults + devices; }

static void run_until(Stream* stream, unsigned long long position) {
    if (!is_default(stream) && !streams.count(stream)) return;  // destroyed, after its work
    while (stream->done < position && !stream->queue.empty()) {
        const Step step = std::move(stream->queue.front());
        stream->queue.pop_front();
        step();
        ++stream->done;
    }
}

static void finish(Stream* stream) { run_until(stream, stream->pushed); }

static void finish_all() {
    for (Stream& stream : defaults) finish(&stream);
    for (Stream* stream : std::set<Stream*>(streams)) finish(stream);
}

static void push(Stream* stream, Step step) {
    if (stream->recording) return stream->recording->push_back(step);
    // The default stream and those that are not "non-blocking" wait for each other's earlier work.
    std::vector<std::pair<Stream*, unsigned long long>> earlier;
    if (is_default(stream)) {
        for (Stream* other : streams)
            if (other->waits_for_default && other->device == stream->device) earlier.push_back({other, other->pushed});
    } else if (stream->waits_for_default) {
        earlier.push_back({&defaults[stream->device], defaults[stream->device].pushed});
    }
    ++stream->pushed;
    stream->queue.push_back([earlier, step] {
        for (const auto& [other, position] : earlier) run_until(other, position);
        step();
    });
}

static double milliseconds() {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double, std::milli>(now).count();
}

// Errors.

static thread_local cudaError_t last = cudaSuccess;

static cudaError_t fail(cudaError_t error, const char* why = nullptr) {
    if (why) std::fprintf(stderr, "CUDA on the host: %s\n", why);
    return last = error;
}

static cudaError_t not_captured(const char* what) {
    for (Stream* stream : streams) stream->invalid |= stream->recording != nullptr;
    return fail(cudaErrorStreamCaptureUnsupported, (std::string(what) + " during a capture").c_str());
}

static bool capturing() {
    for (const Stream* stream : streams)
        if (stream->recording) return true;
    return false;
}

API const char* host_cudaGetErrorName(cudaError_t error) {
    static const std::map<int, const char*> names = {
        {cudaErrorInvalidValue, "cudaErrorInvalidValue"},
        {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation"},
        {cudaErrorInvalidDevice, "cudaErrorInvalidDevice"},
        {cudaErrorNotReady, "cudaErrorNotReady"},
        {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported"},
        {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated"},
    };
    const auto found = names.find(error);
    return found == names.end() ? "cudaErrorUnknown" : found->second;
}
API const char* host_cudaGetErrorString(cudaError_t error) { return host_cudaGetErrorName(error); }
API cudaError_t host_cudaGetLastError() {
    const cudaError_t error = last;
    last = cudaSuccess;
    return error;
}
API cudaError_t host_missing(const char* name) {
    return fail(cudaErrorNotSupported, (std::string(name) + " is not there").c_str());
}

// Devices.

API cudaError_t host_cudaDriverGetVersion(int* version) { return *version = CUDA_VERSION, cudaSuccess; }
API cudaError_t host_cudaRuntimeGetVersion(int* version) { return *version = CUDA_VERSION, cudaSuccess; }
API cudaError_t host_cudaGetDeviceCount(int* count) { return *count = devices, cudaSuccess; }
API cudaError_t host_cudaGetDevice(int* device) { return *device = current, cudaSuccess; }
API cudaError_t host_cudaSetDevice(int device) {
    if (device < 0 || device >= devices) return fail(cudaErrorInvalidDevice);
    return current = device, cudaSuccess;
}
API cudaError_t host_cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    static const std::map<int, int> known = {
        {cudaDevAttrComputeCapabilityMajor, 9},
        {cudaDevAttrMultiProcessorCount, 132},
        {cudaDevAttrMaxThreadsPerBlock, 1024},
        {cudaDevAttrMaxSharedMemoryPerBlock, 48 << 10},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, 227 << 10},
        {cudaDevAttrWarpSize, 32},
        {cudaDevAttrMaxThreadsPerMultiProcessor, 2048},
    };
    if (device < 0 || device >= devices) return fail(cudaErrorInvalidDevice);
    const auto found = known.find(attribute);
    return *value = found == known.end() ? 0 : found->second, cudaSuccess;
}
API cudaError_t host_cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    if (device < 0 || device >= devices) return fail(cudaErrorInvalidDevice);
    std::memset(properties, 0, sizeof *properties);
    std::strcpy(properties->name, "The host");
    properties->totalGlobalMem = capacity;
    properties->major = 9;
    properties->multiProcessorCount = 132;
    properties->warpSize = 32;
    return cudaSuccess;
}
API cudaError_t host_cudaDeviceSynchronize() {
    LOCKED;
    if (capturing()) return not_captured("cudaDeviceSynchronize");
    return finish_all(), cudaSuccess;
}
API cudaError_t host_cudaDeviceCanAccessPeer(int* can, int, int) { return *can = 0, cudaSuccess; }
API cudaError_t host_cudaMemGetInfo(size_t* free, size_t* total) {
    LOCKED;
    *total = capacity;
    return *free = capacity - used[current], cudaSuccess;
}

// Memory.

API cudaError_t host_cudaMalloc(void** memory, size_t size) {
    LOCKED;
    if (used[current] + size > capacity) return fail(cudaErrorMemoryAllocation);
    return (*memory = allocate(size, false)) ? cudaSuccess : fail(cudaErrorMemoryAllocation);
}
API cudaError_t host_cudaFree(void* memory) {
    LOCKED;
    finish_all();  // as the real one waits
    return !memory || release(memory, false) ? cudaSuccess : fail(cudaErrorInvalidValue);
}
API cudaError_t host_cudaHostAlloc(void** memory, size_t size, unsigned) {
    LOCKED;
    return (*memory = allocate(size, true)) ? cudaSuccess : fail(cudaErrorMemoryAllocation);
}
API cudaError_t host_cudaFreeHost(void* memory) {
    LOCKED;
    finish_all();
    return !memory || release(memory, true) ? cudaSuccess : fail(cudaErrorInvalidValue);
}
API cudaError_t host_cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* at) {
    LOCKED;
    std::memset(attributes, 0, sizeof *attributes);
    const Block* block = block_of(at, 0);
    attributes->type = !block ? cudaMemoryTypeUnregistered : block->host ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
    attributes->device = block ? block->device : -2;
    return cudaSuccess;
}
API cudaError_t host_cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t handle) {
    LOCKED;
    const bool down = kind == cudaMemcpyDeviceToHost, up = kind == cudaMemcpyHostToDevice;
    if (size && kind != cudaMemcpyDefault && (on_device(to, size) == down || on_device(from, size) == up))
        return fail(cudaErrorInvalidValue, "a copy of memory that is not where it is said to be");
    Stream* stream = stream_of(handle);
    const Block *target = block_of(to, size), *source = block_of(from, size);
    if (is_default(stream) && target && source && target->device != source->device) {
        finish_all();  // in the default stream a copy between devices waits for both, and both for it
        return std::memmove(to, from, size), cudaSuccess;
    }
    if (up && !stream->recording && !source) {  // pageable memory is read before the call returns
        auto read = std::make_shared<std::vector<char>>((const char*)from, (const char*)from + size);
        return push(stream, [=] { std::memcpy(to, read->data(), size); }), cudaSuccess;
    }
    push(stream, [=] { std::memmove(to, from, size); });
    if (down && !stream->recording && !target) finish(stream);
    return cudaSuccess;
}
API cudaError_t host_cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind kind) {
    LOCKED;
    if (capturing()) return not_captured("cudaMemcpy");
    const cudaError_t error = host_cudaMemcpyAsync(to, from, size, kind, nullptr);
    return finish(&defaults[current]), error;
}
API cudaError_t host_cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t size, cudaStream_t handle) {
    LOCKED;
    return push(stream_of(handle), [=] { std::memmove(to, from, size); }), cudaSuccess;
}
API cudaError_t host_cudaMemsetAsync(void* to, int value, size_t size, cudaStream_t handle) {
    LOCKED;
    if (size && !on_device(to, size)) return fail(cudaErrorInvalidValue, "memset of memory that is not the device's");
    return push(stream_of(handle), [=] { std::memset(to, value, size); }), cudaSuccess;
}

// Streams and events.

API cudaError_t host_cudaStreamCreateWithPriority(cudaStream_t* handle, unsigned flags, int) {
    LOCKED;
    Stream* stream = new Stream;
    stream->device = current;
    stream->waits_for_default = !(flags & cudaStreamNonBlocking);
    streams.insert(stream);
    return *handle = (cudaStream_t)stream, cudaSuccess;
}
API cudaError_t host_cudaStreamCreateWithFlags(cudaStream_t* handle, unsigned flags) {
    return host_cudaStreamCreateWithPriority(handle, flags, 0);
}
API cudaError_t host_cudaStreamCreate(cudaStream_t* handle) { return host_cudaStreamCreateWithPriority(handle, 0, 0); }
API cudaError_t host_cudaStreamDestroy(cudaStream_t handle) {
    LOCKED;
    finish((Stream*)handle);
    streams.erase((Stream*)handle);
    delete (Stream*)handle;
    return cudaSuccess;
}
API cudaError_t host_cudaStreamSynchronize(cudaStream_t handle) {
    LOCKED;
    Stream* stream = stream_of(handle);
    if (stream->recording) return not_captured("cudaStreamSynchronize");
    return finish(stream), cudaSuccess;
}
API cudaError_t host_cudaStreamQuery(cudaStream_t handle) {
    LOCKED;
    Stream* stream = stream_of(handle);
    if (stream->recording) return not_captured("cudaStreamQuery");
    if (stream->done == stream->pushed) return cudaSuccess;
    return run_until(stream, stream->done + 1), cudaErrorNotReady;  // who asks again and again gets there
}
API cudaError_t host_cudaEventCreateWithFlags(cudaEvent_t* handle, unsigned) {
    return *handle = (cudaEvent_t) new Event, cudaSuccess;
}
API cudaError_t host_cudaEventCreate(cudaEvent_t* handle) { return host_cudaEventCreateWithFlags(handle, 0); }
API cudaError_t host_cudaEventDestroy(cudaEvent_t handle) { return delete (Event*)handle, cudaSuccess; }
API cudaError_t host_cudaEventRecord(cudaEvent_t handle, cudaStream_t of) {
    LOCKED;
    Event* event = (Event*)handle;
    event->stream = stream_of(of);
    event->recorded = true;
    event->captured = event->stream->recording != nullptr;
    if (event->captured) return cudaSuccess;
    push(event->stream, [] {});
    event->position = event->stream->pushed;
    event->at = milliseconds();
    return cudaSuccess;
}
static bool is_over(const Event* event) {
    const bool there = event->stream && (is_default(event->stream) || streams.count(event->stream));
    return !there || event->stream->done >= event->position;
}
API cudaError_t host_cudaEventQuery(cudaEvent_t handle) {
    LOCKED;
    Event* event = (Event*)handle;
    if (event->captured) return not_captured("cudaEventQuery of what was recorded");
    if (is_over(event)) return cudaSuccess;
    return run_until(event->stream, event->stream->done + 1), cudaErrorNotReady;
}
API cudaError_t host_cudaEventSynchronize(cudaEvent_t handle) {
    LOCKED;
    Event* event = (Event*)handle;
    if (event->captured) return not_captured("cudaEventSynchronize of what was recorded");
    if (!is_over(event)) run_until(event->stream, event->position);
    return cudaSuccess;
}
API cudaError_t host_cudaEventElapsedTime(float* elapsed, cudaEvent_t from, cudaEvent_t to) {
    LOCKED;
    const Event *first = (Event*)from, *second = (Event*)to;
    if (!first->recorded || !second->recorded) return fail(cudaErrorInvalidResourceHandle);
    if (!is_over(first) || !is_over(second)) return cudaErrorNotReady;
    return *elapsed = (float)(second->at - first->at), cudaSuccess;
}
API cudaError_t host_cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
    LOCKED;
    const Event it = *(Event*)event;
    if (it.recorded && !it.captured) push(stream_of(handle), [=] { run_until(it.stream, it.position); });
    return cudaSuccess;
}

// Graphs.

API cudaError_t host_cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
    LOCKED;
    const Stream* stream = stream_of(handle);
    *status = !stream->recording ? cudaStreamCaptureStatusNone
              : stream->invalid  ? cudaStreamCaptureStatusInvalidated
                                 : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}
API cudaError_t host_cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode) {
    LOCKED;
    Stream* stream = stream_of(handle);
    if (is_default(stream) || stream->recording) return fail(cudaErrorStreamCaptureUnsupported);
    stream->recording = std::make_shared<std::vector<Step>>();
    stream->invalid = false;
    return cudaSuccess;
}
API cudaError_t host_cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
    LOCKED;
    Stream* stream = stream_of(handle);
    if (!stream->recording) return fail(cudaErrorIllegalState);
    const Graph recorded = std::move(stream->recording);
    stream->recording = nullptr;
    if (stream->invalid) return *graph = nullptr, fail(cudaErrorStreamCaptureInvalidated);
    return *graph = (cudaGraph_t) new Graph(recorded), cudaSuccess;
}
API cudaError_t host_cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long) {
    return *made = (cudaGraphExec_t) new Graph(*(Graph*)graph), cudaSuccess;
}
API cudaError_t host_cudaGraphLaunch(cudaGraphExec_t handle, cudaStream_t in) {
    LOCKED;
    const Graph graph = *(Graph*)handle;
    push(stream_of(in), [graph] {
        for (const Step& step : *graph) step();
    });
    return cudaSuccess;
}
API cudaError_t host_cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
API cudaError_t host_cudaGraphDestroy(cudaGraph_t graph) { return delete (Graph*)graph, cudaSuccess; }
API cudaError_t host_cudaGraphExecDestroy(cudaGraphExec_t graph) { return delete (Graph*)graph, cudaSuccess; }

// Work of Python's own, such as a matrix product: `run(number)` in its turn, at each replay if it is captured.
API void host_push(void* stream, void (*run)(long long), long long number) {
    LOCKED;
    push(stream_of(stream), [=] { run(number); });
}
API int host_on_device(const void* at, size_t size) {
    LOCKED;
    return on_device(at, size);
}

// Modules, whose image is "HOST\n", the path of a library, and the names of its kernels, in lines; and their kernels.

struct Geometry {
    unsigned grid[3], block[3], shared;
    unsigned long long order;
};
struct Parameter {
    int size, kind, pointee_size, pointee_kind;
};
struct Module {
    void* library;
    std::vector<std::string> names;
};
struct Function {
    std::string name;
    const char* (*launch)(const Geometry*, void**);
    std::vector<int> sizes;
    int most_shared = 48 << 10;
};

static thread_local std::string explanation;

API CUresult cuGetErrorName(CUresult error, const char** name) {
    return *name = error == CUDA_ERROR_NOT_FOUND ? "CUDA_ERROR_NOT_FOUND" : "CUDA_ERROR", CUDA_SUCCESS;
}
API CUresult cuGetErrorString(CUresult, const char** text) { return *text = explanation.c_str(), CUDA_SUCCESS; }
API CUresult cuCtxGetCurrent(CUcontext* context) { return *context = (CUcontext)(intptr_t)(current + 1), CUDA_SUCCESS; }
API CUresult cuModuleLoadData(CUmodule* handle, const void* image) {
    std::vector<std::string> lines(1);
    for (const char* c = (const char*)image; *c; ++c) {
        if (*c == '\n') {
            lines.emplace_back();
        } else {
            lines.back() += *c;
        }
    }
    void* library = lines[0] == "HOST" ? dlopen(lines[1].c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
    if (!library) return explanation = "no library of kernels", CUDA_ERROR_INVALID_IMAGE;
    return *handle = (CUmodule) new Module{library, {lines.begin() + 2, lines.end()}}, CUDA_SUCCESS;
}
API CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }  // captured graphs may hold its kernels
API CUresult cuModuleGetFunction(CUfunction* handle, CUmodule of, const char* name) {
    const Module& module = *(Module*)of;
    for (size_t k = 0; k < module.names.size(); ++k) {
        if (module.names[k] != name) continue;
        const std::string number = std::to_string(k);
        Function* function = new Function{name};
        function->launch =
            (decltype(function->launch))dlsym(module.library, ("cuda_sim_launch_" + number).c_str());
        auto describe = (int (*)(Parameter*))dlsym(module.library, ("cuda_sim_describe_" + number).c_str());
        std::vector<Parameter> parameters(describe(nullptr));
        describe(parameters.data());
        for (const Parameter& parameter : parameters) function->sizes.push_back(parameter.size);
        return *handle = (CUfunction)function, CUDA_SUCCESS;
    }
    return explanation = std::string("no kernel ") + name, CUDA_ERROR_NOT_FOUND;
}
API CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction handle) {
    const bool shared = attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    return *value = shared ? ((Function*)handle)->most_shared : 1024, CUDA_SUCCESS;
}
API CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) {
    if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_SUCCESS;
    if (value > 227 << 10) return explanation = "so much shared memory is not there", CUDA_ERROR_INVALID_VALUE;
    return ((Function*)handle)->most_shared = value, CUDA_SUCCESS;
}
API CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* count, CUfunction, int block, size_t) {
    return *count = 1024 / block, CUDA_SUCCESS;
}
API CUresult cuLaunchKernel(CUfunction handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                            unsigned bz, unsigned shared, CUstream stream, void** arguments, void**) {
    LOCKED;
    const Function* function = (Function*)handle;
    const auto threads = (unsigned long long)bx * by * bz;
    if (!gx || !gy || !gz || gy > 65535 || gz > 65535 || !threads || threads > 1024 ||
        (int)shared > function->most_shared)
        return explanation = "no such geometry: kernel " + function->name, CUDA_ERROR_INVALID_VALUE;
    std::vector<std::vector<char>> held;
    for (size_t k = 0; k < function->sizes.size(); ++k)
        held.emplace_back((char*)arguments[k], (char*)arguments[k] + function->sizes[k]);
    const Geometry geometry{{gx, gy, gz}, {bx, by, bz}, shared, 0};
    push(stream_of(stream), [=] {
        std::vector<void*> pointers;
        for (const auto& bytes : held) pointers.push_back((void*)bytes.data());
        if (const char* error = function->launch(&geometry, pointers.data())) {
            std::fprintf(stderr, "CUDA on the host: kernel %s: %s\n", function->name.c_str(), error);
            abort();
        }
    });
    return CUDA_SUCCESS;
}
