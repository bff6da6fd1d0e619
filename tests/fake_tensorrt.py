"""A module like tensorrt or tensorrt_rtx that computes with ONNX Runtime, on the memory of fake_cuda."""

from __future__ import annotations

import ctypes
import enum
import json
import sys
import types

import numpy as np
import onnxruntime
from fake_cuda import FakeCuda
from onnx import TensorProto, load_model_from_string
from onnx.reference import ReferenceEvaluator

from fastsr.backends import nvidia
from fastsr.backends.tensorrt import library
from fastsr.backends.tensorrt.cache import EngineCache

WORK_BYTES = 1000  # of device memory for each pixel


def make(name="tensorrt", version="10.9.0", refuse=None, unloadable=0, exact=False):
    """Return the module.

    refuse: what fails, "parse" or "build"; unloadable: how many engines fail to load; exact: whether fp16 is rounded
    and overflows after every operation, as on a GPU; ONNX Runtime computes it in fp32 on the CPU.
    """
    trt = types.ModuleType(name)
    trt.__version__ = version
    trt.refuse, trt.unloadable, trt.exact = refuse, unloadable, exact
    trt.built, trt.contexts, trt.runs, trt.kernels_seen, trt.timings_seen = [], [], [], [], []

    class Severity(enum.Enum):
        ERROR = 1
        INFO = 3

    class ILogger:
        def __init__(self):
            self.ready = True

    class IProgressMonitor:
        def __init__(self):
            self.ready = True

    class Profile:
        def set_shape(self, name, least, usual, most):
            self.shapes = {name: (least, usual, most)}

    class TimingCache:
        def __init__(self, blob):
            self.blob = bytes(blob)

        def serialize(self):
            return self.blob + b"+"

    class Config:
        def __init__(self):
            self.flags = {"TF32": True}  # as TensorRT has it
            self.progress_monitor = None
            self.profiles, self.capabilities = [], {}

        def add_optimization_profile(self, profile):
            self.profiles.append(profile)

        def set_flag(self, flag):
            self.flags[flag] = True

        def clear_flag(self, flag):
            self.flags[flag] = False

        def set_compute_capability(self, value, index):
            self.capabilities[index] = value

        def create_timing_cache(self, blob):
            return TimingCache(blob)

        def set_timing_cache(self, cache, ignore_mismatch):
            assert not ignore_mismatch
            trt.timings_seen.append(cache.blob)
            return not cache.blob.startswith(b"foreign")

    class Builder:
        def __init__(self, logger):
            assert logger.ready
            self.logger = logger

        def create_network(self, flags):
            assert flags == 1 << 3
            return types.SimpleNamespace(onnx=None)

        def create_builder_config(self):
            return Config()

        def create_optimization_profile(self):
            return Profile()

        def build_serialized_network(self, network, config):
            self.logger.log(Severity.INFO, "Total Activation Memory: 1234 bytes")
            if trt.refuse == "build":
                self.logger.log(Severity.ERROR, "no tactic was found")
                return None
            monitor = config.progress_monitor
            if monitor is not None and not tell(monitor):
                return None
            (profile,) = config.profiles
            plan = {"shapes": profile.shapes, "tf32": config.flags["TF32"], "sm": sorted(config.capabilities.values())}
            trt.built.append(plan)
            return b"PLAN" + json.dumps(plan).encode() + b"\n" + network.onnx

    def tell(monitor):
        monitor.phase_start("Building engine", None, 2)
        for part in range(2):
            monitor.phase_start(f"part {part}", "Building engine", 4)
            for step in range(4):
                if not monitor.step_complete(f"part {part}", step):
                    return False
            monitor.phase_finish(f"part {part}")
            monitor.step_complete("Building engine", part)
        monitor.phase_finish("Building engine")
        return True

    class OnnxParser:
        def __init__(self, network, logger):
            self.network = network
            self.num_errors = int(trt.refuse == "parse")

        def parse(self, blob):
            self.network.onnx = blob
            return not self.num_errors

        def get_error(self, i):
            return types.SimpleNamespace(desc=lambda: "operator Xyz is not supported")

    class Runtime:
        def __init__(self, logger):
            self.logger = logger

        def deserialize_cuda_engine(self, blob):
            if trt.unloadable > 0:
                trt.unloadable -= 1
                self.logger.log(Severity.ERROR, "Serialization assertion failed")
                return None
            head, _, onnx = blob[4:].partition(b"\n")
            return Engine(json.loads(head), onnx)

    class RuntimeCache:
        def __init__(self):
            self.blob = b"kernels"

        def deserialize(self, blob):
            trt.kernels_seen.append(bytes(blob))
            return True

        def serialize(self):
            return self.blob

    class RuntimeConfig:
        def set_execution_context_allocation_strategy(self, strategy):
            assert strategy == trt.ExecutionContextAllocationStrategy.USER_MANAGED

        def create_runtime_cache(self):
            return RuntimeCache()

        def set_runtime_cache(self, cache):
            return True

    class Engine:
        def __init__(self, plan, onnx):
            self.plan = plan
            half = load_model_from_string(onnx).graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16
            self.dtype = np.dtype(np.float16 if half else np.float32)
            if trt.exact:
                self.session = ReferenceEvaluator(load_model_from_string(onnx))
            else:
                self.session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])

        def create_runtime_config(self):
            return RuntimeConfig()

        def create_execution_context(self, how):
            if name == "tensorrt":
                assert how == trt.ExecutionContextAllocationStrategy.USER_MANAGED
            context = Context(self)
            trt.contexts.append(context)
            return context

    class Context:
        def __init__(self, engine):
            self.engine = engine
            self.addresses, self.work = {}, None
            self.busy = False

        def set_input_shape(self, name, shape):
            least, _, most = self.engine.plan["shapes"][name]
            self.shape = tuple(shape)
            return all(a <= n <= b for a, n, b in zip(least, shape, most, strict=True))

        def get_tensor_shape(self, name):
            x = np.zeros((1, self.shape[1], 1, 1), self.engine.dtype)
            k, s = self.engine.session.run(None, {"input": x})[0].shape[1:3]
            return (1, k, s * self.shape[2], s * self.shape[3])

        def update_device_memory_size_for_shapes(self):
            return WORK_BYTES * self.shape[2] * self.shape[3]

        def set_device_memory(self, pointer, size):
            self.work = size

        def set_tensor_address(self, name, pointer):
            self.addresses[name] = pointer
            return True

        def execute_async_v3(self, stream):
            assert stream
            assert not self.busy, "two threads run one context"
            self.busy = True
            assert self.work >= self.update_device_memory_size_for_shapes()
            trt.runs.append(self.shape)
            x = view(self.addresses["input"], self.shape, self.engine.dtype)
            y = self.engine.session.run(None, {"input": x})[0]
            view(self.addresses["output"], y.shape, y.dtype)[...] = y
            self.busy = False
            return True

    def view(pointer, shape, dtype):
        size = int(np.prod(shape)) * dtype.itemsize
        return np.frombuffer((ctypes.c_uint8 * size).from_address(pointer), dtype).reshape(shape)

    trt.ILogger, trt.IProgressMonitor = ILogger, IProgressMonitor
    trt.Builder, trt.OnnxParser, trt.Runtime = Builder, OnnxParser, Runtime
    trt.NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", {"STRONGLY_TYPED": 3})
    trt.BuilderFlag = types.SimpleNamespace(TF32="TF32")
    trt.ExecutionContextAllocationStrategy = enum.Enum("Strategy", ["STATIC", "USER_MANAGED"])
    if "rtx" in name:
        trt.ComputeCapability = enum.IntEnum(
            "ComputeCapability", {"NONE": 0, "SM75": 75, "SM80": 80, "SM86": 86, "SM120": 120}
        )
    return trt


class Machine:
    """A machine with a GPU and TensorRT, both fake."""

    def __init__(self, monkeypatch, tmp_path):
        self._patch = monkeypatch
        monkeypatch.setattr(nvidia, "MODULE", tmp_path / "version")
        monkeypatch.setenv("FASTSR_CACHE", str(tmp_path))
        monkeypatch.delenv("FASTSR_BACKEND", raising=False)
        self.cache = EngineCache()
        self.cuda = self.trt = None
        self._true_library = ctypes.CDLL
        self.set()

    def set(self, module=None, **cuda):
        self.cuda = FakeCuda(**cuda)
        self.trt = module or make()
        for name in library._MODULES:
            self._patch.setitem(sys.modules, name, self.trt if name == self.trt.__name__ else None)
        self._patch.setattr(ctypes, "CDLL", self._library)
        self.restart()

    def _library(self, name, *arguments, **options):
        """Return the fake driver, or a true library: PyTorch may be imported while the driver is there."""
        is_driver = str(name).startswith(("libcuda.so", "nvcuda"))
        return self.cuda if is_driver else self._true_library(name, *arguments, **options)

    def restart(self):
        """Forget what a process remembers."""
        for remembered in (nvidia.driver, nvidia.why_no_gpu, library._find):
            remembered.cache_clear()
