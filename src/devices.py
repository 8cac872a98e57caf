"""Where tensors live and how many threads compute: the machine's business, not hyperparameters.

`DEVICE` (cpu, cuda, cuda:1, mps) and `THREADS` in the environment override the choice.
"""

import os
import platform

import torch


def choose() -> torch.device:
    """The device to compute on, after setting the number of CPU threads.

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
    found = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    asked = os.environ.get("DEVICE", "")
    if not asked:
        return found
    allowed = {"cpu", found.type, *(f"{found.type}:{i}" for i in range(torch.accelerator.device_count()))}
    if asked not in allowed:
        raise ValueError(f"DEVICE={asked} in the environment: allowed here: {', '.join(sorted(allowed))}, or unset")
    return torch.device(asked)


def describe(device: torch.device) -> dict[str, str | int]:
    """Name of `device` and the number of CPU threads, for the record of a run."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "device": name if device.type != "cpu" else f"cpu ({platform.machine()})",
        "threads": torch.get_num_threads(),
    }
