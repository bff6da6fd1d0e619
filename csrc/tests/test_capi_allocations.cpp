// Once a stream is open, or a whole image of a shape is done, nothing is allocated: not by the allocator that was
// given, not by malloc and its kin, not by operator new, not by mmap. And what does not come from the allocator is
// little. Where an allocation fails, the library says so. The functions below take the place of the C library's for the
// whole process.
#include <malloc.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <thread>
#include <vector>

#include "fastsr/fastsr.hpp"
#include "tests/check.hpp"
#include "tests/model_file.hpp"

namespace {
std::atomic<long> calls{0};
std::atomic<long> alive{0};      // blocks
std::atomic<long> fails_in{-1};  // allocations until one fails; negative: none does
std::atomic<long> given{0};      // by the allocator below
}  // namespace

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void __libc_free(void*);
void* __libc_memalign(std::size_t, std::size_t);

// Counts; false where this allocation is the one that must fail.
static bool count() {
  calls.fetch_add(1, std::memory_order_relaxed);
  return fails_in.load(std::memory_order_relaxed) < 0 || fails_in.fetch_sub(1, std::memory_order_relaxed) != 0;
}

static void* living(void* block) {
  alive += block != nullptr;
  return block;
}

void* malloc(std::size_t size) { return count() ? living(__libc_malloc(size)) : nullptr; }
void* calloc(std::size_t n, std::size_t size) { return count() ? living(__libc_calloc(n, size)) : nullptr; }
void* realloc(void* p, std::size_t size) {
  if (!count()) return nullptr;
  alive -= p != nullptr;
  return living(__libc_realloc(p, size));
}
void free(void* p) {
  alive -= p != nullptr;
  __libc_free(p);
}
void* memalign(std::size_t alignment, std::size_t size) {
  return count() ? living(__libc_memalign(alignment, size)) : nullptr;
}
void* aligned_alloc(std::size_t alignment, std::size_t size) { return memalign(alignment, size); }
int posix_memalign(void** out, std::size_t alignment, std::size_t size) {
  *out = memalign(alignment, size);
  return *out ? 0 : ENOMEM;
}
void* mmap(void* at, std::size_t size, int protection, int flags, int file, off_t offset) noexcept {
  if (!count()) return MAP_FAILED;
  return reinterpret_cast<void*>(syscall(SYS_mmap, at, size, protection, flags, file, offset));
}
}

namespace {

// Straight from the system, so that mallinfo2() tells what goes past this allocator.
void* allocate(void*, std::size_t size, std::size_t) {
  given += 1;
  void* block = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return block == MAP_FAILED ? nullptr : block;
}
void release(void*, void* block, std::size_t size) { munmap(block, size); }

// Bytes that describe a model's networks and a stream's plan, and the threads.
constexpr std::size_t kBeside = 256 << 10;

struct Counts {
  long all = calls + given;
  bool same() const { return calls + given == all; }
};

void one_image(fsr::Stream& stream, std::vector<std::uint16_t>& from, std::vector<std::uint16_t>& to,
               std::uint32_t height, std::uint32_t width, std::uint32_t scale) {
  std::uint32_t pushed = 0, pulled = 0;
  while (pushed < height) {
    pushed += stream.push(fsr::view(from.data() + std::size_t{pushed} * width, width, height - pushed));
    while (std::uint32_t n =
               stream.pull(fsr::view(to.data() + std::size_t{pulled} * width * scale, width * scale, 3))) {
      pulled += n;
    }
  }
  stream.end();
  while (std::uint32_t n = stream.pull(fsr::view(to.data() + std::size_t{pulled} * width * scale, width * scale, 3))) {
    pulled += n;
  }
  stream.reset();
}

void test(const std::vector<char>& file, const fsr_allocator* allocator) {
  fsr_model_options model_options = FSR_MODEL_OPTIONS_INIT;
  model_options.allocator = allocator;
  const std::size_t before = mallinfo2().uordblks;
  fsr::Model model(file.data(), file.size(), model_options);
  for (std::size_t i = 0; i < model.info().network_count; ++i) {
    const fsr_network network = model.info().networks[i];
    if (network.channels != 1) continue;
    const std::uint32_t scale = network.scale, height = 7, width = 37;
    fsr_options options = fsr::default_options();
    options.scale = scale;
    options.threads = 2;
    std::vector<std::uint16_t> from(height * width, 1234), to((height * scale + 3) * width * scale);
    for (std::size_t p = 0; p < from.size(); ++p) from[p] = static_cast<std::uint16_t>(p * 7919);

    fsr::Stream stream = model.stream(width, 1, FSR_UINT16, options);
    if (allocator) CHECK(mallinfo2().uordblks - before < kBeside);
    const Counts open;
    one_image(stream, from, to, height, width, scale);  // also the first image
    one_image(stream, from, to, height - 4, width, scale);
    CHECK(open.same());
    std::thread([&] {  // and in a thread that the library has never seen
      const Counts started;
      one_image(stream, from, to, height, width, scale);
      CHECK(started.same());
    })
        .join();

    model.upscale(fsr::view(from.data(), width, height), fsr::view(to.data(), width * scale, height * scale), options);
    const Counts first;
    for (int frame = 0; frame < 3; ++frame) {
      model.upscale(fsr::view(from.data(), width, height), fsr::view(to.data(), width * scale, height * scale),
                    options);
    }
    CHECK(first.same());
  }
}

fsr_status open_and_close(const std::vector<char>& file) {
  fsr_model* model = nullptr;
  fsr_status status = fsr_model_open_memory(file.data(), file.size(), nullptr, &model);
  fsr_stream* stream = nullptr;
  if (status == FSR_OK) status = fsr_stream_open(model, 67, 1, FSR_UINT16, nullptr, &stream);
  CHECK((status == FSR_OK) == (stream != nullptr));
  fsr_stream_close(stream);
  fsr_model_close(model);
  return status;
}

// Wherever the system has no memory, the answer is an error, and nothing leaks.
void test_exhaustion(const std::vector<char>& file) {
  CHECK(open_and_close(file) == FSR_OK);
  const long before = calls;
  CHECK(open_and_close(file) == FSR_OK);
  const long needed = calls - before;
  const long in_use = alive;
  long refused = 0;
  for (long n = 0; n < needed; n += 1 + n / 10) {
    fails_in = n;
    const fsr_status status = open_and_close(file);
    CHECK(fails_in < 0);
    CHECK(status == FSR_OK || status == FSR_ERROR_OUT_OF_MEMORY);  // a thread less is no error
    refused += status != FSR_OK;
  }
  CHECK(refused > 20);
  CHECK(alive <= in_use);
}

}  // namespace

int main(int argc, char** argv) {
  const fsr_allocator allocator = {sizeof(fsr_allocator), nullptr, &allocate, &release};
  for (int i = 1; i < argc; ++i) {
    const std::vector<char> file = read_file(argv[i]);
    test(file, nullptr);
    test(file, &allocator);
  }
  CHECK(given > 0);
  test_exhaustion(read_file(argv[1]));
  const long before = calls;
  void* volatile block = std::malloc(1);
  int* volatile number = new int(1);
  std::free(block);
  delete number;
  CHECK(calls >= before + 2);  // it is these functions that are counted
}
