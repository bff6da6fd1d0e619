// Reads `.fsr` files: a safetensors container with the graphs as JSON in its metadata.
#pragma once

#include <cstddef>

#include "graph/graph.hpp"

namespace fastsr {

constexpr int kFormatVersion = 1;

// Checks size, hash, version, and that every graph can run. Executes nothing.
Result<ModelFile> load_model(const void* bytes, std::size_t size);

}  // namespace fastsr
