"""Writes ONNX graphs of a few nodes, by hand: the package ``onnx`` is not among the requirements.

Field numbers are those of onnx.proto; only what the tests need is here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

FLOAT: Final = 1
INT32: Final = 6
INT64: Final = 7
_KINDS: Final[Mapping[str, int]] = {"float32": FLOAT, "int32": INT32, "int64": INT64}
_FLOAT_ATTRIBUTE: Final = 1
_INT_ATTRIBUTE: Final = 2
_INTS_ATTRIBUTE: Final = 7

Dimension = int | str
Attribute = int | float | Sequence[int]


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes(number: int, value: bytes | str) -> bytes:
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


@dataclass
class Graph:
    """A graph that is built node by node; ``write`` makes a model of it."""

    inputs: list[bytes] = field(default_factory=list)
    outputs: list[bytes] = field(default_factory=list)
    tensors: list[bytes] = field(default_factory=list)
    nodes: list[bytes] = field(default_factory=list)

    def add_input(self, name: str, shape: Iterable[Dimension], kind: int = INT64) -> None:
        self.inputs.append(_value(name, kind, shape))

    def add_output(self, name: str, shape: Iterable[Dimension], kind: int = FLOAT) -> None:
        self.outputs.append(_value(name, kind, shape))

    def add_tensor(self, name: str, values: npt.NDArray[Any]) -> None:
        content = b"".join(_number(1, size) for size in values.shape)
        content += _number(2, _KINDS[values.dtype.name])
        self.tensors.append(content + _bytes(8, name) + _bytes(9, values.tobytes()))

    def add_node(
        self, kind: str, inputs: Sequence[str], output: str, **attributes: Attribute
    ) -> None:
        content = b"".join(_bytes(1, name) for name in inputs) + _bytes(2, output)
        content += _bytes(4, kind)
        content += b"".join(
            _bytes(5, _attribute(name, value)) for name, value in attributes.items()
        )
        self.nodes.append(content)

    def write(self, file: Path) -> None:
        content = b"".join(_bytes(1, node) for node in self.nodes) + _bytes(2, "tiny")
        content += b"".join(_bytes(5, tensor) for tensor in self.tensors)
        content += b"".join(_bytes(11, value) for value in self.inputs)
        content += b"".join(_bytes(12, value) for value in self.outputs)
        operators = _bytes(1, "") + _number(2, 17)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_number(1, 8) + _bytes(7, content) + _bytes(8, operators))


def _value(name: str, kind: int, shape: Iterable[Dimension]) -> bytes:
    sizes = b"".join(
        _bytes(1, _number(1, size) if isinstance(size, int) else _bytes(2, size)) for size in shape
    )
    tensor = _number(1, kind) + _bytes(2, sizes)
    return _bytes(1, name) + _bytes(2, _bytes(1, tensor))


def _attribute(name: str, value: Attribute) -> bytes:
    content = _bytes(1, name)
    if isinstance(value, int):
        return content + _number(3, value) + _number(20, _INT_ATTRIBUTE)
    if isinstance(value, float):
        packed = _varint(2 << 3 | 5) + np.float32(value).tobytes()
        return content + packed + _number(20, _FLOAT_ATTRIBUTE)
    return content + b"".join(_number(8, item) for item in value) + _number(20, _INTS_ATTRIBUTE)
