#include "cuda/workspace.hpp"

#include <algorithm>
#include <cstring>

#include "graph/resize.hpp"

namespace fastsr::cuda {
namespace {

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

// Pixels between a view of any strides and a run of [row][column][channel].
template <bool ToView>
void move_pixels(const ImageView& view, unsigned char* run) {
  const std::size_t size = fastsr::size_of(view.type);
  const std::size_t row_bytes = at(view.width) * at(view.channels) * size;
  const bool dense = view.channel_stride == static_cast<std::ptrdiff_t>(size) &&
                     view.pixel_stride == static_cast<std::ptrdiff_t>(size) * view.channels;
  for (std::int64_t y = 0; y < view.height; ++y, run += row_bytes) {
    if (dense) {
      unsigned char* row = view.at(y, 0);
      std::memcpy(ToView ? row : run, ToView ? run : row, row_bytes);
      continue;
    }
    unsigned char* p = run;
    for (std::int64_t x = 0; x < view.width; ++x) {
      for (int c = 0; c < view.channels; ++c, p += size) {
        unsigned char* pixel = view.at(y, x) + c * view.channel_stride;
        std::memcpy(ToView ? pixel : p, ToView ? p : pixel, size);
      }
    }
  }
}

// [row][column][channel] without gaps, beginning at (row, column).
DevicePixels dense_pixels(unsigned char* data, PixelType type, int channels, Range rows, Range columns) {
  DevicePixels pixels;
  pixels.data = data;
  pixels.type = type;
  pixels.row = static_cast<int>(rows.begin);
  pixels.column = static_cast<int>(columns.begin);
  pixels.channel_stride = static_cast<std::int64_t>(fastsr::size_of(type));
  pixels.pixel_stride = pixels.channel_stride * channels;
  pixels.row_stride = pixels.pixel_stride * columns.size();
  return pixels;
}

std::size_t bytes_of(Range rows, Range columns, int channels, PixelType type) {
  return at(rows.size()) * at(columns.size()) * at(channels) * fastsr::size_of(type);
}

}  // namespace

Result<std::unique_ptr<Workspace>> Workspace::make(const Network& network, const Weights& weights, Plan plan,
                                                   const Limits& limits) {
  std::unique_ptr<Workspace> made(new Workspace(network, weights, std::move(plan), limits));
  Result<Block> device = Block::make(Place::device, made->plan_.device_bytes);
  if (!device.ok()) return device.status();
  made->device_ = std::move(device.value());
  Result<Block> pinned = Block::make(Place::pinned, made->plan_.pinned_bytes);
  if (!pinned.ok()) return pinned.status();
  made->pinned_ = std::move(pinned.value());
  for (OwnStream* stream : {&made->own_stream_, &made->in_stream_, &made->out_stream_}) FASTSR_TRY(stream->make());
  for (int i = 0; i < 2; ++i) {
    for (OwnEvent* event : {&made->in_copied_[i], &made->in_used_[i], &made->out_made_[i], &made->out_copied_[i]}) {
      FASTSR_TRY(event->make());
    }
  }
  return Result<std::unique_ptr<Workspace>>(std::move(made));
}

bool Workspace::fits(const Weights& weights, const Request& r, const Limits& limits) const {
  const Box &a = plan_.box, &b = r.box;
  return weights_ == &weights && plan_.height == r.height && plan_.width == r.width && a.rows.begin == b.rows.begin &&
         a.rows.end == b.rows.end && a.columns.begin == b.columns.begin && a.columns.end == b.columns.end &&
         limits_.max_memory == limits.max_memory && limits_.strip == limits.strip && limits_.panels == limits.panels &&
         limits_.staged == limits.staged && limits_.pixel_bytes == limits.pixel_bytes &&
         limits_.staging_per_row == limits.staging_per_row;
}

Flags* Workspace::pinned_flags(int slot) const {
  const std::size_t all = plan_.pinned_bytes / 2 - plan_.in_bytes - plan_.out_bytes;
  return reinterpret_cast<Flags*>(pinned_.data() + 2 * (plan_.in_bytes + plan_.out_bytes) + at(slot) * all);
}

Status Workspace::run(const Request& request, const OnDevice* on_device, PixelType type, bool& holds) {
  request_ = &request;
  on_device_ = on_device;
  type_ = type;
  stream_ = on_device ? on_device->stream : own_stream_.get();
  loads_ = stores_ = done_ = 0;
  leaving_[0] = leaving_[1] = {};
  holds_ = true;
  const Pipeline& p = network_->pipeline();
  total_ = stored_part(p, plan_.box.rows).size() * p.store_factor * plan_.panels;
  const Status status = run_bands();
  // Nothing may be on its way when the memory goes to another call, or when the caller takes its pixels back.
  Status waited;
  for (Stream stream : {in_stream_.get(), stream_, out_stream_.get()}) {
    const Status one = wait_for_stream(stream);
    if (waited.ok()) waited = one;
  }
  holds = holds_;
  return status.ok() ? waited : status;
}

Status Workspace::run_bands() {
  FASTSR_TRY(clear(flags(), sizeof(Flags), stream_));
  for (const Range& rows : plan_.bands) {
    std::vector<int> slots;
    const Band band = make_band(network_->pipeline(), plan_.height, rows, plan_.strip, slots);
    band_ = &band;
    FASTSR_TRY(upload_tables(band));
    for (std::int64_t panel = 0; panel < plan_.panels && holds_; ++panel) FASTSR_TRY(run_panel(band, panel));
  }
  return finish();
}

Status Workspace::run_panel(const Band& band, std::int64_t panel) {
  const Pipeline& p = network_->pipeline();
  needed(p, plan_.width, plan_.panel(panel), false, columns_);
  stored_columns_ = stored_part(p, plan_.panel(panel));
  Schedule schedule(p, band.needed, stored_part(p, band.rows), plan_.strip);
  while (!schedule.done() && holds_) {
    for (std::size_t s = 0; s < p.stages.size(); ++s) {
      const Range rows = schedule.ready(s);
      if (rows.size() == 0) continue;
      FASTSR_TRY(run_stage(p.stages[s], rows));
      schedule.made(s, rows);
      for (int input : p.stages[s].inputs) (void)schedule.take_dead(input);
    }
    if (request_->monitor) {
      FASTSR_TRY(request_->monitor->progress(done_ + schedule.stored() * p.store_factor, total_));
    }
  }
  done_ += stored_part(p, band.rows).size() * p.store_factor;
  return {};
}

// Hand over what is still on its way, and see whether all went well.
Status Workspace::finish() {
  if (!on_device_) {
    for (std::int64_t i = 0; i < 2 && holds_; ++i) FASTSR_TRY(deliver(static_cast<int>((stores_ + i) % 2)));
    return {};
  }
  FASTSR_TRY(copy_to_host(pinned_flags(0), flags(), sizeof(Flags), stream_));
  FASTSR_TRY(wait_for_stream(stream_));
  return check_flags(*pinned_flags(0));
}

Status Workspace::check_flags(const Flags& flags) {
  if (flags.input != 0) return {Code::pixel_value, "the image has a NaN or infinite pixel"};
  if (flags.values != 0 && limits_.precision == Precision::fp16) holds_ = false;
  return {};
}

// Copies from memory that is not pinned are done when the call returns, as far as that memory is concerned.
Status Workspace::upload_tables(const Band& band) {
  for (std::size_t v = 0; v < band.slots.size(); ++v) {
    if (band.slots[v].empty()) continue;
    FASTSR_TRY(copy_to_device(device_.data() + plan_.table_offset[v], band.slots[v].data(),
                              band.slots[v].size() * sizeof(std::int32_t), stream_));
  }
  return {};
}

Rows Workspace::rows_of(int value) const {
  const Pipeline& p = network_->pipeline();
  const Pool& pool = plan_.pools[at(p.pool_of[at(value)])];
  Rows rows;
  rows.pool = device_.data() + pool.offset;
  rows.slots = reinterpret_cast<const std::int32_t*>(device_.data() + plan_.table_offset[at(value)]);
  rows.slot_elements = pool.elements();
  rows.first_row = static_cast<int>(band_->needed[at(value)].begin);
  rows.first_column = static_cast<int>(columns_[at(value)].begin);
  rows.channels = network_->graph().value_channels(value);
  rows.pitch = pool.pitch;
  return rows;
}

Part Workspace::part_of(int value, Range rows) const {
  const Range columns = columns_[at(value)];
  return {static_cast<int>(rows.begin), static_cast<int>(rows.end), static_cast<int>(columns.begin),
          static_cast<int>(columns.end)};
}

Status Workspace::run_stage(const Stage& stage, Range rows) {
  switch (stage.kind) {
    case Stage::Kind::load: return load_rows(rows);
    case Stage::Kind::store: return store_rows(rows);
    case Stage::Kind::node: break;
  }
  return run_node(stage.node, part_of(stage.value, rows));
}

// ---- pixels ----

Status Workspace::load_rows(Range rows) {
  const int channels = network_->graph().channels;
  const int slot = static_cast<int>(loads_++ % 2);
  LoadArgs a;
  a.precision = limits_.precision;
  if (on_device_) {
    a.pixels = on_device_->source;
  } else {
    const Range columns = columns_[0];
    const std::size_t bytes = bytes_of(rows, columns, channels, type_);
    ImageView view;
    FASTSR_TRY(request_->source->rows(rows, columns, view));
    if (loads_ > 2) FASTSR_TRY(wait_for(in_copied_[slot].get()));
    move_pixels<false>(view, pinned_in(slot));
    unsigned char* to = device_.data() + plan_.in_offset[slot];
    if (loads_ > 2) FASTSR_TRY(wait_on_stream(in_stream_.get(), in_used_[slot].get()));
    FASTSR_TRY(copy_to_device(to, pinned_in(slot), bytes, in_stream_.get()));
    FASTSR_TRY(record(in_copied_[slot].get(), in_stream_.get()));
    FASTSR_TRY(wait_on_stream(stream_, in_copied_[slot].get()));
    a.pixels = dense_pixels(to, type_, channels, rows, columns);
  }
  a.y = rows_of(0);
  a.part = part_of(0, rows);
  a.gain = request_->mapping.gain;
  a.offset = request_->mapping.offset;
  a.flags = flags();
  FASTSR_TRY(load(a, stream_));
  return on_device_ ? Status() : record(in_used_[slot].get(), stream_);
}

Status Workspace::store_rows(Range rows) {
  const Pipeline& p = network_->pipeline();
  const std::int64_t f = p.store_factor;
  const Range out_rows = {rows.begin * f, rows.end * f};
  const Range out_columns = {stored_columns_.begin * f, stored_columns_.end * f};
  const int slot = static_cast<int>(stores_++ % 2);
  StoreArgs a;
  a.precision = limits_.precision;
  a.channels = network_->graph().out_channels;
  if (on_device_) {
    a.pixels = on_device_->target;
  } else {
    FASTSR_TRY(deliver(slot));
    if (!holds_) return {};
    a.pixels = dense_pixels(device_.data() + plan_.out_offset[slot], type_, a.channels, out_rows, out_columns);
  }
  a.x = rows_of(p.result);
  a.part = {static_cast<int>(out_rows.begin), static_cast<int>(out_rows.end), static_cast<int>(out_columns.begin),
            static_cast<int>(out_columns.end)};
  a.factor = p.store_factor;
  a.gain = request_->mapping.out_gain;
  a.offset = request_->mapping.out_offset;
  a.low = request_->mapping.low;
  a.high = request_->mapping.high;
  FASTSR_TRY(store(a, stream_));
  if (on_device_) return {};
  FASTSR_TRY(record(out_made_[slot].get(), stream_));
  FASTSR_TRY(wait_on_stream(out_stream_.get(), out_made_[slot].get()));
  const std::size_t bytes = bytes_of(out_rows, out_columns, a.channels, type_);
  FASTSR_TRY(copy_to_host(pinned_out(slot), a.pixels.data, bytes, out_stream_.get()));
  FASTSR_TRY(copy_to_host(pinned_flags(slot), flags(), sizeof(Flags), out_stream_.get()));
  FASTSR_TRY(record(out_copied_[slot].get(), out_stream_.get()));
  leaving_[slot] = {true, out_rows, out_columns};
  return {};
}

// Give the sink the strip that left this slot, if there is one. The strip after it is being computed meanwhile.
Status Workspace::deliver(int slot) {
  Leaving& leaving = leaving_[slot];
  if (!leaving.pending) return {};
  leaving.pending = false;
  FASTSR_TRY(wait_for(out_copied_[slot].get()));
  FASTSR_TRY(check_flags(*pinned_flags(slot)));
  if (!holds_) return {};
  ImageView view;
  FASTSR_TRY(request_->sink->prepare(leaving.rows, leaving.columns, view));
  move_pixels<true>(view, pinned_out(slot));
  return request_->sink->commit();
}

// ---- nodes ----

Steps Workspace::steps_of(const Node& node, std::size_t begin) const {
  Steps steps;
  for (std::size_t i = begin; i < node.steps.size() && steps.count < kMaxStepsAtOnce; ++i) {
    const Step& step = node.steps[i];
    DeviceStep& s = steps.step[steps.count++];
    s.op = step.op;
    s.a = step.a;
    s.b = step.b;
    s.tensor0 = weights_->tensor(step.tensor0);
    s.tensor1 = weights_->tensor(step.tensor1);
    if (step.op != StepOp::add && step.op != StepOp::mul) continue;
    const Rows other = rows_of(node.inputs[at(step.input)]);
    s.slots = other.slots;
    s.first_row = other.first_row;
    s.first_column = other.first_column;
  }
  return steps;
}

// The steps of a node with more than one launch takes: each further launch works where the one before did.
Status Workspace::rest_of_steps(const Node& node, int index, const Part& part) {
  for (std::size_t begin = kMaxStepsAtOnce; begin < node.steps.size(); begin += kMaxStepsAtOnce) {
    PointwiseArgs a;
    a.precision = limits_.precision;
    a.x = a.y = rows_of(index + 1);
    a.part = part;
    a.steps = steps_of(node, begin);
    a.flags = flags();
    FASTSR_TRY(apply(a, stream_));
  }
  return {};
}

Status Workspace::run_node(int index, const Part& part) {
  const Node& node = network_->graph().nodes[at(index)];
  switch (node.op) {
    case NodeOp::conv: FASTSR_TRY(run_conv(node, index, part)); return rest_of_steps(node, index, part);
    case NodeOp::pointwise: {
      PointwiseArgs a;
      a.precision = limits_.precision;
      a.x = rows_of(node.inputs[0]);
      a.y = rows_of(index + 1);
      a.part = part;
      a.steps = steps_of(node, 0);
      a.flags = flags();
      FASTSR_TRY(apply(a, stream_));
      return rest_of_steps(node, index, part);
    }
    case NodeOp::concat: return run_concat(node, index, part);
    case NodeOp::slice: {
      CopyArgs a;
      a.precision = limits_.precision;
      a.x = rows_of(node.inputs[0]);
      a.y = rows_of(index + 1);
      a.part = part;
      a.x_channel = node.begin;
      a.count = node.channels;
      a.clear_to = a.y.pitch;
      return copy_channels(a, stream_);
    }
    case NodeOp::pixel_shuffle: {
      ShuffleArgs a;
      a.precision = limits_.precision;
      a.x = rows_of(node.inputs[0]);
      a.y = rows_of(index + 1);
      a.part = part;
      a.factor = node.factor;
      return shuffle(a, stream_);
    }
    case NodeOp::resize: return run_resize(node, index, part);
    case NodeOp::relayout: break;
  }
  return {Code::internal, "internal error: the GPU has no such operation"};
}

Status Workspace::run_conv(const Node& node, int index, const Part& part) {
  const PackedConv& packed = weights_->conv(index);
  ConvArgs a;
  a.precision = limits_.precision;
  a.kind = packed.kind;
  a.shape = packed.shape;
  a.x = rows_of(node.inputs[0]);
  a.y = rows_of(index + 1);
  a.part = part;
  a.height = static_cast<int>(plan_.height * node.scale);
  a.width = static_cast<int>(plan_.width * node.scale);
  a.kernel_h = node.kernel_h;
  a.kernel_w = node.kernel_w;
  a.groups = node.groups;
  a.weights = weights_->data(packed.weights);
  a.bias = static_cast<const float*>(weights_->data(packed.bias));
  a.steps = steps_of(node, 0);
  a.flags = flags();
  return convolve(a, stream_);
}

Status Workspace::run_concat(const Node& node, int index, const Part& part) {
  CopyArgs a;
  a.precision = limits_.precision;
  a.y = rows_of(index + 1);
  a.part = part;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    a.x = rows_of(node.inputs[i]);
    a.count = a.x.channels;
    a.clear_to = i + 1 == node.inputs.size() ? a.y.pitch : a.y_channel + a.count;
    FASTSR_TRY(copy_channels(a, stream_));
    a.y_channel += a.count;
  }
  return {};
}

Status Workspace::run_resize(const Node& node, int index, const Part& part) {
  ResizeArgs a;
  a.precision = limits_.precision;
  a.x = rows_of(node.inputs[0]);
  a.y = rows_of(index + 1);
  a.part = part;
  a.factor = node.factor;
  a.height = static_cast<int>(plan_.height * node.scale / node.factor);
  a.width = static_cast<int>(plan_.width * node.scale / node.factor);
  for (int phase = 0; phase < node.factor; ++phase) {
    const Taps taps = taps_of(node, phase);
    a.taps = taps.count;
    a.start[phase] = taps.start;
    std::copy(taps.weights, taps.weights + taps.count, a.weights[phase]);
  }
  a.flags = flags();
  return resize(a, stream_);
}

}  // namespace fastsr::cuda
