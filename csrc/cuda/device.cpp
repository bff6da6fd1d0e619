#include "cuda/device.hpp"

namespace fastsr::cuda {

// The device is set only where it changes: setting it would also leave a context that the caller made current.
DeviceScope::DeviceScope(int device) {
  Result<int> current = current_device();
  if (!current.ok()) {
    status_ = current.status();
    return;
  }
  before_ = current.value();
  if (before_ == device) return;
  status_ = use_device(device);
  changed_ = status_.ok();
}

DeviceScope::~DeviceScope() {
  if (changed_) (void)use_device(before_);
}

}  // namespace fastsr::cuda
