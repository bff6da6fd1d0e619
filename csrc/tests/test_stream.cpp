// Rows pushed and pulled at any pace give the bits of a whole-image run; no image of any height needs more rows than
// were planned; the latency is what was told, no more and no less.
#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "cpu/isa.hpp"
#include "runtime/model.hpp"
#include "runtime/stream.hpp"
#include "tests/check.hpp"
#include "tests/model_file.hpp"

using namespace fastsr;

namespace {

struct Picture {
  Picture(std::int64_t h, std::int64_t w, int c)
      : height(h), width(w), channels(c), pixels(static_cast<std::size_t>(h * w * c)) {}
  // Rows from y on, at most `count`.
  ImageView rows(std::int64_t y, std::int64_t count) {
    ImageView v;
    v.row_stride = width * channels * 2;
    v.data = reinterpret_cast<unsigned char*>(pixels.data()) + y * v.row_stride;
    v.type = PixelType::u16;
    v.height = std::min(count, height - y);
    v.width = width;
    v.channels = channels;
    v.pixel_stride = channels * 2;
    v.channel_stride = 2;
    return v;
  }
  std::int64_t height, width;
  int channels;
  std::vector<std::uint16_t> pixels;
};

const Mapping kMapping = {1.0f / 65535, 0, 65535, 0, 0, 65535};

Picture whole_image(Network& network, Picture& from) {
  const int scale = network.graph().scale;
  Picture to(from.height * scale, from.width * scale, from.channels);
  ViewSource source(from.rows(0, from.height), 0, 0);
  ViewSink sink(to.rows(0, to.height), 0, 0);
  Request request;
  request.height = from.height;
  request.width = from.width;
  request.box = {{0, from.height}, {0, from.width}};
  request.mapping = kMapping;
  request.source = &source;
  request.sink = &sink;
  request.threads = 2;
  CHECK(network.run(request).ok());
  return to;
}

// Push and pull in portions of random size; at each moment exactly the rows that the latency promises are there.
Picture streamed(Stream& stream, Picture& from, std::int64_t latency, std::mt19937& random) {
  const int scale = stream.network().graph().scale;
  Picture to(from.height * scale, from.width * scale, from.channels);
  std::int64_t pushed = 0, pulled = 0;
  bool ended = false;
  while (pulled < to.height) {
    std::int64_t n = 0;
    if (pushed < from.height) {
      CHECK(stream.push(from.rows(pushed, 1 + random() % 5), n).ok());
      pushed += n;
    } else if (!ended) {
      CHECK(stream.end().ok());
      ended = true;
    }
    const std::int64_t before = pulled;
    do {
      CHECK(stream.pull(to.rows(pulled, 1 + random() % 11), n).ok());
      pulled += n;
    } while (n > 0);
    CHECK(pulled > before || !ended);
    if (!ended) CHECK(pulled >= (pushed - latency) * scale);
  }
  std::int64_t n = 0;
  CHECK(stream.pull(to.rows(0, 1), n).ok() && n == 0);
  CHECK(stream.push(from.rows(0, 1), n).code() == Code::sequence);
  return to;
}

void test_bits(Model& model, const Graph& graph, std::mt19937& random) {
  Network& network = *model.network(graph.scale, graph.channels, *select_isa("").value()).value();
  const int cases[][2] = {{1, 1}, {1, 17}, {3, 3}, {8, 5}};  // strip, width
  for (const auto& [strip, width] : cases) {
    StreamOptions options;
    options.width = width;
    options.type = PixelType::u16;
    options.mapping = kMapping;
    options.threads = 1 + width % 3;
    options.strip = strip;
    const std::int64_t latency = plan_stream(network, options).value().latency;
    Result<std::unique_ptr<Stream>> stream = Stream::make(network, options);
    CHECK(stream.ok());
    for (std::int64_t height : {1, 2, 9}) {
      Picture from(height, width, graph.channels);
      for (std::uint16_t& p : from.pixels) p = static_cast<std::uint16_t>(random());
      Picture wanted = whole_image(network, from);
      CHECK(streamed(*stream.value(), from, latency, random).pixels == wanted.pixels);
      stream.value()->reset();
      std::int64_t n = 0;
      CHECK(stream.value()->push(from.rows(0, height), n).ok());  // an image that is given up
      stream.value()->reset();
    }
  }
}

// The latency is the least that can be promised: with a row less, rows would be missing.
void test_latency(Network& network, std::int64_t known) {
  StreamOptions options;
  options.width = 5;
  options.type = PixelType::u16;
  options.mapping = kMapping;
  const std::int64_t latency = plan_stream(network, options).value().latency, scale = network.graph().scale;
  CHECK(latency == known);
  Picture from(3 * latency, 5, network.graph().channels), to(64, 5 * network.graph().scale, from.channels);
  Result<std::unique_ptr<Stream>> stream = Stream::make(network, options);
  std::int64_t pulled = 0, most = 0;
  for (std::int64_t y = 0; y < from.height; ++y) {
    std::int64_t n = 0;
    CHECK(stream.value()->push(from.rows(y, 1), n).ok() && n == 1);
    CHECK(stream.value()->pull(to.rows(0, 64), n).ok());
    pulled += n;
    most = std::max(most, y + 1 - pulled / scale);
  }
  CHECK(most == latency);  // never more, and not less either
}

// Convolutions of many heights, skips, shuffles and resizes; weights do not matter to a schedule.
Graph random_graph(std::mt19937& random) {
  Graph graph;
  graph.channels = 1 + static_cast<int>(random() % 8);  // from 6 on, tiles
  const int count = 2 + static_cast<int>(random() % 14);
  for (int i = 0; i < count; ++i) {
    Node node;
    const int input = random() % 3 ? i : static_cast<int>(random() % static_cast<unsigned>(i + 1));
    node.inputs = {input};
    node.input_channels = node.channels = graph.value_channels(input);
    node.scale = graph.value_scale(input);
    const unsigned kind = random() % 6;
    if (kind == 0 && node.scale < 4) {
      node.op = NodeOp::resize;
      node.mode = static_cast<ResizeMode>(random() % 3);
      node.factor = 2 + static_cast<int>(random() % 2);
    } else if (kind == 1 && node.scale < 4) {
      node.op = NodeOp::pixel_shuffle;
      node.factor = 2;
      node.channels = 1;
    } else {
      node.kernel_h = node.kernel_w = 1 + 2 * static_cast<int>(random() % 6);
      node.channels = 1 + static_cast<int>(random() % 3);
      for (int other = 0; other < i; ++other) {
        if (graph.value_scale(other) == node.scale && random() % 4 == 0) node.inputs.push_back(other);
      }
    }
    node.scale *= node.own_scale();
    graph.nodes.push_back(node);
  }
  graph.output = count;
  graph.scale = graph.value_scale(count);
  graph.out_channels = graph.value_channels(count);
  return graph;
}

// The rows alive, pool by pool and value by value, of an image of which the schedule learns late that it has ended.
void check_rows_alive(const Pipeline& p, const Plan& plan, std::int64_t height) {
  Schedule schedule(p, plan.rows, stored_part(p, plan.box.rows), plan.strip);
  std::vector<Range> rows;
  needed(p, height, {0, height}, true, rows);
  std::int64_t loaded = 0;
  std::vector<std::int64_t> used(plan.slots.size());
  while (!schedule.done()) {
    for (std::size_t s = 0; s < p.stages.size(); ++s) {
      Range part = schedule.ready(s);
      if (s == 0) {
        part.end = std::min(part.end, height);
        loaded = part.end;
      }
      const Stage& stage = p.stages[s];
      if (stage.value >= 0) {
        const auto v = static_cast<std::size_t>(stage.value), pool = static_cast<std::size_t>(p.pool_of[v]);
        used[pool] += part.size();
        CHECK(used[pool] <= plan.slots[pool]);
        CHECK(schedule.alive(stage.value) + part.size() <= plan.ring[v]);
      }
      if (part.size() > 0) schedule.made(s, part);
      for (int input : stage.inputs) {
        used[static_cast<std::size_t>(p.pool_of[static_cast<std::size_t>(input)])] -= schedule.take_dead(input).size();
      }
      if (s == 0 && loaded == height) schedule.end_at(rows, stored_part(p, {0, height}));
    }
  }
  for (std::int64_t n : used) CHECK(n == 0);
}

void test_rows_alive(std::mt19937& random) {
  for (int i = 0; i < 10; ++i) {
    ModelFile file;
    file.graphs.push_back(random_graph(random));
    for (Node& node : file.graphs[0].nodes) {
      if (node.op != NodeOp::conv) continue;
      node.weight = 0;
    }
    file.tensors.emplace_back();
    CHECK(file.data.allocate(1 << 16));
    std::fill(file.data.data(), file.data.data() + file.data.size(), 0.0f);
    Result<std::unique_ptr<Network>> network = Network::make(file, file.graphs[0], kScalar);
    CHECK(network.ok());
    for (int strip : {1, 2, 5, 8}) {
      StreamOptions options;
      options.width = 3;
      options.strip = strip;
      Result<StreamPlan> plan = plan_stream(*network.value(), options);
      CHECK(plan.ok());
      const std::int64_t tallest = plan.value().latency * 2 + 7 * strip;
      for (std::int64_t height = 1; height <= tallest; ++height) {
        check_rows_alive(network.value()->pipeline(), plan.value().plan, height);
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::mt19937 random(11);
  test_rows_alive(random);
  for (int i = 1; i < argc; ++i) {
    const std::vector<char> bytes = read_file(argv[i]);
    Result<std::unique_ptr<Model>> model = Model::open(bytes.data(), bytes.size());
    CHECK(model.ok());
    for (const Graph& graph : model.value()->file().graphs) test_bits(*model.value(), graph, random);
    if (model.value()->file().name == "fmen") {
      test_latency(*model.value()->network(4, 1, *select_isa("").value(), {false, false}).value(), 34);
      test_latency(*model.value()->network(4, 1, *select_isa("").value()).value(), 37);
    }
  }
}
