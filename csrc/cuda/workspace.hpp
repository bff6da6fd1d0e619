// The memory, streams and events of one running call, kept for the next call of the same shape.
#pragma once

#include <memory>
#include <vector>

#include "cuda/device.hpp"
#include "cuda/network.hpp"
#include "cuda/plan.hpp"
#include "cuda/weights.hpp"

namespace fastsr::cuda {

class Workspace {
 public:
  static Result<std::unique_ptr<Workspace>> make(const Network& network, const Weights& weights, Plan plan,
                                                 const Limits& limits);

  bool fits(const Weights& weights, const Request& request, const Limits& limits) const;
  const Plan& plan() const { return plan_; }
  // `holds` becomes false, and the result is incomplete, where fp16 cannot hold a value.
  Status run(const Request& request, const OnDevice* on_device, PixelType type, bool& holds);

 private:
  // A strip of the result that is on its way to the host.
  struct Leaving {
    bool pending = false;
    Range rows;
    Range columns;
  };

  Workspace(const Network& network, const Weights& weights, Plan plan, const Limits& limits)
      : network_(&network), weights_(&weights), plan_(std::move(plan)), limits_(limits) {}

  Status run_bands();
  Status run_panel(const Band& band, std::int64_t panel);
  Status finish();
  Status upload_tables(const Band& band);
  Status run_stage(const Stage& stage, Range rows);
  Status load_rows(Range rows);
  Status store_rows(Range rows);
  Status deliver(int slot);
  Status check_flags(const Flags& flags);
  Status run_node(int index, const Part& part);
  Status run_conv(const Node& node, int index, const Part& part);
  Status run_concat(const Node& node, int index, const Part& part);
  Status run_resize(const Node& node, int index, const Part& part);

  Rows rows_of(int value) const;
  // The first of the node's steps from `begin` on that fit into one launch.
  Steps steps_of(const Node& node, std::size_t begin) const;
  Status rest_of_steps(const Node& node, int index, const Part& part);
  Part part_of(int value, Range rows) const;
  Flags* flags() const { return reinterpret_cast<Flags*>(device_.data() + plan_.flags_offset); }
  unsigned char* pinned_in(int slot) const { return pinned_.data() + static_cast<std::size_t>(slot) * plan_.in_bytes; }
  unsigned char* pinned_out(int slot) const {
    return pinned_.data() + 2 * plan_.in_bytes + static_cast<std::size_t>(slot) * plan_.out_bytes;
  }
  Flags* pinned_flags(int slot) const;

  const Network* network_;
  const Weights* weights_;
  Plan plan_;
  Limits limits_;
  Block device_, pinned_;
  OwnStream own_stream_, in_stream_, out_stream_;
  OwnEvent in_copied_[2], in_used_[2], out_made_[2], out_copied_[2];

  // Of the call that runs.
  const Request* request_ = nullptr;
  const OnDevice* on_device_ = nullptr;
  PixelType type_ = PixelType::u8;
  Stream stream_ = nullptr;
  const Band* band_ = nullptr;
  std::vector<Range> columns_;  // of each value, in the panel that runs
  Range stored_columns_;
  std::int64_t loads_ = 0, stores_ = 0;
  Leaving leaving_[2];
  bool holds_ = true;
  std::int64_t done_ = 0, total_ = 0;
};

}  // namespace fastsr::cuda
