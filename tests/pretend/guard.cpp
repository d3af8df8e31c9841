// Device types that a CPU build of torch knows by name only: with these guards, code that switches to a device
// (every index by a tensor does) finds something to switch to.
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {
template <c10::DeviceType D>
using Guard = c10::impl::NoOpDeviceGuardImpl<D>;
c10::impl::DeviceGuardImplRegistrar cuda(c10::DeviceType::CUDA, new Guard<c10::DeviceType::CUDA>());
c10::impl::DeviceGuardImplRegistrar xla(c10::DeviceType::XLA, new Guard<c10::DeviceType::XLA>());
}  // namespace
