// Damaged files are refused with a Status: never a crash, never a wrong read. Most telling under ASan and UBSan.
#include <cstring>
#include <random>
#include <string>

#include "core/sha256.hpp"
#include "graph/loader.hpp"
#include "tests/check.hpp"
#include "tests/model_file.hpp"

using namespace fastsr;

namespace {

// Give a changed file a right hash, so that what lies behind the hash is tested too.
void sign(std::vector<char>& bytes) {
  const std::string key = "\"fastsr.sha256\":\"";
  const std::string text(bytes.begin(), bytes.end());
  const std::size_t at = text.find(key);
  if (at == std::string::npos || at + key.size() + 64 > bytes.size()) return;
  std::memset(bytes.data() + at + key.size(), '0', 64);
  Sha256 sha;
  sha.update(bytes.data(), bytes.size());
  std::memcpy(bytes.data() + at + key.size(), sha.hex().data(), 64);
}

}  // namespace

int main(int, char** argv) {
  const std::vector<char> good = read_file(argv[1]);
  CHECK(load_model(good.data(), good.size()).ok());
  std::uint64_t header = 0;
  std::memcpy(&header, good.data(), 8);

  for (std::size_t size = 0; size < good.size(); size += 1 + size / 7) CHECK(!load_model(good.data(), size).ok());

  std::mt19937 random(7);
  for (int i = 0; i < 60; ++i) {
    std::vector<char> bytes = good;
    bytes[random() % bytes.size()] ^= static_cast<char>(1u << random() % 8);
    CHECK(!load_model(bytes.data(), bytes.size()).ok());
  }

  // Who has compared the hash is believed: in one bit of a weight nothing else is wrong.
  std::vector<char> changed = good;
  changed[good.size() - 4] ^= 1;
  CHECK(!load_model(changed.data(), changed.size()).ok());
  CHECK(load_model(changed.data(), changed.size(), true).ok());

  // Header bytes changed and signed again: most are contradictions, some are harmless; none may harm.
  int refused = 0;
  for (int i = 0; i < 250; ++i) {
    std::vector<char> bytes = good;
    const int changes = 1 + static_cast<int>(random() % 3);
    for (int c = 0; c < changes; ++c) {
      const char replacements[] = "0123456789\"{}[],:-eE x";
      bytes[8 + random() % header] = replacements[random() % (sizeof replacements - 1)];
    }
    sign(bytes);
    const bool ok = load_model(bytes.data(), bytes.size()).ok();
    CHECK(load_model(bytes.data(), bytes.size(), true).ok() == ok);
    refused += !ok;
  }
  CHECK(refused > 150);
}
