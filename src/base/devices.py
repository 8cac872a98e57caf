"""Where tensors live and how many threads compute: the machine's business, not hyperparameters.

`DEVICE` (cpu, cuda, cuda:1, mps) and `THREADS` in the environment override the choice. Of many processes on one machine
(torchrun's LOCAL_RANK), each takes a GPU of its own.
"""

import os
import platform

import torch


def choose(*, deterministic: bool = False) -> torch.device:
    """The device to compute on, after setting the number of CPU threads and how exactly a GPU repeats itself.

    Args:
        deterministic: only algorithms that give the same bits each time, and float32 products without TF32. Otherwise
            cuDNN tries its algorithms and takes the fastest, and TF32 rounds the factors of products to 10 bits.

    Raises:
        ValueError: DEVICE or THREADS names something that this machine does not have.
    """
    # Page faults on fresh activations take up to 40 % of the time on a CPU; huge pages (Linux, madvise) spare most.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    threads = os.environ.get("THREADS", "")
    if threads:
        if not threads.isdecimal() or int(threads) < 1:
            raise ValueError(f"THREADS={threads} in the environment: allowed: a positive integer, or unset")
        torch.set_num_threads(int(threads))
    _set_precision(deterministic)
    found = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.accelerator.device_count()
    asked = os.environ.get("DEVICE", "")
    if found.type == "cuda" and asked in ("", "cuda") and "LOCAL_RANK" in os.environ:
        if local >= count:
            raise ValueError(f"LAUNCHER starts process {local + 1} where there are {count} GPUs; allowed: one per GPU")
        torch.cuda.set_device(local)
        return torch.device("cuda", local)
    if not asked:
        return found
    allowed = {"cpu", found.type, *(f"{found.type}:{i}" for i in range(count))}
    if asked not in allowed:
        raise ValueError(f"DEVICE={asked} in the environment: allowed here: {', '.join(sorted(allowed))}, or unset")
    return torch.device(asked)


def _set_precision(deterministic: bool) -> None:
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS refuses to be deterministic without it
    if deterministic != torch.are_deterministic_algorithms_enabled():  # this call imports torch's compiler: seconds
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.allow_tf32 = not deterministic
    torch.backends.cuda.matmul.allow_tf32 = not deterministic


def describe(device: torch.device) -> dict[str, str | int]:
    """Name of `device` and the number of CPU threads, for the record of a run."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "device": name if device.type != "cpu" else f"cpu ({platform.machine()})",
        "threads": torch.get_num_threads(),
    }


def is_out_of_memory(problem: Exception) -> bool:
    """CUDA's own type, or the plain RuntimeError of the CPU's and MPS's allocators."""
    text = str(problem)
    return isinstance(problem, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text
