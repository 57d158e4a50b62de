# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Safetensors files in plain numpy: an 8-byte header length, a JSON header, the raw tensors.

A file is a dict of name -> numpy array; its metadata sits under the key "__metadata__" as a dict of
strings. numpy has no bfloat16: in memory such tensors are float32 whose low 16 bits are 0, and the key
"__bf16__" (True) says that the floating-point `layers.*` tensors of the file are BF16.
"""
import json
import struct

import numpy as np

METADATA = "__metadata__"
BF16 = "__bf16__"
_DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32,
    "I16": np.int16, "I8": np.int8, "U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "BOOL": np.bool_,
}
_NAMES = {np.dtype(value): name for name, value in _DTYPES.items()}


def read_safetensors(path):
    """Reads every tensor and the metadata of one file; raises ValueError when its header lies."""
    with open(path, "rb") as stream:
        blob = stream.read()
    if len(blob) < 8:
        raise ValueError(f"{path}: shorter than a safetensors header")
    (header_bytes,) = struct.unpack("<Q", blob[:8])
    if 8 + header_bytes > len(blob):
        raise ValueError(f"{path}: header of {header_bytes} bytes in a file of {len(blob)}")
    header = json.loads(blob[8:8 + header_bytes])
    data = memoryview(blob)[8 + header_bytes:]
    tensors = {METADATA: header.pop(METADATA, {})}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        if not 0 <= begin <= end <= len(data):
            raise ValueError(f"{path}: tensor {name} lies outside the file")
        raw = data[begin:end]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
            tensors[BF16] = True
        else:
            values = np.frombuffer(raw, _DTYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def write_safetensors(path, tensors):
    """Writes the arrays of `tensors` in name order, then its "__metadata__"; skips other "__" keys."""
    header = {METADATA: {key: str(value) for key, value in tensors.get(METADATA, {}).items()}}
    chunks, offset = [], 0
    for name in sorted(key for key in tensors if not key.startswith("__")):
        values, dtype = np.ascontiguousarray(tensors[name]), _NAMES[tensors[name].dtype]
        if tensors.get(BF16) and dtype == "F32" and name.startswith("layers."):
            values, dtype = (values.view(np.uint32) >> 16).astype(np.uint16), "BF16"
        raw = values.tobytes()
        header[name] = {"dtype": dtype, "shape": list(tensors[name].shape),
                        "data_offsets": [offset, offset + len(raw)]}
        chunks.append(raw)
        offset += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for raw in chunks:
            stream.write(raw)


def to_bf16(values):
    """Rounds to bfloat16 (to nearest, ties to even), held in float32."""
    bits = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32)
