"""Quality tables and pytest-benchmark timings; nothing here is imported by the library. Speed: `fastsr bench`."""
