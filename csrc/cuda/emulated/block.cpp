#include "cuda/emulated/block.hpp"

#include <ucontext.h>

#include <cstring>
#include <vector>

#include "cuda/portable.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define FASTSR_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/common_interface_defs.h>
#define FASTSR_ASAN 1
#endif
#endif

namespace fastsr::cuda {
namespace {

constexpr int kLanes = 32;
constexpr std::size_t kStackBytes = 128 << 10;
constexpr unsigned char kPoison = 0xff;  // NaN, as fp16 and as fp32

}  // namespace

namespace emulated {

// One lane's part of a product of matrices.
struct Product {
  float* d = nullptr;
  std::uint32_t a[4] = {};
  std::uint32_t b[2] = {};
};

struct Copy {
  unsigned char* to = nullptr;
  const void* from = nullptr;
};

// What the lanes of a warp hand to one another.
struct Lane {
  const unsigned char* row[2] = {};  // load_matrices, in turn
  int turn = 0;
  std::vector<Product> products;  // not yet computed
  std::vector<Copy> copies;       // not yet done
};

float half_of(std::uint32_t pair, int which) {
  return to_float(Half{static_cast<std::uint16_t>(which == 0 ? pair : pair >> 16)});
}

// The whole warp's product, from the fragments as PTX defines them for m16n8k16: with g = lane / 4, t = lane % 4,
// a[i] holds A(g + 8 (i % 2), 2 t + 8 (i / 2) ..+1), b[i] B(2 t + 8 i ..+1, g), d[i] D(g + 8 (i / 2), 2 t + i % 2).
void multiply_warp(const Lane* lanes, std::size_t index) {
  float a[16][16], b[8][16];
  for (int lane = 0; lane < kLanes; ++lane) {
    const Product& part = lanes[lane].products[index];
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < 2; ++j) a[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + j] = half_of(part.a[i], j);
    }
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < 2; ++j) b[g][2 * t + 8 * i + j] = half_of(part.b[i], j);
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    float* d = lanes[lane].products[index].d;
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      for (int k = 0; k < 16; ++k) d[i] += a[g + 8 * (i / 2)][k] * b[2 * t + i % 2][k];
    }
  }
}

// Compute what the lanes have asked for, once all of them have.
void multiply_all(Lane* lanes) {
  for (std::size_t i = 0; i < lanes[0].products.size(); ++i) multiply_warp(lanes, i);
  for (int lane = 0; lane < kLanes; ++lane) lanes[lane].products.clear();
}

// Threads that wait for one another.
struct Barrier {
  int size = 0;
  int arrived = 0;
  std::uint64_t generation = 0;
};

struct Fiber {
  ucontext_t context = {};
  std::vector<unsigned char> stack;
  Thread thread;
  bool done = false;
  void* fake_stack = nullptr;  // ASan's
};

struct Block::State {
  std::vector<Fiber> fibers;
  std::vector<unsigned char> shared;
  std::vector<Lane> lanes;
  std::vector<Barrier> warps;
  Barrier all;
  ucontext_t scheduler = {};
  void* scheduler_fake_stack = nullptr;
  const void* scheduler_stack = nullptr;
  std::size_t scheduler_stack_size = 0;
  std::size_t running = 0;
  int x = 0, y = 0, z = 0;
  Function function = nullptr;
  const void* kernel = nullptr;

  void resume(std::size_t index) {
    running = index;
    Fiber& fiber = fibers[index];
#ifdef FASTSR_ASAN
    __sanitizer_start_switch_fiber(&scheduler_fake_stack, fiber.stack.data(), fiber.stack.size());
#endif
    swapcontext(&scheduler, &fiber.context);
#ifdef FASTSR_ASAN
    __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
#endif
  }

  // Let the others run.
  void yield() {
    Fiber& fiber = fibers[running];
#ifdef FASTSR_ASAN
    __sanitizer_start_switch_fiber(&fiber.fake_stack, scheduler_stack, scheduler_stack_size);
#endif
    swapcontext(&fiber.context, &scheduler);
#ifdef FASTSR_ASAN
    __sanitizer_finish_switch_fiber(fiber.fake_stack, &scheduler_stack, &scheduler_stack_size);
#endif
  }

  // Who arrives last does `last` before the others go on.
  template <class Last>
  void wait(Barrier& barrier, Last&& last) {
    if (++barrier.arrived == barrier.size) {
      last();
      barrier.arrived = 0;
      ++barrier.generation;
      return;
    }
    const std::uint64_t generation = barrier.generation;
    while (barrier.generation == generation) yield();
  }

  Lane* warp_of(int index) { return &lanes[static_cast<std::size_t>(index / kLanes * kLanes)]; }

  void wait_for_warp(int index) {
    wait(warps[static_cast<std::size_t>(index / kLanes)], [&] { multiply_all(warp_of(index)); });
  }

  static void enter(unsigned high, unsigned low) {
    auto* state = reinterpret_cast<State*>(static_cast<std::uintptr_t>(high) << 32 | low);
#ifdef FASTSR_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &state->scheduler_stack, &state->scheduler_stack_size);
#endif
    Fiber& fiber = state->fibers[state->running];
    state->function(state->kernel, fiber.thread);
    fiber.done = true;
#ifdef FASTSR_ASAN
    __sanitizer_start_switch_fiber(nullptr, state->scheduler_stack, state->scheduler_stack_size);
#endif
    setcontext(&state->scheduler);
  }
};

Block::Block(int threads, int shared_bytes) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.fibers.resize(static_cast<std::size_t>(threads));
  s.shared.resize(static_cast<std::size_t>(shared_bytes) + 16);
  s.lanes.resize(s.fibers.size());
  s.warps.resize((s.fibers.size() + kLanes - 1) / kLanes);
  for (std::size_t i = 0; i < s.fibers.size(); ++i) {
    s.fibers[i].stack.resize(kStackBytes);
    s.fibers[i].thread.block_ = this;
    s.fibers[i].thread.index_ = static_cast<int>(i);
  }
}

Block::~Block() = default;

void Block::run(int x, int y, int z, Function function, const void* kernel) {
  State& s = *state_;
  s.x = x;
  s.y = y;
  s.z = z;
  s.function = function;
  s.kernel = kernel;
  s.all = {static_cast<int>(s.fibers.size()), 0, 0};
  for (Barrier& warp : s.warps) warp = {kLanes, 0, 0};
  for (Lane& lane : s.lanes) {
    lane.turn = 0;
    lane.products.clear();
    lane.copies.clear();
  }
  memset(s.shared.data(), kPoison, s.shared.size());
  const auto address = reinterpret_cast<std::uintptr_t>(&s);
  for (Fiber& fiber : s.fibers) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = nullptr;
    fiber.done = false;
    makecontext(&fiber.context, reinterpret_cast<void (*)()>(&State::enter), 2, static_cast<unsigned>(address >> 32),
                static_cast<unsigned>(address));
  }
  for (bool busy = true; busy;) {
    busy = false;
    for (std::size_t i = 0; i < s.fibers.size(); ++i) {
      if (s.fibers[i].done) continue;
      s.resume(i);
      busy = true;
    }
  }
}

}  // namespace emulated

int Thread::block_x() const { return block_->state_->x; }
int Thread::block_y() const { return block_->state_->y; }
int Thread::block_z() const { return block_->state_->z; }

unsigned char* Thread::shared() const {
  const auto address = reinterpret_cast<std::uintptr_t>(block_->state_->shared.data());
  return block_->state_->shared.data() + (16 - address % 16) % 16;
}

void Thread::sync() {
  sync_warp();
  block_->state_->wait(block_->state_->all, [] {});
}

void Thread::sync_warp() { block_->state_->wait_for_warp(index_); }

void Thread::copy16(unsigned char* to, const void* from) const {
  if (from == nullptr) {
    memset(to, 0, 16);
  } else {
    block_->state_->lanes[static_cast<std::size_t>(index_)].copies.push_back({to, from});
  }
}

void Thread::copied() const {
  std::vector<emulated::Copy>& copies = block_->state_->lanes[static_cast<std::size_t>(index_)].copies;
  for (const emulated::Copy& copy : copies) memcpy(copy.to, copy.from, 16);
  copies.clear();
}

void Thread::load_matrices(const unsigned char* row, std::uint32_t (&r)[4]) {
  emulated::Block::State& state = *block_->state_;
  emulated::Lane& mine = state.lanes[static_cast<std::size_t>(index_)];
  const int turn = mine.turn;
  mine.row[turn] = row;
  mine.turn = 1 - turn;  // who is slower may still read this turn's rows while we are at the next
  sync_warp();
  const emulated::Lane* lanes = state.warp_of(index_);
  const int lane = index_ % kLanes;
  for (int i = 0; i < 4; ++i) memcpy(&r[i], lanes[8 * i + lane / 4].row[turn] + 4 * (lane % 4), sizeof r[i]);
}

// Computed when the warp next waits for one another, which kernels do before they read d.
void Thread::multiply(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  emulated::Product product;
  product.d = d;
  memcpy(product.a, a, sizeof a);
  memcpy(product.b, b, sizeof b);
  block_->state_->lanes[static_cast<std::size_t>(index_)].products.push_back(product);
}

}  // namespace fastsr::cuda
