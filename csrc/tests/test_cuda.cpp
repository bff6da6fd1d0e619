// The GPU's back end with the CPU in the GPU's place: the kernels as they are written, thread by thread, and streams
// that run late or at random moments. In fp32 its bits are those of the CPU engine without Winograd.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cpu/isa.hpp"
#include "cuda/emulated/device.hpp"
#include "cuda/emulated/queue.hpp"
#include "cuda/network.hpp"
#include "graph/loader.hpp"
#include "runtime/network.hpp"
#include "tests/check.hpp"
#include "tests/model_file.hpp"

using namespace fastsr;
using cuda::Precision;

namespace {

// An image of 32-bit pixels, [row][column][channel].
struct Picture {
  Picture(std::int64_t h, std::int64_t w, int c)
      : height(h), width(w), channels(c), pixels(static_cast<std::size_t>(h * w * c), NAN) {}
  ImageView view() {
    ImageView v;
    v.data = reinterpret_cast<unsigned char*>(pixels.data());
    v.type = PixelType::f32;
    v.height = height;
    v.width = width;
    v.channels = channels;
    v.channel_stride = 4;
    v.pixel_stride = 4 * channels;
    v.row_stride = v.pixel_stride * width;
    return v;
  }
  std::int64_t height, width;
  int channels;
  std::vector<float> pixels;
};

Picture random_picture(std::int64_t h, std::int64_t w, int c, unsigned seed) {
  Picture picture(h, w, c);
  std::mt19937 random(seed);
  for (float& p : picture.pixels) p = static_cast<float>(random() % 4096) / 4096;
  return picture;
}

struct Options {
  Box box;
  int strip = 0;
  std::uint64_t max_memory = 0;
};

// Fills in the request, and the source and sink over the pictures.
struct Job {
  Job(Picture& from, Picture& to, int scale, const Options& o)
      : source(from.view(), 0, 0), sink(to.view(), o.box.rows.begin * scale, o.box.columns.begin * scale) {
    request.height = from.height;
    request.width = from.width;
    request.box = o.box;
    request.mapping = {1, 0, 1, 0, 0, 0};
    request.source = &source;
    request.sink = &sink;
    request.strip = o.strip;
    request.max_memory = o.max_memory;
    request.threads = 1;
  }
  ViewSource source;
  ViewSink sink;
  Request request;
};

Options whole(const Picture& from) { return {{{0, from.height}, {0, from.width}}, 0, 0}; }

Picture on_cpu(const ModelFile& file, const Graph& graph, Picture& from, const Options& o) {
  Result<std::unique_ptr<Network>> network = Network::make(file, graph, *select_isa("").value(), {false});
  CHECK(network.ok());
  Picture to(o.box.rows.size() * graph.scale, o.box.columns.size() * graph.scale, graph.out_channels);
  Job job(from, to, graph.scale, o);
  CHECK(network.value()->run(job.request).ok());
  return to;
}

Picture on_gpu(cuda::Network& network, Picture& from, const Options& o, cuda::Report& report) {
  const Graph& graph = network.graph();
  Picture to(o.box.rows.size() * graph.scale, o.box.columns.size() * graph.scale, graph.out_channels);
  Job job(from, to, graph.scale, o);
  const Status status = network.run(job.request, nullptr, PixelType::f32, report);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  CHECK(status.ok());
  return to;
}

bool equal(const Picture& a, const Picture& b) {
  if (a.pixels.size() != b.pixels.size()) return false;
  for (std::size_t i = 0; i < a.pixels.size(); ++i) {
    if (!(a.pixels[i] == b.pixels[i])) return false;
  }
  return true;
}

double distance(const Picture& a, const Picture& b) {
  CHECK(a.pixels.size() == b.pixels.size());
  double most = 0;
  for (std::size_t i = 0; i < a.pixels.size(); ++i) {
    const double d = std::fabs(double{a.pixels[i]} - double{b.pixels[i]});
    CHECK(d == d);
    most = std::max(most, d);
  }
  return most;
}

std::unique_ptr<cuda::Network> make(const ModelFile& file, const Graph& graph, Precision precision, bool slow = false) {
  Result<std::unique_ptr<cuda::Network>> made = cuda::Network::make(file, graph, precision, slow);
  CHECK(made.ok());
  return std::move(made.value());
}

// Results of the CPU engine, to the bit, however work is cut and whenever the streams run.
void test_fp32(const ModelFile& file, const Graph& graph, std::int64_t height, std::int64_t width) {
  const std::unique_ptr<cuda::Network> network = make(file, graph, Precision::fp32);
  Picture from = random_picture(height, width, graph.channels, 1);
  const Picture wanted = on_cpu(file, graph, from, whole(from));
  cuda::Report report;
  for (unsigned seed : {0u, 7u}) {
    cuda::emulated::schedule(seed);
    Options o = whole(from);
    o.strip = seed == 0 ? 0 : 2;
    CHECK(equal(on_gpu(*network, from, o, report), wanted));
    CHECK(!report.redone);
  }
  cuda::emulated::schedule(0);
}

// ---- small networks that are made here ----

struct Conv {
  int inputs, outputs, kernel_h, kernel_w, groups;
};

// A chain of convolutions with bias and LeakyReLU, all weights whole numbers from -most to most.
ModelFile chain(const std::vector<Conv>& convs, int most, unsigned seed) {
  ModelFile file;
  Graph graph;
  std::mt19937 random(seed);
  std::vector<float> data;
  auto add_tensor = [&](std::vector<std::int64_t> shape) {
    std::int64_t count = 1;
    for (std::int64_t side : shape) count *= side;
    file.tensors.push_back({"t", shape, data.size()});
    for (std::int64_t i = 0; i < count; ++i) {
      data.push_back(static_cast<float>(static_cast<int>(random() % static_cast<unsigned>(2 * most + 1)) - most));
    }
    return static_cast<int>(file.tensors.size()) - 1;
  };
  for (const Conv& conv : convs) {
    Node node;
    node.op = NodeOp::conv;
    node.inputs = {static_cast<int>(graph.nodes.size())};
    node.kernel_h = conv.kernel_h;
    node.kernel_w = conv.kernel_w;
    node.groups = conv.groups;
    node.input_channels = conv.inputs;
    node.channels = conv.outputs;
    node.weight = add_tensor({conv.outputs, conv.inputs / conv.groups, conv.kernel_h, conv.kernel_w});
    node.bias = add_tensor({conv.outputs});
    Step step;
    step.op = StepOp::leaky_relu;
    step.a = 0.5f;
    node.steps = {step};
    graph.nodes.push_back(node);
  }
  graph.channels = convs.front().inputs;
  graph.out_channels = convs.back().outputs;
  graph.output = static_cast<int>(graph.nodes.size());
  file.graphs = {graph};
  CHECK(file.data.allocate(data.size()));
  std::memcpy(file.data.data(), data.data(), data.size() * sizeof(float));
  return file;
}

Picture whole_numbers(std::int64_t h, std::int64_t w, int c) {
  Picture picture = random_picture(h, w, c, 5);
  for (float& p : picture.pixels) p = std::floor(p * 4);
  return picture;
}

// The tensor cores' kernel, fragment by fragment. All sums are whole numbers, which fp32 holds exactly in any order, so
// that it has to agree with the convolution as it is defined.
void test_tensor() {
  const std::vector<Conv> convs = {{3, 50, 3, 3, 1},  {50, 50, 3, 3, 1}, {16, 12, 3, 3, 1}, {12, 16, 3, 3, 1},
                                   {64, 3, 9, 9, 1},  {3, 64, 9, 9, 1},  {1, 8, 1, 1, 1},   {130, 20, 3, 5, 1},
                                   {64, 70, 3, 3, 1}, {24, 40, 5, 1, 1}, {8, 33, 1, 31, 1}, {50, 48, 3, 3, 1}};
  for (const Conv& conv : convs) {
    const ModelFile file = chain({conv}, 2, 3);
    const Graph& graph = file.graphs[0];
    CHECK(cuda::kind_of(graph.nodes[0], Precision::fp16) == cuda::ConvKind::tensor);
    const std::unique_ptr<cuda::Network> fast = make(file, graph, Precision::fp16);
    const std::unique_ptr<cuda::Network> slow = make(file, graph, Precision::fp16, true);
    const std::int64_t shapes[][2] = {{1, 1}, {18, 35}};
    for (const auto& shape : shapes) {
      Picture from = whole_numbers(shape[0], shape[1], conv.inputs);
      cuda::Report report;
      const Picture got = on_gpu(*fast, from, whole(from), report);
      CHECK(!report.redone);
      CHECK(equal(got, on_gpu(*slow, from, whole(from), report)));
    }
  }
  CHECK(cuda::kind_of(chain({{4, 8, 3, 3, 2}}, 2, 3).graphs[0].nodes[0], Precision::fp16) == cuda::ConvKind::plain);
}

void test_fp16(const ModelFile& file, const Graph& graph) {
  const std::unique_ptr<cuda::Network> network = make(file, graph, Precision::fp16);
  Picture from = random_picture(7, 18, graph.channels, 1);
  cuda::Report report;
  const Picture got = on_gpu(*network, from, whole(from), report);
  CHECK(!report.redone);
  const double off = distance(got, on_cpu(file, graph, from, whole(from)));
  CHECK(off > 0 && off < 2e-3);
}

// Boxes, budgets and small devices.
void test_memory() {
  const ModelFile file = chain({{3, 9, 3, 3, 1}, {9, 9, 5, 5, 1}, {9, 9, 3, 3, 9}, {9, 2, 1, 3, 1}}, 1, 9);
  const Graph& graph = file.graphs[0];
  const std::unique_ptr<cuda::Network> network = make(file, graph, Precision::fp32);
  const std::uint64_t before = cuda::emulated::allocated();
  Picture from = random_picture(40, 70, 3, 2), to(40, 70, 2);
  const Picture wanted = on_cpu(file, graph, from, whole(from));
  Job refused(from, to, 1, {{{0, 40}, {0, 70}}, 0, 1});
  cuda::Report report;
  const Status status = network->run(refused.request, nullptr, PixelType::f32, report);
  CHECK(status.code() == Code::memory_budget && status.least() > 1);
  for (std::uint64_t budget : {status.least(), status.least() * 2, std::uint64_t{0}}) {
    network->release();
    cuda::emulated::reset_peak();
    Options o = whole(from);
    o.max_memory = budget;
    cuda::emulated::schedule(static_cast<unsigned>(budget));
    CHECK(equal(on_gpu(*network, from, o, report), wanted));
    CHECK(budget == 0 || report.memory <= budget);
    CHECK(cuda::emulated::peak() - before + cuda::emulated::pinned() <= report.memory);
  }
  CHECK(report.panels == 1 && report.strip == 40);
  refused.request.max_memory = status.least() - 1;
  CHECK(network->run(refused.request, nullptr, PixelType::f32, report).code() == Code::memory_budget);

  // As many rows are alive as on the CPU.
  const Box box = whole(from).box;
  PlanLimits on_cpu_limits;
  on_cpu_limits.strip = 4;
  on_cpu_limits.panels = false;
  cuda::Limits limits;
  limits.strip = 4;
  Result<Plan> cpu_plan = make_plan(network->pipeline(), 40, 70, box, on_cpu_limits);
  Result<cuda::Plan> plan = cuda::make_plan(network->pipeline(), 40, 70, box, limits);
  CHECK(cpu_plan.ok() && plan.ok());
  for (std::size_t i = 0; i < plan.value().pools.size(); ++i) {
    CHECK(plan.value().pools[i].slots == cpu_plan.value().slots[i]);
  }

  // A device with little memory gets smaller strips, one with too little an error.
  network->release();
  cuda::emulated::set_device_memory(before + report.memory / 4);
  CHECK(equal(on_gpu(*network, from, whole(from), report), wanted));
  CHECK(report.strip < 40);
  network->release();
  cuda::emulated::set_device_memory(before + 100);
  Job job(from, to, 1, whole(from));
  const Status none = network->run(job.request, nullptr, PixelType::f32, report);
  CHECK(none.code() == Code::out_of_memory && none.message().find("at least") != std::string::npos);
  cuda::emulated::set_device_memory(std::uint64_t{1} << 40);

  std::mt19937 random(3);
  for (unsigned i = 0; i < 12; ++i) {
    Options o;
    auto below = [&](std::int64_t n) { return static_cast<std::int64_t>(random() % static_cast<unsigned>(n)); };
    o.box.columns.begin = below(70);
    o.box.columns.end = o.box.columns.begin + 1 + below(70 - o.box.columns.begin);
    o.box.rows.begin = below(40);
    o.box.rows.end = o.box.rows.begin + 1 + below(40 - o.box.rows.begin);
    o.strip = static_cast<int>(below(4));
    cuda::emulated::schedule(i);
    CHECK(equal(on_gpu(*network, from, o, report), on_cpu(file, graph, from, o)));
  }
  cuda::emulated::schedule(0);
  network->release();
  CHECK(cuda::emulated::allocated() == before && cuda::emulated::pinned() == 0);
}

// More rows than one table holds.
void test_tall() {
  const ModelFile file = chain({{1, 2, 3, 1, 1}, {2, 1, 3, 1, 1}}, 1, 4);
  Picture from = random_picture(20000, 1, 1, 6);
  const std::unique_ptr<cuda::Network> network = make(file, file.graphs[0], Precision::fp32);
  cuda::Report report;
  Options o = whole(from);
  o.strip = 3000;
  CHECK(equal(on_gpu(*network, from, o, report), on_cpu(file, file.graphs[0], from, o)));
}

// What fp16 cannot hold is computed again in fp32, also where a later step would hide it.
void test_overflow() {
  const ModelFile file = chain({{3, 8, 3, 3, 1}, {8, 8, 3, 3, 1}, {8, 3, 3, 3, 1}}, 60, 8);
  Graph hidden = file.graphs[0];
  hidden.nodes[2].steps[0].op = StepOp::sigmoid;
  for (const Graph* graph : {&file.graphs[0], static_cast<const Graph*>(&hidden)}) {
    const std::unique_ptr<cuda::Network> network = make(file, *graph, Precision::fp16);
    Picture from = whole_numbers(9, 21, 3);
    for (float& p : from.pixels) p += 1;
    cuda::Report report;
    Options o = whole(from);
    o.strip = 2;
    CHECK(equal(on_gpu(*network, from, o, report), on_cpu(file, *graph, from, o)));
    CHECK(report.redone);
  }
}

void test_bad_pixels() {
  const ModelFile file = chain({{3, 3, 3, 3, 1}}, 1, 8);
  for (Precision precision : {Precision::fp32, Precision::fp16}) {
    const std::unique_ptr<cuda::Network> network = make(file, file.graphs[0], precision);
    for (float bad : {NAN, INFINITY, -INFINITY}) {
      Picture from = random_picture(30, 8, 3, 6), to(30, 8, 3);
      from.pixels[400] = bad;
      Job job(from, to, 1, whole(from));
      job.request.strip = 4;
      cuda::Report report;
      CHECK(network->run(job.request, nullptr, PixelType::f32, report).code() == Code::pixel_value);
    }
  }
}

// Pixels that are on the device already, with strides and on the caller's stream, rows in reverse.
void test_on_device() {
  const ModelFile file = chain({{3, 9, 3, 3, 1}, {9, 3, 3, 3, 1}}, 1, 8);
  const Graph& graph = file.graphs[0];
  Picture from = random_picture(11, 6, 3, 6), to(11, 6, 3);
  for (Precision precision : {Precision::fp32, Precision::fp16}) {
    const std::unique_ptr<cuda::Network> network = make(file, graph, precision);
    cuda::Report report;
    const Picture wanted = on_gpu(*network, from, whole(from), report);
    cuda::OnDevice pixels;
    pixels.stream = cuda::emulated::new_handle();
    pixels.source.data = reinterpret_cast<unsigned char*>(from.pixels.data());
    pixels.target.data = reinterpret_cast<unsigned char*>(to.pixels.data() + 10 * 6 * 3);
    pixels.source.type = pixels.target.type = PixelType::f32;
    pixels.source.channel_stride = pixels.target.channel_stride = 4;
    pixels.source.pixel_stride = pixels.target.pixel_stride = 12;
    pixels.source.row_stride = 72;
    pixels.target.row_stride = -72;
    Job job(from, to, 1, whole(from));
    job.request.strip = 3;
    CHECK(network->run(job.request, &pixels, PixelType::f32, report).ok());
    for (std::size_t y = 0; y < 11; ++y) {
      for (std::size_t i = 0; i < 18; ++i) CHECK(to.pixels[(10 - y) * 18 + i] == wanted.pixels[y * 18 + i]);
    }
  }
}

// Conversion of each half to float and back, and rounding to nearest even between any two.
void test_half() {
  for (std::uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const float x = cuda::to_float(cuda::Half{static_cast<std::uint16_t>(bits)});
    CHECK(cuda::to_half(x).bits == bits && cuda::to_half(-x).bits == (bits | 0x8000));
    const float next = bits == 0x7bff ? 65536.0f : cuda::to_float(cuda::Half{static_cast<std::uint16_t>(bits + 1)});
    const float middle = (x + next) / 2;
    CHECK(cuda::to_half(middle).bits == bits + bits % 2);
    CHECK(cuda::to_half(std::nextafter(middle, 0.0f)).bits == bits);
    CHECK(cuda::to_half(std::nextafter(middle, 1e9f)).bits == bits + 1);
  }
  CHECK(cuda::to_half(NAN).bits == 0x7e00 && cuda::to_half(INFINITY).bits == 0x7c00);
}

}  // namespace

int main(int, char** argv) {
  test_half();
  test_tensor();
  test_memory();
  test_tall();
  test_overflow();
  test_bad_pixels();
  test_on_device();
  for (int i = 1; argv[i] != nullptr; ++i) {
    const std::vector<char> bytes = read_file(argv[i]);
    Result<ModelFile> file = load_model(bytes.data(), bytes.size());
    CHECK(file.ok());
    const Graph& graph = file.value().graphs[0];
    test_fp32(file.value(), graph, 5, 7);
    if (i == 1) test_fp16(file.value(), graph);
  }
}
