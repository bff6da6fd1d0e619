// Errors are values: a Status says what went wrong, a Result is a value or a Status.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>

namespace fastsr {

enum class Code {
  ok,
  option,           // an argument has a value that does not exist
  shape,            // an image cannot be upscaled because of its shape
  pixel_value,      // NaN or infinity in the input
  memory_budget,    // the budget is below the least that would do (Status::least)
  model_file,       // not a .fsr file, or contradictory contents
  model_integrity,  // truncated or damaged
  model_version,    // written in a newer format
  out_of_memory,    // the system refused an allocation
  cancelled,        // the caller's callback asked to stop
  sequence,         // a call that is not possible now
  file,             // a file cannot be read
  internal,         // a defect of the engine
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message, std::uint64_t least = 0)
      : code_(code), message_(std::move(message)), least_(least) {}

  bool ok() const { return code_ == Code::ok; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  // Bytes of working memory that would do; set with Code::memory_budget only.
  std::uint64_t least() const { return least_; }

 private:
  Code code_ = Code::ok;
  std::string message_;
  std::uint64_t least_ = 0;
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}
  Result(Status status) : state_(std::move(status)) {}

  bool ok() const { return std::holds_alternative<T>(state_); }
  T& value() { return std::get<T>(state_); }
  const Status& status() const { return std::get<Status>(state_); }

 private:
  std::variant<T, Status> state_;
};

}  // namespace fastsr

// Leave the function with the Status unless it is ok.
#define FASTSR_TRY(expression)                     \
  do {                                             \
    ::fastsr::Status fastsr_status = (expression); \
    if (!fastsr_status.ok()) return fastsr_status; \
  } while (0)
