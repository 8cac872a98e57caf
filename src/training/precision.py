"""The number format of training: float32, or autocast to a 16-bit one, whose weights stay float32."""

import torch

FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve(precision: str, device: torch.device) -> str:
    """The format that `auto` means on `device`: bfloat16 on a GPU that computes with it, float32 elsewhere."""
    if precision != "auto":
        return precision
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if native else "float32"


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Run products and convolutions in `precision` (Micikevicius et al., arXiv:1710.03740); float32 changes nothing."""
    resolved = resolve(precision, device)
    return torch.autocast(device.type, FORMATS[resolved], enabled=resolved != "float32")


def loss_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Scales the loss under float16, whose gradients would vanish otherwise, and skips steps that overflow."""
    return torch.amp.GradScaler(device.type, enabled=resolve(precision, device) == "float16")
