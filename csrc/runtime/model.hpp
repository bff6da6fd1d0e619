// A loaded model and its networks, each made when it is first asked for. Any thread may use it.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "core/status.hpp"
#include "graph/graph.hpp"
#include "runtime/network.hpp"

namespace fastsr {

class Model {
 public:
  // `bytes`: a .fsr file's; they are copied. hashed: see load_model().
  static Result<std::unique_ptr<Model>> open(const void* bytes, std::size_t size, bool hashed = false);

  const ModelFile& file() const { return file_; }
  // The network for this scale and this many channels. It lives as long as the model. Code::option where it is asked
  // for in integers and no layer can be: see Lowering.
  Result<Network*> network(int scale, int channels, const Kernels& kernels, const Lowering& how = {});
  // Give back the memory that the networks keep for their next call.
  void release();

 private:
  Model() = default;

  ModelFile file_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Network>> networks_;  // guarded by mutex_
};

}  // namespace fastsr
