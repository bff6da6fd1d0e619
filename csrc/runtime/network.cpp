#include "runtime/network.hpp"

#include <string>

#include "core/float_mode.hpp"
#include "core/thread_pool.hpp"
#include "cpu/isa.hpp"
#include "runtime/session.hpp"

namespace fastsr {
namespace {

constexpr int kMaxThreads = 256;
constexpr std::int64_t kMaxExtent = std::int64_t{1} << 30;

std::string text(std::int64_t value) { return std::to_string(value); }

ImageView part_of(const ImageView& view, std::int64_t y, std::int64_t x, Range rows, Range columns) {
  ImageView part = view;
  part.data = view.at(rows.begin - y, columns.begin - x);
  part.height = rows.size();
  part.width = columns.size();
  return part;
}

}  // namespace

Status ViewSource::rows(Range rows, Range columns, ImageView& view) {
  if (rows.begin < origin_y_ || rows.end > origin_y_ + view_.height || columns.begin < origin_x_ ||
      columns.end > origin_x_ + view_.width) {
    return {Code::shape, "the pixels that were passed do not cover rows " + text(rows.begin) + " to " +
                             text(rows.end - 1) + ", columns " + text(columns.begin) + " to " + text(columns.end - 1) +
                             " of the image, which this box needs"};
  }
  view = part_of(view_, origin_y_, origin_x_, rows, columns);
  return {};
}

Status ViewSink::prepare(Range rows, Range columns, ImageView& view) {
  if (rows.begin < origin_y_ || rows.end > origin_y_ + view_.height || columns.begin < origin_x_ ||
      columns.end > origin_x_ + view_.width) {
    return {Code::shape, "the place for the result is smaller than the result"};
  }
  view = part_of(view_, origin_y_, origin_x_, rows, columns);
  return {};
}

Result<std::unique_ptr<Network>> Network::make(const ModelFile& file, const Graph& graph, const Kernels& kernels,
                                               const Lowering& how) {
  if (how.bf16 && kernels.bf16_tiles && !may_use_tiles()) {
    return Status(Code::option, "the system lets this process use no AMX tiles; FASTSR_ISA=avx512_bf16 would do");
  }
  std::unique_ptr<Network> network(new Network);
  network->file_ = &file;
  network->lowering_ = how;
  network->graph_ = lower(graph, how);
  network->kernels_ = &kernels;
  network->pipeline_ = make_pipeline(network->graph_);
  return Result<std::unique_ptr<Network>>(std::move(network));
}

Status Network::prepare() {
  std::lock_guard<std::mutex> lock(packing_);
  if (!packed_ && !pack()) return {Code::out_of_memory, "the system has no memory for the weights"};
  packed_ = true;
  return {};
}

bool Network::pack() {
  const DefinedFloatMode mode;  // weights are rounded alike, whoever calls
  const std::vector<Node>& nodes = graph_.nodes;
  convs_ = std::vector<PackedConv>(nodes.size());
  winograds_ = std::vector<PackedWinograd>(nodes.size());
  winograd9s_ = std::vector<PackedWinograd9>(nodes.size());
  bf16s_ = std::vector<PackedBf16>(nodes.size());
  quantizers_ = std::vector<Quantizer>(nodes.size() + 1);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const Node& node = nodes[i];
    if (in_cells(node.layout)) {
      const Transform& transform = feeds_parts(graph_, static_cast<int>(i + 1)) ? kPartTransform : kTileTransform;
      if (!make_quantizer(file_->tensor(node.ranges), node.channels, node.range_span, transform, quantizers_[i + 1])) {
        return false;
      }
    }
    if (node.op != NodeOp::conv) continue;
    const float* weight = file_->tensor(node.weight);
    const float* bias = node.bias >= 0 ? file_->tensor(node.bias) : nullptr;
    const int max_block = kernels_->max_tile_block, max_part_block = kernels_->max_part_block;
    bool packed = false;
    switch (node.algorithm) {
      case Algorithm::direct: packed = pack_conv(node, weight, bias, *kernels_, convs_[i]); break;
      case Algorithm::direct_bf16:
        packed = pack_bf16(node, weight, bias, kernels_->max_block, kernels_->bf16_tiles, bf16s_[i]);
        break;
      case Algorithm::winograd9: packed = pack_winograd9(node, weight, bias, max_part_block, winograd9s_[i]); break;
      case Algorithm::winograd9_int:
        packed = pack_winograd9_int(node, weight, bias, quantizer(node.inputs[0]), max_part_block, winograd9s_[i]);
        break;
      case Algorithm::winograd: packed = pack_winograd(node, weight, bias, max_block, winograds_[i]); break;
      case Algorithm::winograd_int:
        packed = pack_winograd_int(node, weight, bias, quantizer(node.inputs[0]), max_block, winograds_[i]);
        break;
    }
    if (!packed) return false;
  }
  return true;
}

Network::~Network() { drop_idle(); }

Status Network::check(const Request& r) const {
  if (r.height < 1 || r.width < 1 || r.height > kMaxExtent || r.width > kMaxExtent) {
    return {Code::shape, "the image is " + text(r.height) + " x " + text(r.width) + "; 1 to " + text(kMaxExtent) +
                             " rows and columns are possible"};
  }
  const Box& b = r.box;
  if (b.rows.begin < 0 || b.rows.end > r.height || b.rows.size() < 1 || b.columns.begin < 0 ||
      b.columns.end > r.width || b.columns.size() < 1) {
    return {Code::option, "the box (left " + text(b.columns.begin) + ", top " + text(b.rows.begin) + ", right " +
                              text(b.columns.end) + ", bottom " + text(b.rows.end) + ") is empty or not inside the " +
                              text(r.width) + " x " + text(r.height) + " image"};
  }
  if (r.threads < 0 || r.threads > kMaxThreads) {
    return {Code::option, "threads is " + text(r.threads) + "; 1 to " + text(kMaxThreads) + " are possible"};
  }
  return {};
}

PlanLimits Network::limits(const Request& r) const {
  PlanLimits limits;
  limits.max_memory = r.max_memory;
  limits.threads = r.threads > 0 ? r.threads : default_threads();
  limits.strip = r.strip;
  limits.panels = r.panels;
  limits.staging_per_row = r.staging_per_row;
  return limits;
}

void Network::release() {
  std::lock_guard<std::mutex> lock(mutex_);
  drop_idle();
}

Box Network::reads(std::int64_t height, std::int64_t width, Box box) const {
  std::vector<Range> rows, columns;
  needed(pipeline_, height, box.rows, true, rows);
  needed(pipeline_, width, box.columns, false, columns);
  return {rows[0], columns[0]};
}

Result<Plan> Network::plan(const Request& request) const {
  FASTSR_TRY(check(request));
  return make_plan(pipeline_, request.height, request.width, request.box, limits(request));
}

void Network::drop_idle() {
  for (std::unique_ptr<Session>& session : idle_) {
    if (session->orphaned()) (void)session.release();  // joining threads that are not here would wait for ever
  }
  idle_.clear();
}

Status Network::run(const Request& request) {
  FASTSR_TRY(check(request));
  const PlanLimits limits = this->limits(request);
  std::unique_ptr<Session> session;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!idle_.empty() && (idle_.back()->orphaned() || !idle_.back()->fits(request, limits))) drop_idle();
    if (!idle_.empty()) {
      session = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (!session) {
    FASTSR_TRY(prepare());
    Result<std::unique_ptr<Session>> made = Session::make(*this, request, limits);
    if (!made.ok()) return made.status();
    session = std::move(made.value());
  }
  const Status status = session->run(request);
  std::lock_guard<std::mutex> lock(mutex_);
  if (!idle_.empty() && !idle_.back()->fits(request, limits)) drop_idle();
  idle_.push_back(std::move(session));
  return status;
}

}  // namespace fastsr
