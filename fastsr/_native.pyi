from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

_Pixels = npt.NDArray[Any]
_Box = tuple[int, int, int, int]
_Mapping = tuple[float, float, float, float, float, float]
_Progress = Callable[[int, int], None] | None

class Options:
    def __init__(self, threads: int = 0, max_memory: int = 0, strip: int = 0) -> None: ...

class Network:
    @property
    def scale(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def out_channels(self) -> int: ...
    @property
    def isa(self) -> str: ...
    @property
    def halo(self) -> tuple[int, int]: ...
    @property
    def algorithms(self) -> dict[str, str]: ...
    def run(
        self,
        source: _Pixels,
        target: _Pixels,
        height: int,
        width: int,
        origin: tuple[int, int],
        box: _Box,
        mapping: _Mapping,
        options: Options,
        progress: _Progress = None,
    ) -> None: ...
    def stream(
        self,
        read: Callable[[int, int], _Pixels],
        write: Callable[[int, _Pixels], Any],
        dtype: np.dtype[Any],
        height: int,
        width: int,
        mapping: _Mapping,
        options: Options,
        progress: _Progress = None,
    ) -> None: ...
    def reads(self, height: int, width: int, box: _Box) -> _Box: ...
    def release(self) -> None: ...
    def plan(self, height: int, width: int, box: _Box, options: Options) -> dict[str, Any]: ...

class Model:
    def __init__(self, data: bytes, hashed: bool = False) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    def network(
        self,
        scale: int,
        channels: int,
        isa: str = "",
        winograd: bool = True,
        integers: bool = False,
        bf16: bool = False,
    ) -> Network: ...

def undo_png_filters(lines: Any, above: Any, out: Any, pixel_bytes: int) -> int: ...
def isa_levels() -> dict[str, dict[str, Any]]: ...
def selected_isa() -> str: ...
def default_threads() -> int: ...
