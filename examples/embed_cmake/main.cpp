// Enlarges a picture as a whole and by rows, and sees that both are the same.
#include <cstdint>
#include <cstdio>
#include <fastsr/fastsr.hpp>
#include <vector>

int main() try {
  const std::uint32_t width = 61, height = 40;
  std::vector<std::uint8_t> lr(width * height * 3);
  for (std::size_t i = 0; i < lr.size(); ++i) lr[i] = static_cast<std::uint8_t>(i * i / 7);

  fsr::Model model(MODEL_DIR "/fmen_x4.fsr");
  const fsr_plan plan = model.stream_plan(width, 3, FSR_UINT8);
  const std::uint32_t scale = plan.scale, large = width * scale;
  std::vector<std::uint8_t> whole(lr.size() * scale * scale), rows(whole.size());

  model.upscale(fsr::view(lr.data(), width, height, 3), fsr::view(whole.data(), large, height * scale, 3));

  fsr::Stream stream = model.stream(width, 3, FSR_UINT8);
  std::uint32_t pulled = 0;
  const auto pull = [&] {
    while (pulled < height * scale) {
      const fsr_image rest =
          fsr::view(rows.data() + std::size_t{pulled} * large * 3, large, height * scale - pulled, 3);
      const std::uint32_t given = stream.pull(rest);
      if (given == 0) return;
      pulled += given;
    }
  };
  for (std::uint32_t y = 0; y < height;) {
    y += stream.push(fsr::view(lr.data() + std::size_t{y} * width * 3, width, height - y, 3));
    pull();
  }
  stream.end();
  pull();

  std::printf("FastSR %s, %s, x%u on %s: the result is %u rows behind, %s\n", fsr_version(), model.info().name, scale,
              model.info().isa, plan.latency_rows, rows == whole ? "and the same" : "BUT NOT THE SAME");
  return rows == whole ? 0 : 1;
} catch (const fsr::Error& error) {
  std::fprintf(stderr, "%s: %s\n", fsr_status_name(error.status()), error.what());
  return 1;
}
