#pragma once

#include <fstream>
#include <iterator>
#include <vector>

#include "tests/check.hpp"

inline std::vector<char> read_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  CHECK(file);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}
