"""Build and run the C++ tests: plainly, under ASan and UBSan, and the threads under TSan."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

if not sys.platform.startswith("linux"):
    pytest.skip("sanitizers are set up for Linux", allow_module_level=True)


def sanitizer_links(flag: str, folder: Path) -> bool:
    source = folder / "probe.cpp"
    source.write_text("int main() { return 0; }\n")
    command = ["c++", f"-fsanitize={flag}", str(source), "-o", str(folder / "probe")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("sanitizers", "tests"),
    [("", "."), ("address,undefined", "."), ("thread", "core|network|capi")],
    ids=["plain", "asan-ubsan", "tsan"],
)
def test_cpp(sanitizers, tests, tmp_path):
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("cmake and a C++ compiler are needed")
    if sanitizers and not sanitizer_links(sanitizers, tmp_path):
        pytest.skip(f"the compiler has no runtime for -fsanitize={sanitizers}")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    options = ["-DFASTSR_PYTHON=OFF", "-DFASTSR_TESTS=ON", f"-DFASTSR_SANITIZE={sanitizers}"]
    for command in (
        ["cmake", "-S", str(ROOT), "-B", str(tmp_path), *generator, *options],
        ["cmake", "--build", str(tmp_path), "--parallel", "2"],
        ["ctest", "--test-dir", str(tmp_path), "--output-on-failure", "-R", tests],
    ):
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
