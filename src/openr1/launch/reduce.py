"""One process of the pre-flight's all-reduce: `python -m openr1.launch.reduce TIMEOUT`, with torchrun's environment.

It says `here` once it has loaded torch and `sum` when the numbers of all have come together, as JSON lines.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta

from openr1.launch.child import die_with_parent
from openr1.nodes.base import PARENT

NUMBERS = 1 << 18  # 1 MiB of float32


def main() -> None:
    if parent := os.environ.get(PARENT):
        die_with_parent(int(parent))
    try:
        import torch
        from torch import distributed

        print(json.dumps({"event": "here"}), flush=True)
        rank, size, gpu = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), torch.cuda.is_available()
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else torch.device("cpu")
        if gpu:
            torch.cuda.set_device(device)
        patience = timedelta(seconds=float(sys.argv[1]))
        distributed.init_process_group("nccl" if gpu else "gloo", timeout=patience, device_id=device if gpu else None)
        started = time.perf_counter()
        numbers = torch.full((NUMBERS,), float(rank + 1), device=device)
        distributed.all_reduce(numbers)
        found, wanted = float(numbers.mean()), size * (size + 1) / 2
        if abs(found - wanted) > 1e-3:
            raise ValueError(f"the sum is {found:g}, not {wanted:g}")
        print(json.dumps({"event": "sum", "seconds": time.perf_counter() - started}), flush=True)
        distributed.destroy_process_group()
    except (ImportError, OSError, RuntimeError, ValueError) as e:
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
        print(json.dumps({"event": "failed", "reason": f"{type(e).__name__}: {reason}"}), flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
