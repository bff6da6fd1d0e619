// Which ISA levels exist here, and which one a run takes.
#pragma once

#include <string>
#include <vector>

#include "core/status.hpp"
#include "cpu/kernels.hpp"

namespace fastsr {

struct IsaLevel {
  const Kernels* kernels;
  bool usable;  // this processor and operating system run it
};

// All levels of this build, slowest first.
const std::vector<IsaLevel>& isa_levels();

// Ask the system to let this process use the tiles of AMX, which Linux wants before their first use; what it then keeps
// for each thread makes signal stacks larger, so only networks that use tiles ask.
bool may_use_tiles();

// The level called `name`; an empty name: what FASTSR_ISA says, else the fastest that is usable here.
Result<const Kernels*> select_isa(const std::string& name);

}  // namespace fastsr
