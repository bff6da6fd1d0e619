#include "runtime/model.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "graph/loader.hpp"

namespace fastsr {
namespace {

std::string name_of(int scale, int channels) {
  return "x" + std::to_string(scale) + " for " + std::to_string(channels) + " channels";
}

bool any_by(Algorithm algorithm, const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(),
                     [&](const Node& node) { return node.algorithm == algorithm; });
}

}  // namespace

Result<std::unique_ptr<Model>> Model::open(const void* bytes, std::size_t size, bool hashed) {
  Result<ModelFile> file = load_model(bytes, size, hashed);
  if (!file.ok()) return file.status();
  std::unique_ptr<Model> model(new Model);
  model->file_ = std::move(file.value());
  return Result<std::unique_ptr<Model>>(std::move(model));
}

Result<Network*> Model::network(int scale, int channels, const Kernels& kernels, const Lowering& how) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& network : networks_) {
    const Graph& graph = network->graph();
    if (graph.scale == scale && graph.channels == channels && &network->kernels() == &kernels &&
        network->lowering() == how) {
      return network.get();
    }
  }
  std::string known;
  for (const Graph& graph : file_.graphs) {
    if (graph.scale == scale && graph.channels == channels) {
      Result<std::unique_ptr<Network>> made = Network::make(file_, graph, kernels, how);
      if (!made.ok()) return made.status();
      if (how.bf16 && !any_by(Algorithm::direct_bf16, made.value()->graph())) {
        return Status(
            Code::option,
            "the model cannot run in bf16: it has no convolution that would gain by it; fp32 is what it can do");
      }
      if (how.integers && !any_by(Algorithm::winograd_int, made.value()->graph()) &&
          !any_by(Algorithm::winograd9_int, made.value()->graph())) {
        return Status(
            Code::option,
            "the model cannot run in int8: it has no 3x3 convolution whose input's values it knows the ranges "
            "of; 'fastsr quantize' finds those out from images");
      }
      networks_.push_back(std::move(made.value()));
      return networks_.back().get();
    }
    known += (known.empty() ? "" : ", ") + name_of(graph.scale, graph.channels);
  }
  return Status(Code::option, "the model has no " + name_of(scale, channels) + "; it has " + known);
}

void Model::release() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& network : networks_) network->release();
}

}  // namespace fastsr
