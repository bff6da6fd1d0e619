"""Compile a call for a GPU that is not here, and read from the machine code what it takes."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fastsr.backends.triton import kernels
from fastsr.backends.triton.calls import Call
from fastsr.errors import BackendError

# Shared memory that a block may have, bytes: 8.0 has 163 KB and 9.0 has 227, but 8.6, 8.9 and 12.0, which take the
# block sizes of those, have 99 (CUDA C++ Programming Guide, technical specifications).
SHARED_LIMIT = 99 << 10
_TYPES = {"fp32": "fp32", "tf32": "fp32", "fp16": "fp16", "bf16": "bf16", "int8": "i8", "fp8": "fp8e4nv"}
_FLOATS = ("in_scale", "in_offset", "out_scale", "out_offset", "low", "high")


@dataclass(frozen=True)
class Facts:
    """registers: of a thread; stack, spills: bytes and spilling instructions; shared: bytes; matrix: instructions."""

    registers: int
    stack: int
    spills: int
    shared: int
    matrix: int


def signature(call: Call) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the types of the kernel's arguments and its constants, for 8-bit images."""
    kernel: Any = getattr(kernels, call.kernel)
    constants = dict(call.constants)
    if call.kernel != "chain":
        constants |= {"ROUND": constants["IMAGE_OUT"], "x_channel": 1, "y_channel": 1}
    types = {}
    for name in kernel.arg_names:
        if name in constants:
            types[name] = "constexpr"
        elif name.endswith("_ptr"):
            image = (name == "x_ptr" and constants.get("IMAGE_IN")) or (name == "y_ptr" and constants.get("IMAGE_OUT"))
            own = {"v_ptr": "fp32", "p_ptr": "fp32", "flag_ptr": "i32"}
            types[name] = "*u8" if image else f"*{own.get(name, _TYPES[call.kinds.get(name, call.precision)])}"
        else:
            types[name] = "fp32" if name in _FLOATS else "i32"
    return types, constants


def identity(call: Call, sm: int) -> str:
    """Return a hash of everything that the machine code follows from: kernel source, constants, versions."""
    types, constants = signature(call)
    source = Path(kernels.__file__).read_text()
    facts = [source, triton.__version__, sm, call.kernel, types, constants, call.config.warps, call.config.stages]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def compile_call(call: Call, sm: int) -> Facts:
    """Compile for sm_<sm>. Raises BackendError where the tools that read machine code are missing."""
    kernel: Any = getattr(kernels, call.kernel)
    types, constants = signature(call)
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(kernel.arg_names) if name.endswith("_ptr")}
    source = ASTSource(fn=kernel, signature=types, constexprs=constants, attrs=aligned)
    options = {"num_warps": call.config.warps, "num_stages": call.config.stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", sm, 32), options=options)
    return _facts(compiled.asm["cubin"], int(compiled.metadata.shared))


def _facts(cubin: bytes, shared: int) -> Facts:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _tool("cuobjdump", "--dump-resource-usage", file.name)
        code = _tool("nvdisasm", file.name)
    found = {name: int(value) for name, value in re.findall(r"(REG|STACK):(\d+)", usage)}
    return Facts(
        found["REG"],
        found["STACK"],
        len(re.findall(r"\b(?:LDL|STL)\b", code)),
        shared,
        len(re.findall(r"\b(?:HMMA|HGMMA|IMMA|IGMMA|QGMMA)\b", code)),
    )


def _tool(name: str, *arguments: str) -> str:
    bundled = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    path = str(bundled) if bundled.exists() else shutil.which(name)
    if path is None:
        raise BackendError(f"{name} is not here; it comes with triton and with the CUDA toolkit")
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=True).stdout
