"""What a card does at best, and what a step is made of: `gpu.py ceilings` and `gpu.py profile`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import smoke
import torch
from clocks import clock, wait
from overhead import images_32
from torch import Tensor
from torch.nn.functional import batch_norm, conv2d
from torch.profiler import ProfilerActivity
from torch.profiler import profile as record

from resnetlab import config, training

Microseconds = Callable[[Callable[[], Any]], float]
CONTIGUOUS, LAST = torch.contiguous_format, torch.channels_last
LAYOUTS: list[tuple[config.Precision, torch.memory_format]] = [
    ("fp32", CONTIGUOUS),
    ("fp32", LAST),
    ("tf32", CONTIGUOUS),
    ("tf32", LAST),
    ("bf16", LAST),
]
PRECISIONS: tuple[config.Precision, ...] = ("fp32", "tf32", "bf16")
SHAPES = [(16, 32), (32, 16), (64, 8)]  # channels and pixels a side of Figure 6's three stages


def ceilings(device: torch.device, dry: bool) -> list[dict[str, Any]]:
    """Copies, large matrix products, and the three stages' convolutions and batch norms by themselves.

    In a graph, so that no launch from Python is in a number; exactness of batch norm against float64.
    """
    rows: list[dict[str, Any]] = []

    def row(what: str, **figures: Any) -> None:
        rows.append({"what": what, **figures})
        print(rows[-1], flush=True)

    def us(work: Callable[[], Any], times: int = 20) -> float:
        return 1e6 * clock(repeated(work, times, dry), 2 if dry else 10, device) / times

    bytes_ = 1 << (20 if dry else 30)
    source = torch.randint(256, (bytes_,), dtype=torch.uint8, device=device)
    row("copy", tb_per_s=2 * bytes_ / us(source.clone) / 1e6)
    size = 128 if dry else 8192
    for precision in PRECISIONS:
        training.set_precision(precision)
        a, b = (torch.randn(size, size, dtype=type_of(precision), device=device) for _ in range(2))
        taken = us(lambda a=a, b=b: a @ b, 3)  # type: ignore[misc]
        row(f"matrix product, {precision}", tflops=2 * size**3 / taken / 1e6)
    for precision, layout in LAYOUTS:
        training.set_precision(precision)
        name = f"{precision} {'channels_last' if layout is LAST else 'contiguous'}"
        for channels, side in SHAPES:
            x = torch.randn(128, channels, side, side, device=device) * 2 + 0.5
            x = x.to(type_of(precision)).contiguous(memory_format=layout)
            at = f"{channels} channels, {side}x{side}, {name}"
            row(f"convolution, {at}", **convolution(x, layout, us))
            row(f"batch norm, {at}", **norm(x, us))
    return rows


def type_of(precision: config.Precision) -> torch.dtype:
    return torch.bfloat16 if precision == "bf16" else torch.float32


def convolution(x: Tensor, layout: torch.memory_format, us: Microseconds) -> dict[str, Any]:
    """3x3, as many channels out as in: forward, gradient of the images, gradient of the weights."""
    count, channels, side, _ = x.shape
    w = torch.randn(channels, channels, 3, 3, device=x.device).to(x.dtype)
    w = w.contiguous(memory_format=layout)
    grad = torch.randn_like(conv2d(x, w, padding=1))

    def back(*wanted: bool) -> Any:
        pairs = [1, 1], [1, 1], [1, 1]  # stride, padding, dilation
        mask = [*wanted, False]
        return torch.ops.aten.convolution_backward(grad, x, w, None, *pairs, False, [0, 0], 1, mask)

    taken = [us(lambda: conv2d(x, w, padding=1)), us(lambda: back(True, False)),
             us(lambda: back(False, True))]  # fmt: skip
    operations = 2 * count * side**2 * channels**2 * 9
    return {"forward_images_weights_us": taken, "tflops": [operations / t / 1e6 for t in taken]}


def norm(x: Tensor, us: Microseconds) -> dict[str, Any]:
    """Batch norm in training mode, forward."""
    ones, zeros = (make(x.shape[1], device=x.device) for make in (torch.ones, torch.zeros))
    exact = batch_norm(x.double(), None, None, ones.double(), zeros.double(), True)
    made = batch_norm(x, None, None, ones, zeros, True).double()
    return {
        "us": us(lambda: batch_norm(x, None, None, ones, zeros, True)),
        "relative_error": float((made - exact).norm() / exact.norm()),
    }


def repeated(work: Callable[[], Any], times: int, dry: bool) -> Callable[[], Any]:
    """So many of `work` as one replay; on a CPU one after the other."""
    if dry:
        return lambda: [work() for _ in range(times)]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.no_grad():
        with torch.cuda.stream(stream):
            for _ in range(3):
                work()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for _ in range(times):
                work()
    torch.cuda.synchronize()
    graph.replay()
    return graph.replay


def profile(device: torch.device, dry: bool) -> list[dict[str, Any]]:
    """The kernels of a step, by the time that they take."""
    images, rows, steps = images_32(), [], 3
    network = "plain-8" if dry else "resnet-20"
    for precision, how in (("fp32", "eager"), ("tf32", "channels_last"), ("bf16", "channels_last")):
        _, step = smoke.session(network, images, precision, how, device.type)
        for _ in range(3):
            step()
        wait(device)
        with record(activities=[ProfilerActivity.CPU if dry else ProfilerActivity.CUDA]) as recorded:
            for _ in range(steps):
                step()
            wait(device)
        events = [
            {"kernel": e.key[:120], "times": e.count / steps, "us": e.device_time_total / steps}
            for e in recorded.key_averages()
        ]
        events.sort(key=lambda event: -event["us"])
        us, count = (sum(event[key] for event in events) for key in ("us", "times"))
        rows.append({"precision": precision, "engine": how, "us": us, "kernels": count})
        rows[-1]["events"] = events[:40]
        print(f"{precision} {how}: {count:.0f} kernels, {us:.0f} us a step")
        for event in events[:20]:
            print(f"{event['us']:9.1f} us {event['times']:6.1f}x {event['kernel']}", flush=True)
    return rows
