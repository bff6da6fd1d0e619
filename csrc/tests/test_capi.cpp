// The C face as an embedder meets it: same bits by every road, errors with words, structs of other versions, an
// allocator of one's own, many threads, a fork.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "fastsr/fastsr.h"
#include "fastsr/fastsr.hpp"
#include "tests/check.hpp"
#include "tests/model_file.hpp"

namespace {

bool says(const char* words) { return std::strstr(fsr_error_message(), words) != nullptr; }

template <class T>
std::vector<T> random_pixels(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<T> pixels(count);
  for (T& p : pixels) {
    p = std::is_same_v<T, float> ? static_cast<T>(static_cast<float>(random()) / 4294967296.0f)
                                 : static_cast<T>(random());
  }
  return pixels;
}

template <class T>
struct Picture {
  Picture(std::uint32_t h, std::uint32_t w, std::uint32_t c, unsigned seed)
      : height(h), width(w), channels(c), pixels(random_pixels<T>(std::size_t{h} * w * c, seed)) {}
  fsr_image view() { return fsr::view(pixels.data(), width, height, channels); }
  fsr_image rows(std::uint32_t y, std::uint32_t count) {
    return fsr::view(pixels.data() + std::size_t{y} * width * channels, width, std::min(count, height - y), channels);
  }
  std::uint32_t height, width, channels;
  std::vector<T> pixels;
};

template <class T>
Picture<T> place_for(const Picture<T>& from, std::uint32_t scale) {
  return Picture<T>(from.height * scale, from.width * scale, from.channels, 99);
}

template <class T>
void stream_through(fsr::Stream& stream, Picture<T>& from, Picture<T>& to, std::uint32_t portion) {
  std::uint32_t pulled = 0;
  for (std::uint32_t pushed = 0; pushed < from.height;) {
    pushed += stream.push(from.rows(pushed, portion));
    while (const std::uint32_t n = stream.pull(to.rows(pulled, portion))) pulled += n;
  }
  stream.end();
  while (const std::uint32_t n = stream.pull(to.rows(pulled, portion))) pulled += n;
  CHECK(pulled == to.height);
}

template <class T>
void test_roads(fsr::Model& model, std::uint32_t scale, std::uint32_t channels) {
  constexpr std::uint32_t kHeight = 5, kWidth = 13;
  fsr_options options = fsr::default_options();
  options.scale = scale;
  options.threads = 2;
  Picture<T> from(kHeight, kWidth, channels, scale), wanted = place_for(from, scale), got = wanted;
  model.upscale(from.view(), wanted.view(), options);

  // The least memory, and more threads.
  options.threads = 3;
  options.max_memory = model.plan(from.view(), options).memory_least;
  model.upscale(from.view(), got.view(), options);
  CHECK(got.pixels == wanted.pixels);
  options.max_memory -= 1;
  const fsr_image source = from.view(), target = got.view();
  CHECK(fsr_upscale(model.get(), &source, &target, &options) == FSR_ERROR_MEMORY_BUDGET);
  CHECK(says(std::to_string(options.max_memory + 1).c_str()));
  fsr_plan plan = FSR_PLAN_INIT;
  CHECK(fsr_upscale_plan(model.get(), &source, &options, &plan) == FSR_ERROR_MEMORY_BUDGET);
  CHECK(plan.memory_least == options.max_memory + 1 && plan.memory == 0);

  // By rows.
  options.max_memory = 0;
  for (std::uint32_t portion : {1u, 3u, 64u}) {
    options.strip_rows = portion % 4;
    fsr::Stream stream = model.stream(from.width, channels, fsr::pixel_type<T>(), options);
    for (int image = 0; image < 2; ++image) {
      std::fill(got.pixels.begin(), got.pixels.end(), T{});
      stream_through(stream, from, got, portion);
      CHECK(got.pixels == wanted.pixels);
      stream.reset();
    }
  }

  // Planar, upside down, with gaps between the rows.
  constexpr std::uint32_t kPitch = kWidth + 7;
  const std::uint32_t H = kHeight * scale, W = kWidth * scale, pitch = kPitch * scale;
  std::vector<T> planes(std::size_t{channels} * kHeight * kPitch), large(std::size_t{channels} * H * pitch);
  const auto flipped = [](std::uint32_t c, std::uint32_t y, std::uint32_t x, std::uint32_t rows, std::uint32_t gap) {
    return (std::size_t{c} * rows + rows - 1 - y) * gap + x;
  };
  for (std::size_t i = 0; i < from.pixels.size(); ++i) {
    const auto c = static_cast<std::uint32_t>(i % channels), x = static_cast<std::uint32_t>(i / channels % kWidth);
    planes[flipped(c, static_cast<std::uint32_t>(i / channels / kWidth), x, kHeight, kPitch)] = from.pixels[i];
  }
  const auto upside_down = [](T* data, std::uint32_t width, std::uint32_t height, std::uint32_t c, std::uint32_t gap) {
    fsr_image view = fsr::view(data + std::size_t{height - 1} * gap, width, height, c);
    view.pixel_stride = sizeof(T);
    view.row_stride = -static_cast<std::ptrdiff_t>(gap * sizeof(T));
    view.channel_stride = -view.row_stride * static_cast<std::ptrdiff_t>(height);
    return view;
  };
  options.strip_rows = 0;
  model.upscale(upside_down(planes.data(), kWidth, kHeight, channels, kPitch),
                upside_down(large.data(), W, H, channels, pitch), options);
  for (std::size_t i = 0; i < wanted.pixels.size(); ++i) {
    const auto c = static_cast<std::uint32_t>(i % channels), x = static_cast<std::uint32_t>(i / channels % W);
    CHECK(large[flipped(c, static_cast<std::uint32_t>(i / channels / W), x, H, pitch)] == wanted.pixels[i]);
  }
}

void test_errors(fsr::Model& model, const std::vector<char>& bytes) {
  Picture<std::uint8_t> from(5, 7, 1, 1), to(20, 28, 1, 2);
  const fsr_image source = from.view(), target = to.view();
  CHECK(fsr_upscale(model.get(), &source, &target, nullptr) == FSR_OK);
  CHECK(fsr_upscale(nullptr, &source, &target, nullptr) == FSR_ERROR_ARGUMENT && says("model is a null pointer"));
  CHECK(fsr_upscale(model.get(), nullptr, &target, nullptr) == FSR_ERROR_ARGUMENT && says("source is a null pointer"));
  CHECK(fsr_upscale(model.get(), &source, nullptr, nullptr) == FSR_ERROR_ARGUMENT && says("target is a null pointer"));

  const auto with = [&](auto change) {
    fsr_image s = source, t = target;
    fsr_options options = FSR_OPTIONS_INIT;
    change(s, t, options);
    return fsr_upscale(model.get(), &s, &t, &options);
  };
  using I = fsr_image;
  using O = fsr_options;
  CHECK(with([](I& s, I&, O&) { s.pixels = nullptr; }) == FSR_ERROR_ARGUMENT && says("source.pixels"));
  CHECK(with([](I& s, I&, O&) { s.height = 0; }) == FSR_ERROR_SHAPE);
  CHECK(with([](I&, I& t, O&) { t.width = 27; }) == FSR_ERROR_SHAPE && says("28 x 20 are needed"));
  CHECK(with([](I&, I& t, O&) { t.pixel_type = FSR_INT16; }) == FSR_ERROR_SHAPE);
  CHECK(with([](I& s, I&, O&) { s.pixel_type = 9; }) == FSR_ERROR_ARGUMENT && says("pixel type is 9"));
  CHECK(with([](I& s, I&, O&) { s.channels = 2; }) == FSR_ERROR_ARGUMENT && says("x4 for 1 channels"));
  CHECK(with([](I& s, I&, O&) { s.channels = 0; }) == FSR_ERROR_ARGUMENT);
  CHECK(with([](I&, I&, O& o) { o.scale = 3; }) == FSR_ERROR_ARGUMENT && says("no x3"));
  CHECK(with([](I&, I&, O& o) { o.scale = 17; }) == FSR_ERROR_ARGUMENT && says("0 to 16"));
  CHECK(with([](I&, I&, O& o) { o.threads = 257; }) == FSR_ERROR_ARGUMENT && says("0 to 256"));
  CHECK(with([](I&, I&, O& o) { o.strip_rows = 65; }) == FSR_ERROR_ARGUMENT && says("0 to 64"));
  CHECK(with([](I&, I&, O& o) { o.precision = 3; }) == FSR_ERROR_ARGUMENT && says("precision"));
  CHECK(with([](I&, I&, O& o) { o.max_memory = 7; }) == FSR_ERROR_MEMORY_BUDGET && says("max_memory is 7 bytes"));
  CHECK(with([](I&, I&, O& o) { o.value_low = 1; }) == FSR_ERROR_ARGUMENT && says("low < high"));
  CHECK(with([](I&, I&, O& o) { o.value_high = std::nan(""); }) == FSR_ERROR_ARGUMENT);
  CHECK(with([](I&, I&, O& o) { o.value_high = 1e-31; }) == FSR_ERROR_ARGUMENT && says("narrow"));
  CHECK(with([](I&, I&, O& o) { o.value_low = 300, o.value_high = 400; }) == FSR_ERROR_ARGUMENT && says("0 to 255"));

  fsr_stream* stream = nullptr;
  CHECK(fsr_stream_open(model.get(), 0, 1, FSR_UINT8, nullptr, &stream) == FSR_ERROR_SHAPE && !stream);
  CHECK(fsr_stream_open(model.get(), 7, 1, FSR_UINT8, nullptr, nullptr) == FSR_ERROR_ARGUMENT);
  CHECK(fsr_stream_open(nullptr, 7, 1, FSR_UINT8, nullptr, &stream) == FSR_ERROR_ARGUMENT);
  CHECK(fsr_stream_open(model.get(), 7, 1, static_cast<fsr_pixel_type>(5), nullptr, &stream) == FSR_ERROR_ARGUMENT);
  CHECK(fsr_stream_open(model.get(), 7, 1, FSR_UINT8, nullptr, &stream) == FSR_OK);
  std::uint32_t n = 9;
  CHECK(fsr_stream_end(stream) == FSR_ERROR_STATE && says("no rows"));
  CHECK(fsr_stream_push_rows(stream, &source, nullptr) == FSR_ERROR_ARGUMENT);
  CHECK(fsr_stream_push_rows(stream, &target, &n) == FSR_ERROR_SHAPE && n == 0 && says("takes 7"));
  CHECK(fsr_stream_pull_rows(stream, &source, &n) == FSR_ERROR_SHAPE && says("gives 28"));
  CHECK(fsr_stream_push_rows(stream, &source, &n) == FSR_OK && n == 5);
  CHECK(fsr_stream_pull_rows(stream, &target, &n) == FSR_OK && n == 0);
  CHECK(fsr_stream_end(stream) == FSR_OK && fsr_stream_end(stream) == FSR_ERROR_STATE);
  CHECK(fsr_stream_push_rows(stream, &source, &n) == FSR_ERROR_STATE && says("ended"));
  CHECK(fsr_stream_pull_rows(stream, &target, &n) == FSR_OK && n == 20);
  CHECK(fsr_stream_reset(stream) == FSR_OK && fsr_stream_reset(nullptr) == FSR_ERROR_ARGUMENT);
  fsr_stream_close(stream);
  fsr_stream_close(nullptr);

  fsr_model* opened = nullptr;
  CHECK(fsr_model_open_file("/nonexistent.fsr", nullptr, &opened) == FSR_ERROR_FILE && says("/nonexistent.fsr"));
  CHECK(fsr_model_open_file("/", nullptr, &opened) == FSR_ERROR_FILE && !opened);
  CHECK(fsr_model_open_file(nullptr, nullptr, &opened) == FSR_ERROR_ARGUMENT);
  CHECK(fsr_model_open_memory(bytes.data(), bytes.size() - 1, nullptr, &opened) == FSR_ERROR_MODEL_DAMAGED);
  CHECK(fsr_model_open_memory("GIF89a, really", 14, nullptr, &opened) != FSR_OK && !opened);
  fsr_model_options options = FSR_MODEL_OPTIONS_INIT;
  options.isa = "mmx";
  CHECK(fsr_model_open_memory(bytes.data(), bytes.size(), &options, &opened) == FSR_ERROR_ARGUMENT && says("mmx"));
  fsr_model_close(nullptr);
  CHECK(std::string(fsr_status_name(FSR_ERROR_STATE)) == "FSR_ERROR_STATE");
}

// A struct of an older header is shorter, one of a newer is longer.
void test_versions(fsr::Model& model) {
  Picture<std::uint8_t> from(5, 7, 1, 1), to(20, 28, 1, 2);
  struct Newer {
    fsr_options options = FSR_OPTIONS_INIT;
    std::uint64_t more = 0;
  } newer;
  newer.options.struct_size = sizeof newer;
  model.upscale(from.view(), to.view(), newer.options);
  newer.more = 1;
  const fsr_image source = from.view(), target = to.view();
  CHECK(fsr_upscale(model.get(), &source, &target, &newer.options) == FSR_ERROR_ARGUMENT && says("does not know"));
  fsr_options older = FSR_OPTIONS_INIT;
  older.struct_size = offsetof(fsr_options, max_memory);
  older.max_memory = 1;  // is not looked at
  CHECK(fsr_upscale(model.get(), &source, &target, &older) == FSR_OK);
  for (std::size_t size : {std::size_t{0}, std::size_t{7}, std::size_t{5000}}) {
    older.struct_size = size;
    CHECK(fsr_upscale(model.get(), &source, &target, &older) == FSR_ERROR_ARGUMENT && says("struct_size"));
  }

  struct NewerPlan {
    fsr_plan plan = FSR_PLAN_INIT;
    std::uint64_t more = 5;
  } plan;
  plan.plan.struct_size = sizeof plan;
  CHECK(fsr_upscale_plan(model.get(), &source, nullptr, &plan.plan) == FSR_OK);
  CHECK(plan.plan.struct_size == sizeof plan && plan.plan.memory > 0 && plan.plan.scale == 4 && plan.more == 0);
  fsr_plan shorter = FSR_PLAN_INIT;
  shorter.struct_size = offsetof(fsr_plan, scale);
  shorter.scale = 77;
  CHECK(fsr_upscale_plan(model.get(), &source, nullptr, &shorter) == FSR_OK);
  CHECK(shorter.memory == plan.plan.memory && shorter.scale == 77);
}

struct Patience {
  std::uint64_t rows;
  std::uint64_t heard = 0, total = 0;
  static int heard_of(void* user, std::uint64_t done, std::uint64_t total) {
    auto& self = *static_cast<Patience*>(user);
    CHECK(done >= self.heard);
    self.heard = done;
    self.total = total;
    return done >= self.rows;
  }
};

void test_cancellation(fsr::Model& model) {
  Picture<float> from(50, 7, 1, 1), to = place_for(from, 4), wanted = to;
  model.upscale(from.view(), wanted.view());
  Patience patience{40};
  fsr_options options = fsr::default_options();
  options.progress = &Patience::heard_of;
  options.progress_user = &patience;
  const fsr_image source = from.view(), target = to.view();
  CHECK(fsr_upscale(model.get(), &source, &target, &options) == FSR_ERROR_CANCELLED && patience.total == 200);
  patience = {~0ull};
  CHECK(fsr_upscale(model.get(), &source, &target, &options) == FSR_OK && patience.heard == 200);
  CHECK(to.pixels == wanted.pixels);

  patience = {40};
  fsr::Stream stream = model.stream(7, 1, FSR_FLOAT32, options);
  std::uint32_t n = 0;
  fsr_status status = FSR_OK;
  for (std::uint32_t pushed = 0; status == FSR_OK; pushed += n) {
    const fsr_image rows = from.rows(pushed, 1);
    status = fsr_stream_push_rows(stream.get(), &rows, &n);
    if (status == FSR_OK) (void)stream.pull(to.view());
  }
  CHECK(status == FSR_ERROR_CANCELLED && n == 0 && patience.total == 0);
  CHECK(fsr_stream_pull_rows(stream.get(), &target, &n) == FSR_ERROR_STATE && says("reset"));
  stream.reset();
  patience = {~0ull};
  stream_through(stream, from, to, 5);
  CHECK(to.pixels == wanted.pixels && patience.heard == 200 && patience.total == 200);

  options.progress = nullptr;
  stream = model.stream(7, 1, FSR_FLOAT32, options);
  from.pixels[3 * 7 + 2] = std::numeric_limits<float>::infinity();
  stream.reset();
  const fsr_image bad = from.view();
  CHECK(fsr_stream_push_rows(stream.get(), &bad, &n) == FSR_ERROR_PIXEL_VALUE && says("rows 3 to 3"));
  CHECK(fsr_upscale(model.get(), &bad, &target, &options) == FSR_ERROR_PIXEL_VALUE);
}

// Counts what is out, and refuses the request number `fails_at`.
struct Counter {
  std::atomic<long> blocks{0}, requests{0};
  std::atomic<std::size_t> bytes{0}, most{0};
  long fails_at = -1;

  static void* allocate(void* user, std::size_t size, std::size_t alignment) {
    auto& self = *static_cast<Counter*>(user);
    CHECK(size > 0);
    if (self.requests.fetch_add(1) == self.fails_at) return nullptr;
    void* block = nullptr;
    if (posix_memalign(&block, alignment, size) != 0) return nullptr;
    std::memset(block, 0xA5, size);
    self.blocks += 1;
    self.bytes += size;
    self.most = std::max(self.most.load(), self.bytes.load());
    return block;
  }
  static void release(void* user, void* block, std::size_t size) {
    auto& self = *static_cast<Counter*>(user);
    self.blocks -= 1;
    self.bytes -= size;
    std::free(block);
  }
  fsr_allocator face() { return {sizeof(fsr_allocator), this, &allocate, &release}; }
};

// A model, a whole image and a stream; 0 when all went well.
fsr_status use_all(const std::vector<char>& bytes, Counter& counter, Picture<std::uint8_t>& to) {
  const fsr_allocator allocator = counter.face();
  fsr_model_options model_options = FSR_MODEL_OPTIONS_INIT;
  model_options.allocator = &allocator;
  try {
    fsr::Model model(bytes.data(), bytes.size(), model_options);
    const std::size_t weights = counter.bytes;
    CHECK(weights >= bytes.size() * 9 / 10);  // the weights came from the allocator
    Picture<std::uint8_t> from(6, 31, 1, 3);
    fsr_options options = fsr::default_options();
    options.threads = 2;
    model.upscale(from.view(), to.view(), options);
    const std::size_t packed = counter.bytes;
    const fsr_plan plan = model.stream_plan(31, 1, FSR_UINT8, options);
    CHECK(counter.bytes == packed);
    fsr::Stream stream = model.stream(31, 1, FSR_UINT8, options);
    const std::size_t taken = counter.bytes - packed;
    CHECK(taken <= plan.memory + 1024 && taken >= plan.memory * 9 / 10);  // the handle and rounding beside it
    stream_through(stream, from, to, 2);
    return FSR_OK;
  } catch (const fsr::Error& error) {
    return error.status();
  }
}

void test_allocator(const std::vector<char>& bytes) {
  Counter all;
  Picture<std::uint8_t> wanted(24, 124, 1, 5), got = wanted;
  CHECK(use_all(bytes, all, wanted) == FSR_OK);
  CHECK(all.blocks == 0 && all.bytes == 0 && all.requests > 10);
  for (long i = 0; i < all.requests; ++i) {
    Counter failing;
    failing.fails_at = i;
    CHECK(use_all(bytes, failing, got) == FSR_ERROR_OUT_OF_MEMORY);
    CHECK(failing.blocks == 0 && failing.bytes == 0);
  }
  fsr_allocator half = {sizeof(fsr_allocator), nullptr, &Counter::allocate, nullptr};
  fsr_model_options options = FSR_MODEL_OPTIONS_INIT;
  options.allocator = &half;
  fsr_model* model = nullptr;
  CHECK(fsr_model_open_memory(bytes.data(), bytes.size(), &options, &model) == FSR_ERROR_ARGUMENT);
}

// One model, many threads: each with a stream, whole images between, and errors of its own.
void test_threads(const std::vector<char>& bytes) {
  Counter counter;
  const fsr_allocator allocator = counter.face();
  fsr_model_options model_options = FSR_MODEL_OPTIONS_INIT;
  model_options.allocator = &allocator;
  auto model = std::make_unique<fsr::Model>(bytes.data(), bytes.size(), model_options);
  std::vector<Picture<std::uint16_t>> from, wanted;
  for (std::uint32_t i = 0; i < 3; ++i) {
    from.emplace_back(3 + 2 * i, 5 + 9 * i, i == 1 ? 1 : 3, i);
    wanted.push_back(place_for(from.back(), 4));
    model->upscale(from.back().view(), wanted.back().view());
  }
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      Picture<std::uint16_t>& mine = from[t % 3];
      Picture<std::uint16_t> got = place_for(mine, 4);
      fsr_options options = fsr::default_options();
      options.threads = 1 + t % 2;
      fsr::Stream stream = model->stream(mine.width, mine.channels, FSR_UINT16, options);
      for (std::uint32_t i = 0; i < 2; ++i) {
        stream_through(stream, mine, got, 1 + t);
        right += got.pixels == wanted[t % 3].pixels;
        stream.reset();
        model->upscale(mine.view(), got.view(), options);
        right += got.pixels == wanted[t % 3].pixels;
        fsr_stream* none = nullptr;
        CHECK(fsr_stream_open(model->get(), 7, 50 + t, FSR_UINT8, nullptr, &none) == FSR_ERROR_ARGUMENT);
        CHECK(says((std::to_string(50 + t) + " channels").c_str()));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(right == 24);

  // A stream outlives its model.
  fsr::Stream last = model->stream(from[1].width, 1, FSR_UINT16);
  model.reset();
  Picture<std::uint16_t> got = place_for(from[1], 4);
  stream_through(last, from[1], got, 2);
  CHECK(got.pixels == wanted[1].pixels);
  {
    const fsr::Stream closed = std::move(last);
  }
  CHECK(counter.blocks == 0);
}

struct Lines {
  std::vector<std::string> lines;
  static void hear(void* user, fsr_log_level level, const char* message) {
    static_cast<Lines*>(user)->lines.push_back(std::to_string(level) + " " + message);
  }
};

void test_log(const std::vector<char>& bytes) {
  Lines log;
  fsr_model_options options = FSR_MODEL_OPTIONS_INIT;
  options.isa = "scalar";
  options.log = &Lines::hear;
  options.log_user = &log;
  fsr::Model model(bytes.data(), bytes.size(), options);
  CHECK(log.lines.size() == 1 && log.lines[0].find("1 model fmen, sha256 " + std::string(model.info().sha256)) == 0);
  CHECK(std::string(model.info().isa) == "scalar" && std::string(model.info().name) == "fmen");
  CHECK(model.info().network_count == 2 && model.info().networks[0].scale == 4);
  (void)model.stream(12, 3, FSR_UINT8);
  CHECK(log.lines.size() == 2 && log.lines[1].find("1 stream of 12 columns, 3 channels, x4") == 0);
  CHECK(fsr_upscale_plan(model.get(), nullptr, nullptr, nullptr) == FSR_ERROR_ARGUMENT);
  CHECK(log.lines.size() == 3 && log.lines[2] == "3 source is a null pointer");
}

#if !defined(__SANITIZE_THREAD__)  // which does not follow a fork
// A child has its parent's memory but not its threads: it can close what it inherited, and use the model.
void test_fork(fsr::Model& model) {
  Picture<std::uint8_t> from(5, 7, 1, 1), to = place_for(from, 4), wanted = to;
  fsr_options options = fsr::default_options();
  options.threads = 2;
  model.upscale(from.view(), wanted.view(), options);
  auto stream = std::make_unique<fsr::Stream>(model.stream(7, 1, FSR_UINT8, options));
  const pid_t child = fork();
  if (child == 0) {
    const fsr_image source = from.view();
    std::uint32_t n = 0;
    if (fsr_stream_push_rows(stream->get(), &source, &n) != FSR_ERROR_STATE) _exit(1);
    stream.reset();
    model.upscale(from.view(), to.view(), options);
    _exit(to.pixels == wanted.pixels ? 0 : 2);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
#endif

}  // namespace

int main(int argc, char** argv) {
  const std::vector<char> bytes = read_file(argv[1]);
  fsr::Model model(bytes.data(), bytes.size());
  test_errors(model, bytes);
  test_versions(model);
  test_cancellation(model);
  test_allocator(bytes);
  test_threads(bytes);
  test_log(bytes);
#if !defined(__SANITIZE_THREAD__)
  test_fork(model);
#endif
  for (int i = 1; i < argc; ++i) {
    fsr::Model each{std::string(argv[i])};
    for (std::size_t n = 0; n < each.info().network_count; ++n) {
      const fsr_network network = each.info().networks[n];
      switch ((n + static_cast<std::size_t>(i)) % 4) {
        case 0: test_roads<std::uint8_t>(each, network.scale, network.channels); break;
        case 1: test_roads<std::uint16_t>(each, network.scale, network.channels); break;
        case 2: test_roads<std::int16_t>(each, network.scale, network.channels); break;
        default: test_roads<float>(each, network.scale, network.channels);
      }
    }
  }
}
