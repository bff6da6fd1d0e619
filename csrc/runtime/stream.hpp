// The engine turned around: the caller brings rows when it has them and takes rows when they are ready. The same
// schedule and kernels as Network::run(), so the same bits. Nothing is allocated after make(), for any number of
// images of any height.
#pragma once

#include <cstdint>
#include <memory>

#include "core/aligned.hpp"
#include "core/image.hpp"
#include "core/status.hpp"
#include "runtime/network.hpp"
#include "runtime/session.hpp"

namespace fastsr {

struct StreamOptions {
  std::int64_t width = 0;
  PixelType type = PixelType::u8;
  Mapping mapping;
  int threads = 0;               // 0: as many as the process may use
  int strip = 1;                 // rows that move at once
  std::uint64_t max_memory = 0;  // bytes; 0: no bound
  Monitor* monitor = nullptr;    // hears the rows of the result so far; 0 in all while their number is not known
};

struct StreamPlan {
  Plan plan;
  std::int64_t latency = 0;  // rows that have been pushed and whose result cannot be pulled yet, at most
  std::uint64_t memory = 0;  // bytes of working memory in all
};

// What a stream will take, worked out without making it.
Result<StreamPlan> plan_stream(const Network& network, const StreamOptions& options);

class Stream {
 public:
  // `network` must outlive the stream.
  static Result<std::unique_ptr<Stream>> make(Network& network, const StreamOptions& options);
  ~Stream();

  // Take the next rows of the image, `taken` of them: fewer than offered where rows of the result wait to be pulled.
  Status push(const ImageView& rows, std::int64_t& taken);
  // The image has no more rows.
  Status end();
  // Fill `rows` with the next rows of the result, `given` of them: as many as there are now.
  Status pull(const ImageView& rows, std::int64_t& given);
  // Forget the image; the next row is row 0 of a new one.
  void reset();

  const Network& network() const { return *network_; }
  const StreamOptions& options() const { return options_; }
  int threads() const { return session_->threads(); }

 private:
  Stream(const Network& network, const StreamOptions& options) : network_(&network), options_(options) {}

  Status load(const ImageView& rows, std::int64_t& taken);
  Status store(const ImageView& rows, std::int64_t& given);
  Status step();
  Range ready() const;
  Status usable() const;

  const Network* network_;
  StreamOptions options_;
  std::unique_ptr<Session> session_;
  Request request_;
  std::int64_t loaded_ = 0;  // rows of the image
  bool ended_ = false;
  bool failed_ = false;
  // Storing makes store_factor rows at once. Where the caller has room for fewer, they wait here.
  AlignedFloats spare_memory_;
  ImageView spare_;
  std::int64_t waiting_ = 0;  // last rows of spare_
};

}  // namespace fastsr
