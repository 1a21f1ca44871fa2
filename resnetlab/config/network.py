"""A network of the paper as a value: depth, shortcut option, design, and the few choices left open."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

from pydantic import model_validator

from resnetlab.config.strict import UsageError, _Strict

Shortcut = Literal["none", "A", "B", "C"]
Design = Literal["cifar", "imagenet"]
Block = Literal["basic", "bottleneck", "single"]
StrideIn = Literal["1x1", "3x3"]
Zeros = Literal["split", "end"]
SHORTCUTS: tuple[Shortcut, ...] = get_args(Shortcut)
# Table 1: depth -> the kind of block and how many of them conv2_x, conv3_x, conv4_x, conv5_x have.
IMAGENET: dict[int, tuple[Block, tuple[int, int, int, int]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}


_NAME = re.compile(
    r"(cifar-)?(plain|resnet)-(0|[1-9][0-9]{0,4})(?:-([ABC]))?(-single)?(-3x3)?(-zeros-end)?"
)
_EXAMPLES = (
    "plain-20 plain-34 plain-56 resnet-20 resnet-34 resnet-50 resnet-56 resnet-56-B resnet-50-3x3"
)


class Network(_Strict):
    """A network of the paper: `depth` weighted layers; `shortcut` "none" makes it plain.

    `design` is "imagenet" (Table 1: 18, 34, 50, 101, 152) or "cifar" (Sec. 4.2: 6n+2); a depth of
    Table 1 means the former unless "cifar" is said (50 and 152 are both). `block` is the design's:
    basic, bottleneck from 50 layers on; "single" is the one-layer block of Sec. 3.2. A bottleneck's
    first block of a stage strides in its first 1x1 (the paper) or, `stride_in="3x3"`, in its 3x3.
    Option A's new channels are zeros, half before and half after the old ones ("split") or all of
    them at the "end", as several published weights have it; the paper does not say (Sec. 3.3).
    Without a word `shortcut` is what the paper used for that network: B for bottlenecks, else A.
    """

    depth: int
    shortcut: Shortcut = "A"
    design: Design = "cifar"
    block: Block = "basic"
    stride_in: StrideIn = "1x1"
    zeros: Zeros = "split"

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or type(values.get("depth")) is not int:
            return values
        return _usual_network(values["depth"], values.get("design")) | dict(values)

    def _mistakes(self) -> Iterator[str]:
        known, basic = ", ".join(map(str, IMAGENET)), _usual_network(self.depth, self.design)["block"]
        if self.design == "imagenet" and self.depth not in IMAGENET:
            yield f"depth {self.depth} is not in Table 1; ImageNet networks have {known}"
        if self.design == "cifar" and (self.depth < 8 or self.depth % 6 != 2):
            yield (
                f"depth {self.depth} is not 6n+2 with n >= 1; {_nearest_depths(self.depth)}"
                f" (ImageNet networks have {known})"
            )
        if self.block != basic and (self.block != "single" or basic == "bottleneck"):
            layers = f"{self.depth} layers of the {self.design} design"
            yield f"{layers} have {basic} blocks, not {self.block}"
        if self.block == "single" and self.shortcut == "none":
            yield "a plain network has no blocks: single-layer blocks need shortcut A, B or C"
        if self.stride_in == "3x3" and self.block != "bottleneck":
            yield (
                "stride_in 3x3 is a choice of bottleneck blocks, "
                f"{self.depth} layers have {self.block} ones"
            )
        if self.zeros == "end" and self.shortcut != "A":
            options = "no shortcuts" if self.shortcut == "none" else f"option {self.shortcut}"
            yield f"zeros 'end' is a choice of shortcut option A, {self.name} has {options}"

    def _usual(self) -> Mapping[str, Any]:
        usual = _usual_network(self.depth)
        if self.design != usual["design"]:
            usual |= {"block": _usual_network(self.depth, self.design)["block"]}
        return {name: usual[name] for name in ("design", "block", "stride_in", "zeros")}

    @property
    def blocks(self) -> tuple[int, ...]:
        """Blocks of each stage: n three times for 6n+2 layers, Table 1's numbers for ImageNet."""
        counts = IMAGENET[self.depth][1] if self.design == "imagenet" else ((self.depth - 2) // 6,) * 3
        return tuple(2 * count for count in counts) if self.block == "single" else counts

    @property
    def native_size(self) -> int:
        """Height and width of the images that the paper fed it: 224 or 32."""
        return 224 if self.design == "imagenet" else 32

    @property
    def smallest_image(self) -> int:
        """Below this the last stage would have less than one pixel (ImageNet) or 2x2 (CIFAR)."""
        return 32 if self.design == "imagenet" else 8

    @property
    def name(self) -> str:
        """The field's name: plain-56, resnet-56 (A), resnet-34-C, resnet-50 (B), resnet-50-3x3.

        Only what is not the paper's choice for that depth is spelt out.
        """
        usual = _usual_network(self.depth, self.design)
        parts = ["cifar"] if self.design == "cifar" and self.depth in IMAGENET else []
        parts += ["plain" if self.shortcut == "none" else "resnet", str(self.depth)]
        parts += [self.shortcut] if self.shortcut not in ("none", usual["shortcut"]) else []
        parts += ["single"] if self.block == "single" else []
        parts += ["3x3"] if self.stride_in == "3x3" else []
        parts += ["zeros-end"] if self.zeros == "end" else []
        return "-".join(parts)

    def at_depth(self, depth: int) -> Network:
        """The same network with so many layers: 50 and 152 of them stay what they are, 6n+2 or not."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return Network.parse(fields | {"depth": depth})

    @property
    def family(self) -> Literal["plain", "residual"]:
        return "plain" if self.shortcut == "none" else "residual"

    @classmethod
    def from_name(cls, name: str) -> Network:
        """Parse `[cifar-]plain-N` or `[cifar-]resnet-N[-A|B|C][-single][-3x3][-zeros-end]`.

        Raises UsageError on any other name, and on a network that the paper does not have.
        """
        name = name if isinstance(name, str) else repr(name)
        match = _NAME.fullmatch(name)
        if match is None or (match[2] == "plain" and match[4]):
            near = difflib.get_close_matches(name, _EXAMPLES.split(), n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(
                f"unknown network {name!r}{hint} Names are plain-N, resnet-N (shortcut option A; B for "
                "50, 101 and 152), resnet-N-B and resnet-N-C, with N = 6n+2 (8, 14, 20, 32, 44, 56, "
                "110, ...) or 18, 34, 50, 101, 152; `resnetlab networks` lists the paper's"
            )
        cifar, kind, depth, option, single, stride, zeros = match.groups()
        spelt_out = {
            "design": cifar and "cifar",
            "shortcut": "none" if kind == "plain" else option,
            "block": single and "single",
            "stride_in": stride and "3x3",
            "zeros": zeros and "end",
        }
        return cls.parse({"depth": int(depth)} | {key: v for key, v in spelt_out.items() if v})


def _usual_network(depth: int, design: Any = None) -> dict[str, Any]:
    """The paper's choices for that depth: design, block, shortcut option and stride."""
    design = design or ("imagenet" if depth in IMAGENET else "cifar")
    block = IMAGENET[depth][0] if design == "imagenet" and depth in IMAGENET else "basic"
    shortcut = "B" if block == "bottleneck" else "A"
    usual = {"design": design, "block": block, "shortcut": shortcut}
    return usual | {"stride_in": "1x1", "zeros": "split"}


def _nearest_depths(depth: int) -> str:
    if depth <= 8:
        return "the smallest is 8"
    below = depth - (depth - 2) % 6
    return f"the nearest valid depths are {below} and {below + 6}"
