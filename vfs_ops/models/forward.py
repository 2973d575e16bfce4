"""One forward pass: device, precision, normalisation and hooks. All that knows devices is here."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, get_args

import numpy as np
import numpy.typing as npt
import torch

from vfs_ops.errors import ModelError, SpecError
from vfs_ops.identity.preprocessing import Preprocessing
from vfs_ops.identity.spec import Precision

_DTYPES: Final = {"bfloat16": torch.bfloat16, "float16": torch.float16}

# Hooks belong to the module and torch's float32 settings to the process; torch uses all cores
# within one pass, so passes side by side would win nothing.
_ONE_AT_A_TIME: Final = threading.RLock()

# What modules raise on an input that they cannot take.
_REFUSED: Final = (
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
)


def choose_device(name: str | None) -> torch.device:
    """Return the device of that name; the first GPU, or else the CPU, if None.

    Raises
    ------
    ModelError
        If there is no such device here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.append("mps")
    if torch.cuda.is_available():
        available += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if name not in available:
        raise ModelError(f"no device {name[:40]!r} here; expected one of {', '.join(available)}")
    return torch.device(name)


def threads_of(device: torch.device) -> int | None:
    """Return the number of threads that torch computes with; None on a GPU."""
    return torch.get_num_threads() if device.type == "cpu" else None


def describe(device: torch.device, threads: int | None) -> str:
    """Return what computes on a device, in words: equal words on one host mean equal bits.

    The number of threads is part of it: some convolutions (of SqueezeNet and MobileNet, for one)
    sum in another order on one thread than on two.
    """
    chip = "cpu"
    if device.type == "cuda":
        chip = torch.cuda.get_device_name(device)
    elif device.type == "cpu":
        chip = f"cpu {torch.backends.cpu.get_cpu_capability()}, {threads} threads"
    return f"{chip}, torch {torch.__version__}"


def check_precision(precision: Precision, device: torch.device) -> None:
    """Refuse a precision that is unknown, or that the device does not compute in.

    Raises
    ------
    SpecError
    """
    if precision not in get_args(Precision):
        raise SpecError(
            f"precision is {precision!r}; expected one of {', '.join(get_args(Precision))}"
        )
    if precision == "float16" and device.type == "cpu":
        raise SpecError("precision float16 needs a GPU; on the CPU choose float32 or bfloat16")


def device_of(module: torch.nn.Module) -> torch.device:
    """Return the device of a module's tensors; the CPU if it has none."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


def layout_of(module: torch.nn.Module) -> torch.memory_format:
    """Return the memory layout of a module's kernels; its input and they should agree."""
    for tensor in module.parameters():
        if tensor.ndim == 4 and not tensor.is_contiguous():
            return torch.channels_last
    return torch.contiguous_format


def normalise(
    pixels: npt.NDArray[np.uint8],
    preprocessing: Preprocessing,
    device: torch.device,
    layout: torch.memory_format = torch.contiguous_format,
) -> torch.Tensor:
    """Return the model's input: ``((x / 255 · (high - low) + low) - mean) / std``.

    Parameters
    ----------
    pixels
        uint8 of shape (n, height, width, channels), the last three as `preprocessing` says.
    preprocessing
        Its value range, mean and deviation are applied.
    device, layout
        Where the result is, and how it lies in memory.

    Returns
    -------
    torch.Tensor
        float32 of shape (n, channels, height, width), on the device.

    Raises
    ------
    ModelError
        If the array has another shape or dtype.
    """
    expected = (*preprocessing.input_size, preprocessing.channels)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != expected:
        raise ModelError(
            f"pixels of shape {pixels.shape} and dtype {pixels.dtype} cannot be normalised; "
            f"expected (n, {', '.join(map(str, expected))}) of uint8; fit the images first"
        )
    batch = torch.from_numpy(np.ascontiguousarray(pixels))
    if device.type == "cuda":
        batch = batch.pin_memory().to(device, non_blocking=True)
    else:
        batch = batch.to(device)
    values = batch.permute(0, 3, 1, 2).to(torch.float32, memory_format=layout).div_(255)
    low, high = preprocessing.value_range
    if (low, high) != (0.0, 1.0):
        values.mul_(high - low).add_(low)
    if preprocessing.mean is not None:
        values.sub_(torch.tensor(preprocessing.mean, device=device).view(-1, 1, 1))
    if preprocessing.std is not None:
        values.div_(torch.tensor(preprocessing.std, device=device).view(-1, 1, 1))
    return values


def run(
    module: torch.nn.Module,
    pixels: npt.NDArray[np.uint8],
    preprocessing: Preprocessing,
    hooks: Mapping[str, Callable[[Any], None]],
    precision: Precision = "float32",
    threads: int | None = None,
) -> Any:
    """Run one forward pass on the module's device, and show the outputs of some of its parts.

    One pass runs at a time in a process; other threads wait. float32 means float32: TF32 and
    shorter products are off, whatever the process has set.

    Parameters
    ----------
    module
        In evaluation mode.
    pixels
        uint8 of shape (n, height, width, channels).
    hooks
        Dotted path of a submodule → what is called with its output, at every call, before
        anything downstream can change it in place.
    threads
        Of the CPU; as many as torch is set to, if None.

    Returns
    -------
    Any
        The module's own output.

    Raises
    ------
    ModelError
        If the pixels are of another shape, or the model cannot take them.
    """
    device = device_of(module)
    values = normalise(pixels, preprocessing, device, layout_of(module))
    with _ONE_AT_A_TIME, _computing(device, precision, threads), contextlib.ExitStack() as stack:
        for path, show in hooks.items():
            hook = module.get_submodule(path).register_forward_hook(_observer(show))
            stack.callback(hook.remove)
        try:
            return module(values)
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"a batch of {len(pixels)} images does not fit into the memory of {device}; "
                "use smaller batches"
            ) from error
        except _REFUSED as error:
            reason = (str(error).strip().splitlines() or [""])[0][:200]
            raise ModelError(
                f"the model cannot take an input of shape {tuple(values.shape)} "
                f"({type(error).__name__}: {reason}); expected what it was made for; check the "
                "size and colour of preprocessing"
            ) from error


def _observer(show: Callable[[Any], None]) -> Callable[[Any, Any, Any], None]:
    def observe(_module: Any, _inputs: Any, output: Any) -> None:
        show(output)

    return observe


@contextlib.contextmanager
def _computing(device: torch.device, precision: Precision, threads: int | None) -> Iterator[None]:
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    usual = torch.get_num_threads()
    try:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        mixed = torch.autocast(device.type, _DTYPES.get(precision), enabled=precision in _DTYPES)
        if threads not in (None, usual):
            torch.set_num_threads(threads)
        with torch.inference_mode(), mixed:
            yield
    finally:
        if torch.get_num_threads() != usual:
            torch.set_num_threads(usual)
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
