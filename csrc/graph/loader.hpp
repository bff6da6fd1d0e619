// Reads `.fsr` files: a safetensors container with the graphs as JSON in its metadata.
#pragma once

#include <cstddef>

#include "graph/graph.hpp"

namespace fastsr {

constexpr int kFormatVersion = 1;

// Checks size, hash, version, and that every graph can run. Executes nothing.
// hashed: the caller has just compared these bytes with the hash that they state; most of the time goes there.
Result<ModelFile> load_model(const void* bytes, std::size_t size, bool hashed = false);

}  // namespace fastsr
