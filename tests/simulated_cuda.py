"""A CUDA device made of CPU tensors: CUDA's rules, checked operation by operation without a GPU.

Inside `simulated_cuda()` tensors can be made on or moved to `cuda`; they lie in CPU memory that is
known to be the device's. What is checked there, and raises or is noted as a GPU would:

- devices: an operation on tensors of both raises; `.numpy()` of a device tensor raises;
- waits: each point at which the host waits for the device is counted, by file and line;
- capture: operations are recorded and nothing is computed; what CUDA forbids raises and spoils the
  capture; a replay runs what was recorded, on the same memory; memory that only the graph knows is
  filled with NaN after each replay, as torch's pool would give it to others;
- streams: each has a vector clock; memory that one wrote and another uses without an order between
  them, or that is freed while another may still use it, is a problem;
- TF32: a float32 convolution in TF32 is counted.

The clocks follow Lamport and Mattern: whoever waits for a stream or event takes the greater time of
each stream.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
CUDA = torch.device("cuda", 0)
GIGABYTE = 1024**3
FORBIDDEN = "CUDA error: operation not permitted when stream is capturing"
SPOILT = "CUDA error: operation failed due to a previous error during capture\nCUDA kernel errors ..."
# Their result's size or value is asked by the host, which waits for it.
WAITING = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten._unique2.default,
    aten.bincount.default,
}
INDEXING = (aten.index, aten.index_put, aten.index_put_)


class Memory:
    """What is known of one storage of the device: its stream, and who used it last, when."""

    def __init__(self, home: Stream, made: str) -> None:
        self.home, self.made = home, made
        self.written: tuple[int, int] | None = None  # (stream, its time)
        self.read: dict[int, int] = {}


class Device(TorchDispatchMode):
    """The device, seen from below autograd. What tests ask of it is public."""

    def __init__(self) -> None:
        super().__init__()
        self.streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self.default = self.stream = Stream(self)
        self.host: Counter[int] = Counter()  # what the host has waited for, by stream
        self.waits: Counter[str] = Counter()
        self.tf32: Counter[str] = Counter()
        self.problems: list[str] = []
        self.pinned: set[int] = set()  # storages
        self.graphs = 0  # captured whole
        self.creating = False
        self.capturing: Graph | None = None
        self._spoilt = self.allocator_stuck = False

    # --- waiting and order

    def wait(self, stream: Stream | None, what: str) -> None:
        """The host waits for one stream, or for all."""
        if self.capturing is not None:
            self._spoilt = True
            raise RuntimeError(f"{FORBIDDEN} ({what})")
        for one in [stream] if stream is not None else self.streams:
            self.host |= one.clock
        self.waits[f"{what} @ {_caller()}"] += 1

    def tick(self) -> None:
        self.stream.clock |= self.host
        self.stream.clock[self.stream.number] += 1

    def memory(self, tensor: Tensor) -> Memory | None:
        return getattr(tensor.untyped_storage(), "_device_memory", None)

    def give(self, tensor: Tensor) -> None:
        """From now on the tensor's storage is the device's."""
        storage = tensor.untyped_storage()
        if getattr(storage, "_device_memory", None) is None:
            storage._device_memory = Memory(self.stream, _caller())  # type: ignore[attr-defined]
            weakref.finalize(storage, self._freed, storage._device_memory)  # type: ignore[attr-defined]

    def _freed(self, memory: Memory) -> None:
        """torch gives it to whoever asks next on its home stream: may another still use it?"""
        known = memory.home.clock | self.host
        for number, time in filter(None, (memory.written, *memory.read.items())):
            if number != memory.home.number and known[number] < time:
                self.problems.append(f"freed while stream {number} may use it; made in {memory.made}")

    def use(self, tensor: Tensor, *, write: bool) -> None:
        memory, stream = self.memory(tensor), self.stream
        if memory is None:
            return
        others = [memory.written, *(memory.read.items() if write else ())]
        for number, time in filter(None, others):
            if number != stream.number and stream.clock[number] < time:
                act = "write" if write else "read"
                self.problems.append(f"{act} on {stream} unordered after stream {number}; {_caller()}")
        if write:
            memory.written, memory.read = (stream.number, stream.clock[stream.number]), {}
        else:
            memory.read[stream.number] = stream.clock[stream.number]

    # --- operations

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [t for t in _tensors((args, kwargs)) if t.device.type == "cpu"]
        here = [t for t in tensors if self.memory(t) is not None]
        elsewhere = [t for t in tensors if self.memory(t) is None]
        if not here and not self.creating:
            return func(*args, **kwargs)
        self._check_devices(func, args, here, elsewhere)
        tf32 = torch.backends.cudnn.conv.fp32_precision != "ieee"  # type: ignore[attr-defined]
        if func.overloadpacket is aten.convolution and args[0].dtype == torch.float32 and tf32:
            self.tf32[_caller()] += 1
        masks = func.overloadpacket is aten.index and any(
            isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if func in WAITING or masks:
            self.wait(self.stream, str(func))
        if self.capturing is not None:
            return self._record(self.capturing, func, args, kwargs)
        self.tick()
        return self._execute(func, args, kwargs)

    def _check_devices(self, func: Any, args: Any, here: list[Tensor], elsewhere: list[Tensor]) -> None:
        base = func.overloadpacket
        if base is aten.copy_ and here and elsewhere:
            into = self.memory(args[0]) is not None
            asynchronous = len(args) > 2 and args[2] and into  # non_blocking
            if not (asynchronous and args[1].untyped_storage()._cdata in self.pinned):
                self.transfer("to the device" if into else "from the device")
        elif base is not aten._to_copy and here and any(tensor.dim() for tensor in elsewhere):
            if base in INDEXING and self.memory(args[0]) is not None:
                self.transfer("indices to the device")
            else:
                raise RuntimeError(
                    f"Expected all tensors to be on the same device, but found cpu and cuda:0 in {func}"
                )

    def _execute(self, func: Any, args: Any, kwargs: Any) -> Any:
        changed = {id(tensor) for tensor in _mutated(func, args, kwargs)}
        view = _is_view(func) and not changed
        if not view:
            for tensor in _tensors((args, kwargs)):
                self.use(tensor, write=id(tensor) in changed)
        out = func(*args, **kwargs)
        if func.overloadpacket is not aten.copy_:
            for tensor in _tensors(out):
                self.give(tensor)
                if not view:
                    self.use(tensor, write=True)
        return out

    def transfer(self, what: str) -> None:
        self.wait(self.stream, what)

    # --- capture and replay

    def begin(self, graph: Graph) -> None:
        assert self.stream is not self.default, "a graph is captured on a stream of its own"
        assert self.capturing is None
        self.tick()
        self.capturing = graph

    def end(self) -> None:
        self.capturing = None
        if self._spoilt:  # torch then never tells its allocator that the capture is over
            self._spoilt, self.allocator_stuck = False, True
            raise RuntimeError(SPOILT)
        self.graphs += 1

    def empty_cache(self) -> None:
        if self.allocator_stuck:
            raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")

    def _record(self, graph: Graph, func: Any, args: Any, kwargs: Any) -> Any:
        changed = _mutated(func, args, kwargs)
        if _is_view(func) and not changed:
            out = func(*args, **kwargs)
            for tensor in _tensors(out):
                self.give(tensor)
            return out
        if any(a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments):
            graph.operations.append((func, args, kwargs, None))
            assert len(func._schema.returns) < 2, func
            return changed[0] if func._schema.returns else None
        cloned = tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, (args, kwargs))
        out = func(*cloned[0], **cloned[1])  # for its shapes alone
        for tensor in _tensors(out):
            self.give(tensor)
            _spoil(tensor)
        graph.operations.append((func, args, kwargs, out))
        return out

    def replay(self, graph: Graph) -> None:
        assert self.capturing is None
        self.tick()
        with _disable_current_modes(), torch.no_grad():
            for operation in graph.operations:
                self._repeat(*operation)
            del operation
            for tensor in self._private(graph):
                _spoil(tensor)

    def _repeat(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """An operation on the memory that it was recorded with."""
        changed = {id(tensor) for tensor in _mutated(func, args, kwargs)}
        for tensor in _tensors((args, kwargs)):
            self.use(tensor, write=id(tensor) in changed)
        computed = func(*args, **kwargs)
        for kept, new in zip(_tensors(out), _tensors(computed), strict=False):
            kept.copy_(new)
            self.use(kept, write=True)

    def _private(self, graph: Graph) -> list[Tensor]:
        """What the graph computes and nobody else holds: torch's pool may give it to other graphs.

        A storage is private if all tensors on it, and all references to these, are the graph's.
        """
        leaves = [leaf for operation in graph.operations for leaf in _tensors(operation[1:])]
        held = Counter(map(id, leaves))
        tensors = list({id(tensor): tensor for tensor in leaves}.values())
        on_storage = Counter(tensor.untyped_storage().data_ptr() for tensor in tensors)
        made = [leaf for *_, out in graph.operations for leaf in _tensors(out)]
        outs = {leaf.untyped_storage().data_ptr() for leaf in made}
        del leaves, made
        for tensor in tensors:
            storage = tensor.untyped_storage()
            # Beside the graph's: `tensors`, this name, and the argument; and `storage` itself.
            others = sys.getrefcount(tensor) - 3 > held[id(tensor)]
            views = torch._C._storage_Use_Count(storage._cdata) - 1
            if others or views > on_storage[storage.data_ptr()]:
                outs.discard(storage.data_ptr())
        return [tensor for tensor in tensors if tensor.untyped_storage().data_ptr() in outs]


class Stream:
    """torch.cuda.Stream, with a vector clock."""

    numbers = iter(range(1, 10**9))
    device_of: Device

    def __init__(self, device: Any = None, priority: int = 0, **_: Any) -> None:
        self.owner = device if isinstance(device, Device) else Stream.device_of
        self.number, self.priority, self.device = next(Stream.numbers), priority, CUDA
        self.clock: Counter[int] = Counter()
        self.owner.streams.add(self)

    def __repr__(self) -> str:
        return f"<stream {self.number}>"

    def wait_stream(self, other: Stream) -> None:
        self.clock |= other.clock

    def wait_event(self, event: Event) -> None:
        self.clock |= event.clock

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def synchronize(self) -> None:
        self.owner.wait(self, "Stream.synchronize")


class Event:
    """torch.cuda.Event."""

    def __init__(self, **_: Any) -> None:
        self.clock: Counter[int] = Counter()

    def record(self, stream: Stream | None = None) -> None:
        self.clock = Counter((stream or Stream.device_of.stream).clock)

    def query(self) -> bool:
        """Whether it has happened: the simulated device computes at once."""
        return True

    def synchronize(self) -> None:
        Stream.device_of.host |= self.clock


class Graph:
    """torch.cuda.CUDAGraph: what was recorded."""

    def __init__(self, keep_graph: bool = False) -> None:
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def replay(self) -> None:
        Stream.device_of.replay(self)


class Surface(TorchFunctionMode):
    """Python's calls that name a device or ask for one."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.gpu = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, gpu = dict(kwargs or {}), self.gpu
        tensor = args[0] if args and isinstance(args[0], Tensor) else None
        on = self._is_on(tensor)
        asked = getattr(func, "__self__", None) if getattr(func, "__name__", "") == "__get__" else None
        if asked is torch.Tensor.device and on:
            return CUDA
        if asked is torch.Tensor.is_cuda:
            return on
        if func in (torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda):
            where = {torch.Tensor.cpu: ("cpu",), torch.Tensor.cuda: ("cuda",)}.get(func, ())
            return self._to(args[0], *where, *args[1:], **kwargs)
        if func in (torch.Tensor.tolist, torch.Tensor.item) and on:
            if func is torch.Tensor.tolist or args[0].dim():
                gpu.wait(gpu.stream, "from the device")
            return func(*args, **kwargs)
        if func in (torch.Tensor.numpy, torch.Tensor.__array__) and on:
            raise TypeError("can't convert cuda:0 device type tensor to numpy: copy it first")
        if func is torch.Tensor.pin_memory:
            pinned = args[0].clone()
            gpu.pinned.add(pinned.untyped_storage()._cdata)
            return pinned
        kwargs.pop("pin_memory", None)
        asks_only = getattr(func, "__name__", "") == "_parse_to"  # `Module.to` reads its arguments
        if _is_cuda(kwargs.get("device")) and not asks_only:
            return self._make(func, args, kwargs | {"device": "cpu"})
        return func(*args, **kwargs)

    def _is_on(self, tensor: Tensor | None) -> bool:
        with torch._C.DisableTorchFunction():
            if tensor is None or tensor.device.type != "cpu":
                return False
            return self.gpu.memory(tensor) is not None

    def _make(self, func: Any, args: Any, kwargs: Any) -> Any:
        gpu = self.gpu
        if kwargs.get("generator") is not None:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        if func in (torch.tensor, torch.as_tensor, torch.asarray):
            out = func(*args, **kwargs)
            gpu.transfer("to the device")
            return self._arrived(out.clone())
        before, gpu.creating = gpu.creating, True
        try:
            return func(*args, **kwargs)
        finally:
            gpu.creating = before

    def _arrived(self, tensor: Tensor) -> Tensor:
        self.gpu.tick()
        self.gpu.give(tensor)
        self.gpu.use(tensor, write=True)
        return tensor

    def _to(self, tensor: Tensor, *args: Any, copy: bool = False, **kwargs: Any) -> Tensor:
        gpu, on = self.gpu, self._is_on(tensor)
        if args and isinstance(args[0], Tensor):  # like another's
            args = (args[0].device, args[0].dtype, *args[1:])
        with torch._C.DisableTorchFunction():
            device, dtype, non_blocking, layout = torch._C._nn._parse_to(*args, **kwargs)
        more = {"memory_format": layout} if layout is not None else {}
        if device is not None and device.type == "meta":
            return tensor.detach().to(device)
        wanted = on if device is None else device.type == "cuda"
        dtype = dtype or tensor.dtype
        if wanted == on:
            if dtype == tensor.dtype and not more and not copy:
                return tensor
            with torch._C.DisableTorchFunction():
                return torch.Tensor.to(tensor, dtype, copy=copy, **more)
        if not wanted:
            gpu.tick()
            gpu.use(tensor, write=False)
        if not (non_blocking and wanted and tensor.untyped_storage()._cdata in gpu.pinned):
            gpu.transfer("to the device" if wanted else "from the device")
        source = tensor if torch.is_grad_enabled() and tensor.requires_grad else tensor.detach()
        with _disable_current_modes():
            out = torch.Tensor.to(source, dtype=dtype, copy=True, **more)
        return self._arrived(out) if wanted else out


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _caller() -> str:
    """The line of the project that led here."""
    for frame in reversed(traceback.extract_stack()):
        if "resnetlab/" in frame.filename and "tests/" not in frame.filename:
            return f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.line}"
    return "?"


def _is_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _is_view(func: Any) -> bool:
    arguments = [a.alias_info for a in func._schema.arguments if a.alias_info is not None]
    return any(not a.is_write for a in arguments) and func.overloadpacket is not aten._to_copy


def _mutated(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """The tensors that it writes into."""
    out = []
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            out += _tensors(args[position] if position < len(args) else kwargs.get(argument.name))
    if func.overloadpacket in (aten.native_batch_norm, aten.cudnn_batch_norm) and args[5]:
        out += [statistic for statistic in args[3:5] if statistic is not None]
    return out


def _spoil(tensor: Tensor) -> None:
    if tensor.is_floating_point():
        tensor.fill_(float("nan"))
    else:
        tensor.zero_()


@contextlib.contextmanager
def simulated_cuda() -> Iterator[Device]:
    """In the block torch has one CUDA device, the one that is yielded."""
    gpu = Device.__new__(Device)
    Stream.device_of = gpu
    gpu.__init__()  # type: ignore[misc]
    load, save, autocast = torch.load, torch.save, torch.autocast

    @contextlib.contextmanager
    def on_stream(stream: Stream | None) -> Iterator[None]:
        before, gpu.stream = gpu.stream, stream or gpu.stream
        try:
            yield
        finally:
            gpu.stream = before

    @contextlib.contextmanager
    def capture(graph: Graph, pool: Any = None, stream: Any = None, **_: Any) -> Iterator[None]:
        gpu.wait(None, "synchronize")
        gpu.empty_cache()
        with on_stream(stream or Stream()):
            gpu.begin(graph)
            try:
                yield
            finally:
                gpu.end()

    def loaded(file: Any, map_location: Any = None, **more: Any) -> Any:
        wanted = not isinstance(map_location, dict) and _is_cuda(map_location)
        with _disable_current_modes():
            out = load(file, map_location="cpu" if wanted else map_location, **more)
        for tensor in _tensors(out) if wanted else ():
            gpu.transfer("to the device")
            surface._arrived(tensor)
        return out

    def saved(value: Any, file: Any, **more: Any) -> None:
        for tensor in _tensors(value):
            if gpu.memory(tensor) is not None:
                gpu.tick()
                gpu.use(tensor, write=False)
                gpu.wait(gpu.stream, "from the device")
        with _disable_current_modes():
            save(value, file, **more)

    class Autocast(autocast):  # type: ignore[misc, valid-type]
        def __init__(self, device_type: str, *args: Any, **more: Any) -> None:
            super().__init__("cpu" if device_type == "cuda" else device_type, *args, **more)

    replaced: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "Stream": Stream,
        "Event": Event,
        "CUDAGraph": Graph,
        "graph": capture,
        "stream": on_stream,
        "current_stream": lambda device=None: gpu.stream,
        "default_stream": lambda device=None: gpu.default,
        "synchronize": lambda device=None: gpu.wait(None, "synchronize"),
        "empty_cache": gpu.empty_cache,
        "mem_get_info": lambda device=None: (70 * GIGABYTE, 80 * GIGABYTE),
        "memory_reserved": lambda device=None: 0,
        "get_device_name": lambda device=None: "simulated GPU",
        "set_device": lambda device: None,
        "get_rng_state": lambda device=None: torch.zeros(1, dtype=torch.uint8),
        "set_rng_state": lambda *args, **more: None,
        "is_current_stream_capturing": lambda: gpu.capturing is not None,
    }
    clipping = sys.modules["torch.nn.utils.clip_grad"]
    by_real_device = clipping._group_tensors_by_device_and_dtype  # type: ignore[attr-defined]

    def by_device(lists: Any, *args: Any) -> dict[Any, Any]:
        groups = by_real_device(lists, *args)
        return {(lists[0][0].device, dtype): group for (_, dtype), group in groups.items()}

    places = [(torch.cuda, name, value) for name, value in replaced.items()]
    places += [(clipping, "_group_tensors_by_device_and_dtype", by_device)]
    places += [(torch, "load", loaded), (torch, "save", saved), (torch, "autocast", Autocast)]
    before = [(place, name, getattr(place, name)) for place, name, _ in places]
    surface = Surface(gpu)
    try:
        for place, name, value in places:
            setattr(place, name, value)
        with surface, gpu:
            yield gpu
    finally:
        for place, name, value in before:
            setattr(place, name, value)
