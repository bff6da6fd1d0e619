// SHA-256, JSON and the thread pool.
#include <atomic>
#include <string>
#include <vector>

#include "core/json.hpp"
#include "core/sha256.hpp"
#include "core/thread_pool.hpp"
#include "tests/check.hpp"

using namespace fastsr;

namespace {

std::string sha(const std::string& text, std::size_t piece) {
  Sha256 hash;
  for (std::size_t i = 0; i < text.size(); i += piece) hash.update(text.data() + i, std::min(piece, text.size() - i));
  return hash.hex();
}

void test_sha256() {
  // FIPS 180-4 examples.
  CHECK(sha("", 1) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha("abc", 3) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  for (std::size_t piece : {1u, 7u, 63u, 64u, 65u, 1000u}) {
    CHECK(sha(std::string(1000000, 'a'), piece * 100 + 1) ==
          "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  }
}

bool parses(const std::string& text) { return parse_json(text).ok(); }

void test_json() {
  Result<Json> json = parse_json(R"( {"a": [1, -2.5e3, true, null, "x\n\u00e9\ud83d\ude00"], "b": {}} )");
  CHECK(json.ok());
  const Json* a = json.value().find("a");
  CHECK(a && a->array.size() == 5 && a->array[1].number == -2500 && a->array[2].boolean);
  CHECK(a->array[4].string == "x\n\xc3\xa9\xf0\x9f\x98\x80");
  CHECK(json.value().find("c") == nullptr);
  for (const char* bad : {"", "{", "[1,]", "{\"a\":1,\"a\":2}", "nul", "1 2", "\"\\ud800\"", "\"\\q\"", "\"\x01\"",
                          "{\"a\"}", "[1e999]", "-", "{1:2}", "\"abc"}) {
    CHECK(!parses(bad));
  }
  CHECK(!parses(std::string(10000, '[')));
}

void test_thread_pool() {
  for (int threads : {1, 2, 4, 9}) {
    ThreadPool pool(threads);
    CHECK(pool.threads() == threads);
    struct Context {
      std::vector<int> calls;
      std::atomic<int> sum{0};
    } context;
    context.calls.assign(static_cast<std::size_t>(threads), 0);
    for (int i = 0; i < 500; ++i) {
      pool.run(
          [](void* data, int thread) {
            auto& c = *static_cast<Context*>(data);
            ++c.calls[static_cast<std::size_t>(thread)];
            c.sum.fetch_add(thread + 1, std::memory_order_relaxed);
          },
          &context);
      if (i % 100 == 99) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // let the workers fall asleep
    }
    for (int calls : context.calls) CHECK(calls == 500);
    CHECK(context.sum == 500 * threads * (threads + 1) / 2);
  }
}

}  // namespace

int main() {
  test_sha256();
  test_json();
  test_thread_pool();
}
