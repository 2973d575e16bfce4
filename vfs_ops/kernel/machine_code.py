"""Functions in LLVM's language, translated for this processor when they are first needed.

That takes some hundredths of a second, once in a process, and needs neither a compiler on the
machine nor a place to keep files. While such a function runs, the interpreter's lock is free.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

from llvmlite import binding  # type: ignore[import-untyped]

POINTER: Final = ctypes.c_void_p
NUMBER: Final = ctypes.c_int64


@cache
def has(feature: str) -> bool:
    """Tell whether this processor has a feature, by LLVM's name for it, such as "avx512f"."""
    return bool(binding.get_host_cpu_features().get(feature))


def translated(assembly: str, name: str, arguments: Sequence[type[Any]]) -> Callable[..., None]:
    """Return a function without a result, of pointers and whole numbers of 64 bits."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    module = binding.parse_assembly(assembly)
    module.verify()
    target = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(),
        features=binding.get_host_cpu_features().flatten(),
        opt=3,
        jit=True,
    )
    engine = binding.create_mcjit_compiler(module, target)
    engine.finalize_object()
    function = ctypes.CFUNCTYPE(None, *arguments)(engine.get_function_address(name))

    def call(*given: int) -> None:
        function(*given)

    call.engine = engine  # type: ignore[attr-defined]  # the code lives as long as this does
    return call


def lines(made: Sequence[str]) -> str:
    """Return instructions as a part of a function's text."""
    return "\n  ".join(made)
