// A simulated scanner: rows of 16 bits arrive at a line rate, and are enlarged as they come.
//
//     ./scanner MODEL.fsr [columns=512] [rows=512] [lines_per_second=100] [threads=2] [images=1]
//
// Three latencies are reported: from a row's arrival to the moment when the rows of the result that waited for it alone
// are there (what computing takes); from a row's arrival to the moment when the result at its own place is there (with
// the rows below that the network looks at); and from an image's last row to its complete result. Rows arrive on a
// clock that waits for nobody: if computing is slower than the scanner, rows queue, and the latency says so.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fastsr/fastsr.hpp>
#include <new>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
std::atomic<long> allocations{0};  // by operator new and by the library

void* aligned(std::size_t size, std::size_t alignment) {
  ++allocations;
  return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

fsr_allocator counting_allocator() {
  fsr_allocator allocator = FSR_ALLOCATOR_INIT;
  allocator.allocate = [](void*, std::size_t size, std::size_t alignment) { return aligned(size, alignment); };
  allocator.release = [](void*, void* block, std::size_t) { std::free(block); };
  return allocator;
}

struct Scan {
  std::uint32_t columns, rows, scale;
  double lines_per_second;
  std::vector<std::uint16_t> lr, sr;          // one row; `scale` rows
  std::vector<Clock::time_point> seen;        // when row y arrived
  std::vector<double> computing, place, end;  // ms of each row; of each image
};

double ms(Clock::duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

// Something with edges and noise in it.
void acquire(Scan& scan, std::uint32_t y) {
  std::uint32_t noise = y * 2654435761u + 1;
  for (std::uint32_t x = 0; x < scan.columns; ++x) {
    noise = noise * 1664525u + 1013904223u;
    scan.lr[x] = static_cast<std::uint16_t>((x / 16 + y / 16) % 2 * 30000 + (noise >> 20));
  }
}

// Take what is ready. `last`: the row that has just arrived.
void pull(fsr::Stream& stream, Scan& scan, std::uint32_t& pulled, std::uint32_t last, bool ended) {
  for (;;) {
    const std::uint32_t given = stream.pull(fsr::view(scan.sr.data(), scan.columns * scan.scale, scan.scale));
    if (given == 0) return;
    const Clock::time_point now = Clock::now();
    for (std::uint32_t i = 0; i < given; ++i, ++pulled) {
      if (pulled % scan.scale + 1 < scan.scale || ended) continue;  // a row is done with its last row of the result
      scan.computing.push_back(ms(now - scan.seen[last]));
      scan.place.push_back(ms(now - scan.seen[pulled / scan.scale]));
    }
  }
}

void scan_image(fsr::Stream& stream, Scan& scan) {
  const Clock::time_point start = Clock::now() + std::chrono::milliseconds(10);
  std::uint32_t pulled = 0;
  for (std::uint32_t y = 0; y < scan.rows; ++y) {
    const auto since = std::chrono::duration<double>(y / scan.lines_per_second);
    scan.seen[y] = start + std::chrono::duration_cast<Clock::duration>(since);
    acquire(scan, y);
    std::this_thread::sleep_until(scan.seen[y]);
    stream.push(fsr::view(scan.lr.data(), scan.columns, 1));  // takes the row: what was ready has been pulled
    pull(stream, scan, pulled, y, false);
  }
  stream.end();
  pull(stream, scan, pulled, scan.rows - 1, true);
  scan.end.push_back(ms(Clock::now() - scan.seen.back()));
  stream.reset();
}

void report(const char* name, std::vector<double>& values) {
  if (values.empty()) return;  // an image of fewer rows than the latency
  std::sort(values.begin(), values.end());
  const auto at = [&](double part) {
    return values[static_cast<std::size_t>(part * static_cast<double>(values.size() - 1) + 0.5)];
  };
  std::printf("%-40s median %8.3f ms   99.9 %% %8.3f ms   max %8.3f ms\n", name, at(0.5), at(0.999), values.back());
}

double number(int argc, char** argv, int index, double otherwise) {
  return argc > index ? std::atof(argv[index]) : otherwise;
}

}  // namespace

void* operator new(std::size_t size) {
  if (void* block = aligned(size ? size : 1, alignof(std::max_align_t))) return block;
  throw std::bad_alloc();
}
void operator delete(void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s MODEL.fsr [columns] [rows] [lines_per_second] [threads] [images]\n", argv[0]);
    return 2;
  }
  const fsr_allocator allocator = counting_allocator();
  fsr_model_options model_options = fsr::default_model_options();
  model_options.allocator = &allocator;
  fsr::Model model(argv[1], model_options);
  Scan scan{};
  scan.columns = static_cast<std::uint32_t>(number(argc, argv, 2, 512));
  scan.rows = static_cast<std::uint32_t>(number(argc, argv, 3, 512));
  scan.lines_per_second = number(argc, argv, 4, 100);
  fsr_options options = fsr::default_options();
  options.threads = static_cast<std::uint32_t>(number(argc, argv, 5, 2));
  const int images = static_cast<int>(number(argc, argv, 6, 1));

  const fsr_plan plan = model.stream_plan(scan.columns, 1, FSR_UINT16, options);
  scan.scale = plan.scale;
  scan.lr.resize(scan.columns);
  scan.sr.resize(std::size_t{scan.columns} * scan.scale * scan.scale);
  scan.seen.resize(scan.rows);
  scan.computing.reserve(std::size_t{scan.rows} * static_cast<std::size_t>(images));
  scan.place.reserve(scan.computing.capacity());
  scan.end.reserve(static_cast<std::size_t>(images));
  fsr::Stream stream = model.stream(scan.columns, 1, FSR_UINT16, options);
  std::printf("%s x%u on %s, %u columns, %u rows, %.0f lines/s, %u threads; %.1f MB, latency %u rows\n",
              model.info().name, plan.scale, model.info().isa, scan.columns, scan.rows, scan.lines_per_second,
              options.threads, static_cast<double>(plan.memory) / 1e6, plan.latency_rows);

  const long before = allocations;
  for (int image = 0; image < images; ++image) scan_image(stream, scan);
  const long during = allocations - before;
  report("arrival to the rows that waited for it", scan.computing);
  report("arrival to the result at its place", scan.place);
  report("last row to the complete result", scan.end);
  std::printf("allocations while scanning: %ld\n", during);
  return during == 0 ? 0 : 1;
} catch (const fsr::Error& error) {
  std::fprintf(stderr, "%s: %s\n", fsr_status_name(error.status()), error.what());
  return 1;
}
