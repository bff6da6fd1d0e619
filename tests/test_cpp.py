"""Build and run the C++ tests: plainly, under ASan and UBSan, and the threads under TSan."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cpp_build import ROOT, build_folder, generator, installed_c_library, run

if not sys.platform.startswith("linux"):
    pytest.skip("sanitizers are set up for Linux", allow_module_level=True)
for tool in ("cmake", "c++"):
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is needed", allow_module_level=True)

THREADED = ("test_core", "test_network", "test_capi")


def sanitizer_links(flag: str, folder: Path) -> bool:
    source = folder / "probe.cpp"
    source.write_text("int main() { return 0; }\n")
    command = ["c++", f"-fsanitize={flag}", str(source), "-o", str(folder / "probe")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def build_and_test(build: Path, *tests: str) -> None:
    """Build and run these C++ tests, or all."""
    run("cmake", "--build", build, "--parallel", "2", "--target", *(tests or ["cpp_tests"]))
    chosen = ["-R", f"^({'|'.join(tests)})$"] if tests else []
    run("ctest", "--test-dir", build, "--output-on-failure", "--no-tests=error", *chosen)


def test_cpp(tmp_path_factory):
    installed_c_library(tmp_path_factory)  # the same objects, and what they were built for
    with build_folder(tmp_path_factory, "plain") as folder:
        run("cmake", "-S", ROOT, "-B", folder / "build", "-DFASTSR_TESTS=ON")
        build_and_test(folder / "build")


@pytest.mark.parametrize(
    ("sanitizers", "tests"), [("address,undefined", ()), ("thread", THREADED)], ids=["asan-ubsan", "tsan"]
)
def test_sanitizers(sanitizers, tests, tmp_path):
    if not sanitizer_links(sanitizers, tmp_path):
        pytest.skip(f"the compiler has no runtime for -fsanitize={sanitizers}")
    build = tmp_path / "build"
    options = ["-DFASTSR_PYTHON=OFF", "-DFASTSR_TESTS=ON", f"-DFASTSR_SANITIZE={sanitizers}"]
    run("cmake", "-S", ROOT, "-B", build, *generator(), *options)
    build_and_test(build, *tests)
