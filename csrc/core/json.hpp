// A reader for JSON (RFC 8259) that nobody trusts: bounded depth, no duplicate keys, nothing executed.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/status.hpp"

namespace fastsr {

struct Json {
  enum class Kind { null, boolean, number, string, array, object };

  Kind kind = Kind::null;
  bool boolean = false;
  double number = 0;
  std::string string;
  std::vector<Json> array;
  std::vector<std::pair<std::string, Json>> object;

  // The member of an object, or nullptr.
  const Json* find(std::string_view key) const;
};

Result<Json> parse_json(std::string_view text);

}  // namespace fastsr
