// The engine as an embedder uses it: same bits however it runs, nothing allocated after the first call of a shape,
// many threads at once.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <random>
#include <thread>
#include <vector>

#include "cpu/cache.hpp"
#include "cpu/isa.hpp"
#include "graph/loader.hpp"
#include "runtime/network.hpp"
#include "tests/check.hpp"
#include "tests/model_file.hpp"

namespace {
std::atomic<long> allocations{0};

void* counted(std::size_t size, std::size_t alignment) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* p = nullptr;
  if (posix_memalign(&p, alignment < sizeof(void*) ? sizeof(void*) : alignment, size ? size : 1) != 0) return nullptr;
  return p;
}
}  // namespace

void* operator new(std::size_t size) {
  if (void* p = counted(size, alignof(std::max_align_t))) return p;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, std::align_val_t a) {
  if (void* p = counted(size, static_cast<std::size_t>(a))) return p;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, std::align_val_t a, const std::nothrow_t&) noexcept {
  return counted(size, static_cast<std::size_t>(a));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

using namespace fastsr;

namespace {

struct Picture {
  Picture(std::int64_t h, std::int64_t w) : height(h), width(w), pixels(static_cast<std::size_t>(h * w * 3)) {}
  ImageView view() {
    ImageView v;
    v.data = pixels.data();
    v.type = PixelType::u8;
    v.height = height;
    v.width = width;
    v.channels = 3;
    v.row_stride = width * 3;
    v.pixel_stride = 3;
    v.channel_stride = 1;
    return v;
  }
  std::int64_t height, width;
  std::vector<unsigned char> pixels;
};

Picture random_picture(std::int64_t h, std::int64_t w, unsigned seed) {
  Picture picture(h, w);
  std::mt19937 random(seed);
  for (unsigned char& p : picture.pixels) p = static_cast<unsigned char>(random());
  return picture;
}

Status upscale(Network& network, Picture& from, Picture& to, int threads, int strip, std::uint64_t max_memory) {
  ViewSource source(from.view(), 0, 0);
  ViewSink sink(to.view(), 0, 0);
  Request request;
  request.height = from.height;
  request.width = from.width;
  request.box = {{0, from.height}, {0, from.width}};
  request.mapping = {1.0f / 255, 0, 255, 0, 0, 255};
  request.source = &source;
  request.sink = &sink;
  request.threads = threads;
  request.strip = strip;
  request.max_memory = max_memory;
  return network.run(request);
}

// After the first call of a shape nothing is allocated, whole or in panels.
void test_allocations(const char* path) {
  const std::vector<char> bytes = read_file(path);
  Result<ModelFile> file = load_model(bytes.data(), bytes.size());
  CHECK(file.ok());
  for (const Graph& graph : file.value().graphs) {
    if (graph.channels != 3) continue;
    Result<std::unique_ptr<Network>> network = Network::make(file.value(), graph, *select_isa("").value());
    CHECK(network.ok());
    const std::int64_t shapes[][2] = {{1, 1}, {7, 13}, {1, 97}, {5, 67}};
    for (const auto& shape : shapes) {
      Picture from = random_picture(shape[0], shape[1], 4);
      Picture first(shape[0] * graph.scale, shape[1] * graph.scale), again = first;
      const std::uint64_t least = upscale(*network.value(), from, first, 2, 0, 1).least();
      for (std::uint64_t budget : {std::uint64_t{0}, least}) {
        CHECK(upscale(*network.value(), from, first, 2, 0, budget).ok());
        const long before = allocations.load();
        CHECK(upscale(*network.value(), from, again, 2, 0, budget).ok());
        CHECK(allocations.load() == before);
        CHECK(again.pixels == first.pixels);
      }
    }
  }
}

// The weights are packed by the first run, whoever's it is, and not for who only asks what it would take.
void test_packing(const ModelFile& file, const Graph& graph, Picture& from, Picture& to) {
  std::size_t taken = 0;
  const auto take = [](void* bytes, std::size_t size, std::size_t alignment) {
    *static_cast<std::size_t*>(bytes) += size;
    return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  };
  const auto give_back = [](void*, void* block, std::size_t) { std::free(block); };
  const BlockSource source{take, give_back, &taken};
  const BlockSourceScope scope(&source);
  Result<std::unique_ptr<Network>> network = Network::make(file, graph, *isa_levels().back().kernels);
  CHECK(network.ok());
  Request request;
  request.height = from.height;
  request.width = from.width;
  request.box = {{0, from.height}, {0, from.width}};
  request.threads = 1;
  Result<Plan> plan = network.value()->plan(request);
  CHECK(plan.ok() && taken == 0);
  CHECK(upscale(*network.value(), from, to, 1, 0, 0).ok());
  CHECK(taken > file.data.size() * sizeof(float) && taken > plan.value().memory);
  const std::size_t once = taken;
  CHECK(network.value()->prepare().ok() && taken == once);
}

// Random boxes of a network with wide kernels, many of which end at the image's right border. ASan watches.
void test_boxes(const char* path) {
  const std::vector<char> bytes = read_file(path);
  Result<ModelFile> file = load_model(bytes.data(), bytes.size());
  CHECK(file.ok());
  Result<std::unique_ptr<Network>> network =
      Network::make(file.value(), file.value().graphs[0], *select_isa("").value());
  CHECK(network.ok());
  Picture from = random_picture(9, 48, 2), whole(36, 192);
  CHECK(upscale(*network.value(), from, whole, 2, 0, 0).ok());
  std::mt19937 random(3);
  for (int i = 0; i < 24; ++i) {
    const std::int64_t left = random() % 48, right = i % 2 ? 48 : left + 1 + random() % (48 - left);
    const std::int64_t top = random() % 9, bottom = top + 1;
    Picture part((bottom - top) * 4, (right - left) * 4);
    ViewSource source(from.view(), 0, 0);
    ViewSink sink(part.view(), top * 4, left * 4);
    Request request;
    request.height = 9;
    request.width = 48;
    request.box = {{top, bottom}, {left, right}};
    request.mapping = {1.0f / 255, 0, 255, 0, 0, 255};
    request.source = &source;
    request.sink = &sink;
    request.threads = 1;
    CHECK(network.value()->run(request).ok());
    for (std::int64_t y = 0; y < part.height; ++y) {
      const unsigned char* wanted = whole.pixels.data() + ((top * 4 + y) * 192 + left * 4) * 3;
      CHECK(std::memcmp(part.pixels.data() + y * part.width * 3, wanted, static_cast<std::size_t>(part.width) * 3) ==
            0);
    }
  }
}

// Strips are as high as keeps the threads busy where their rows fit into the caches, and one row of tiles where not.
void test_strips_are_sized_to_the_cache(const Network& network) {
  PlanLimits limits;
  limits.threads = 2;
  const Box box{{0, 400}, {0, 960}};
  const auto planned = [&](std::uint64_t megabytes) {
    limits.cache = megabytes << 20;
    return make_plan(network.pipeline(), 400, 960, box, limits).value();
  };
  const Plan roomy = planned(64), tight = planned(8);
  CHECK(roomy.strip == 8 && tight.strip == 4);
  CHECK(tight.memory < roomy.memory && roomy.memory > 16u << 20 && roomy.memory < 128u << 20);
  CHECK(largest_cache() >= 1u << 20 && largest_cache() <= 64u << 20);
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<char> bytes = read_file(argv[1]);
  Result<ModelFile> file = load_model(bytes.data(), bytes.size());
  CHECK(file.ok());
  const Graph& graph = file.value().graphs[0];
  CHECK(graph.channels == 3 && graph.scale == 4);
  Picture from = random_picture(13, 61, 1);

  std::vector<unsigned char> wanted;
  for (const IsaLevel& level : isa_levels()) {
    if (!level.usable) continue;
    Result<std::unique_ptr<Network>> network = Network::make(file.value(), graph, *level.kernels);
    CHECK(network.ok());
    for (int threads : {1, 3}) {
      for (int strip : {1, 8}) {
        if (level.kernels == &kScalar && (threads == 1 || strip == 1)) continue;  // slow
        Picture to(52, 244);
        CHECK(upscale(*network.value(), from, to, threads, strip, 0).ok());
        if (wanted.empty()) wanted = to.pixels;
        CHECK(to.pixels == wanted);
      }
    }
  }

  Result<std::unique_ptr<Network>> made = Network::make(file.value(), graph, *select_isa("").value());
  Network& network = *made.value();
  test_strips_are_sized_to_the_cache(network);
  Picture to(52, 244);
  for (std::uint64_t budget : {std::uint64_t{0}, std::uint64_t{3} << 20}) {  // whole, and in panels
    CHECK(upscale(network, from, to, 2, 0, budget).ok());
    const long before = allocations.load();
    for (int i = 0; i < 3; ++i) CHECK(upscale(network, from, to, 2, 0, budget).ok());
    CHECK(allocations.load() == before);
    CHECK(to.pixels == wanted);
  }

  const Status refused = upscale(network, from, to, 2, 0, 1000);
  CHECK(refused.code() == Code::memory_budget && refused.least() > 1000);
  CHECK(upscale(network, from, to, 2, 0, refused.least()).ok());
  CHECK(upscale(network, from, to, 2, 0, refused.least() - 1).code() == Code::memory_budget);
  CHECK(to.pixels == wanted);

  made = Network::make(file.value(), graph, *isa_levels().back().kernels);  // so that one of the callers packs it
  std::vector<std::thread> callers;
  std::atomic<int> right{0};
  for (int t = 0; t < 8; ++t) {
    callers.emplace_back([&, t] {
      for (int i = 0; i < 2; ++i) {
        Picture mine(52, 244);
        if (upscale(*made.value(), from, mine, 1 + t % 3, 0, 0).ok() && mine.pixels == wanted) ++right;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(right == 16);
  test_packing(file.value(), graph, from, to);
  for (int i = 1; i < argc; ++i) test_allocations(argv[i]);
  test_boxes(argv[2]);
}
