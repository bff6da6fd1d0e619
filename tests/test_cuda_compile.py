"""What nvcc makes of the GPU's kernels: no stack, no spills, registers within what the launches ask for.

Here for one architecture and the kernel that matters most, some 10 s of CPU time where nvcc is and its result is not
known yet; FASTSR_TEST_ARCHITECTURES=80,90,120 takes all kernels for these. Results are kept by the hash of the sources.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CUDA = ROOT / "csrc" / "cuda"
DOCUMENT = ROOT / "docs" / "gpu.md"
FLAGS = ["-std=c++17", "-O3", "-fmad=false", f"-I{ROOT / 'csrc'}"]
ALL = os.environ.get("FASTSR_TEST_ARCHITECTURES")
CASES = (
    [(arch, file) for arch in ALL.split(",") for file in ("conv_tensor", "conv_direct", "kernels")]
    if ALL
    else [("90", "conv_tensor")]
)
REGISTERS = 65536  # of a multiprocessor, for sm_80, 90 and 120


def nvcc():
    """Return the toolkit's own nvcc, not a script that calls it."""
    known = sorted(Path("/usr/local").glob("cuda*/bin/nvcc"))
    found = os.environ.get("CUDACXX") or (str(known[-1]) if known else shutil.which("nvcc"))
    if found is None:
        pytest.skip("nvcc is not installed")
    return found


def figures(architecture, file):
    """Return {kernel: {registers, stack, spills}} as ptxas reports them."""
    compiler = nvcc()
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    digest = hashlib.sha256(" ".join([version, architecture, *FLAGS[:3]]).encode())
    headers = [*CUDA.glob("*.hpp"), *(ROOT / "csrc" / "graph").glob("*.hpp"), *(ROOT / "csrc" / "core").glob("*.hpp")]
    for path in [CUDA / f"{file}.cu", *sorted(headers)]:
        digest.update(path.read_bytes())
    kept = Path(tempfile.gettempdir()) / "fastsr-ptxas" / f"{file}-{architecture}-{digest.hexdigest()[:32]}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    with tempfile.TemporaryDirectory() as folder:
        command = [compiler, *FLAGS, "-cubin", f"-arch=sm_{architecture}", "-Xptxas=-v", str(CUDA / f"{file}.cu")]
        result = subprocess.run([*command, "-o", f"{folder}/out.cubin"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-4000:]
    pattern = (
        r"entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers"
    )
    report = {
        name: {"stack": int(stack), "spills": int(stores) + int(loads), "registers": int(registers)}
        for name, stack, stores, loads, registers in re.findall(pattern, result.stderr, re.DOTALL)
    }
    kept.parent.mkdir(exist_ok=True)
    part = kept.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(report))
    part.replace(kept)
    return report


@pytest.mark.parametrize(("architecture", "file"), CASES)
def test_kernels_fit_into_registers(architecture, file):
    report = figures(architecture, file)
    assert len(report) == {"conv_tensor": 6, "conv_direct": 8, "kernels": 14}[file]
    for name, kernel in report.items():
        assert kernel["stack"] == 0, name
        assert kernel["spills"] == 0, name
        if launch := re.search(r"run_blocksILi(\d+)ELi(\d+)E", name):
            threads, blocks = map(int, launch.groups())
            assert -(-kernel["registers"] // 8) * 8 * threads * blocks <= REGISTERS


def test_the_documented_figures_are_current():
    """Registers of the tensor cores' kernel for sm_90, where the compiler is the one that the document names."""
    text = DOCUMENT.read_text()
    version = subprocess.run([nvcc(), "--version"], capture_output=True, text=True, check=True).stdout
    if re.search(r"nvcc (\d+\.\d+)", text).group(1) not in version:
        pytest.skip("the document's figures are of another nvcc")
    report = figures("90", "conv_tensor")
    tiles = {int(re.search(r"TensorConvILi(\d+)E", name).group(1)): kernel for name, kernel in report.items()}
    rows = re.findall(r"^\| (\d+) \|[^|]*\|[^|]*\| (\d+) \|", text, re.MULTILINE)
    assert {int(n): int(registers) for n, registers in rows} == {n: k["registers"] for n, k in tiles.items()}


STUB = """
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>

#include "cuda/device.hpp"

static int error, devices, major;
cudaError_t cudaGetDeviceCount(int* count) { return *count = devices, static_cast<cudaError_t>(error); }
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "in CUDA's words"; }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) { return *value = major, cudaSuccess; }

int main(int, char** argv) {
  error = std::atoi(argv[1]), devices = std::atoi(argv[2]), major = std::atoi(argv[3]);
  std::puts(fastsr::cuda::why_no_device().c_str());
}
"""


def test_why_no_gpu_can_be_used(tmp_path):
    """What the CUDA runtime says becomes a reason, for each of its errors: 35 no driver, 100 no device, others. 2 s."""
    include = Path(nvcc()).resolve().parent.parent / "include"
    if shutil.which("g++") is None or not (include / "cuda_runtime_api.h").exists():
        pytest.skip("g++ or CUDA's headers are not there")
    (tmp_path / "stub.cpp").write_text(STUB)
    sources = [tmp_path / "stub.cpp", CUDA / "device_cuda.cpp"]
    options = [
        "-std=c++17",
        f"-I{ROOT / 'csrc'}",
        f"-I{include}",
        "-no-pie",
        "-Wl,--unresolved-symbols=ignore-in-object-files,-z,lazy",
    ]
    subprocess.run(["g++", *options, *map(str, sources), "-o", str(tmp_path / "why")], check=True)

    def why(*answers):
        command = [str(tmp_path / "why"), *map(str, answers)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert why(35, 0, 0) == "no NVIDIA driver, or one too old for this build"
    assert why(100, 0, 0) == why(0, 0, 0) == "no NVIDIA GPU"
    assert why(999, 0, 0) == "no usable GPU: in CUDA's words"
    assert why(0, 1, 7) == "the GPU's compute capability is 7.x; 8.0 (Ampere) or newer is needed"
    assert why(0, 1, 8) == ""
