"""Reads a model from the topic `models`, trusts it or not, and computes what the scorer computes.

docs/MODEL_FORMAT.md says in words what this file does; numpy, safetensors and cryptography do the rest.
"""

import hashlib
import json
from dataclasses import dataclass

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from safetensors.numpy import load

SLOTS = 8
CHUNK_MAGIC = b"TTC1"
HASH_BYTES = 32
SIZE_LIMIT = 4 << 20


class Refused(Exception):
    """Why a model is not trusted."""


@dataclass
class Model:
    """A model whose signature and hash hold."""

    manifest: dict
    about: dict
    tensors: dict[str, np.ndarray]

    @property
    def columns(self) -> list[str]:
        """Names of the features, in the order of a row."""
        return [it["column"] for it in self.about["specification"]["features"]]


def key_id(public_key) -> str:
    """How manifests name a key: the first 16 digits of the SHA-256 of its 32 bytes."""
    raw = public_key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:16]


def verified(record: bytes, trusted_pem: bytes) -> dict:
    """The manifest in the value of a manifest record, if the trusted key signed it."""
    signed = json.loads(record)
    key = serialization.load_pem_public_key(trusted_pem)
    if signed["key_id"] != key_id(key):
        raise Refused(f"signed by key {signed['key_id']}, trusted is {key_id(key)}")
    try:
        # The signature is of the text as it stands, so nothing depends on how anybody writes JSON.
        key.verify(bytes.fromhex(signed["signature"]), signed["manifest"].encode())
    except InvalidSignature as error:
        raise Refused("the signature does not hold") from error
    return json.loads(signed["manifest"])


def assemble(manifest: dict, chunks: dict[str, bytes]) -> bytes:
    """The artifact of `manifest` from the newest value of each chunk's key, if all is there and the hash is right."""
    if manifest["size"] > SIZE_LIMIT:
        raise Refused(f"{manifest['size']} bytes; at most {SIZE_LIMIT} are read")
    artifact, digest = b"", bytes.fromhex(manifest["sha256"])
    for index in range(manifest["chunks"]):
        key = f"{manifest['name']}/{manifest['version'] % SLOTS}/{index}"
        value = chunks.get(key, b"")
        # Slots are used again: a chunk names the artifact it is of.
        if value[: len(CHUNK_MAGIC) + HASH_BYTES] != CHUNK_MAGIC + digest:
            raise Refused(f"chunk {key} is not there, or of another version")
        artifact += value[len(CHUNK_MAGIC) + HASH_BYTES :]
    found = hashlib.sha256(artifact).digest()
    if len(artifact) != manifest["size"] or found != digest:
        raise Refused(f"{len(artifact)} bytes of SHA-256 {found.hex()}, the manifest says {manifest['size']} of {manifest['sha256']}")
    return artifact


def unpack(manifest: dict, artifact: bytes) -> Model:
    """The parts of a verified artifact, which is a safetensors file."""
    header_bytes = int.from_bytes(artifact[:8], "little")
    header = json.loads(artifact[8 : 8 + header_bytes])
    about = json.loads(header["__metadata__"]["telltale"])
    if about["format"] != 1 or about["kind"] != "autoencoder":
        raise Refused(f"format {about['format']} of kind {about['kind']}; this reads format 1 of autoencoder")
    return Model(manifest, about, load(artifact))


def normalise(model: Model, rows: np.ndarray) -> np.ndarray:
    """Raw rows as the network sees them; NaN where a value is missing."""
    transforms = {
        "none": lambda it: it,
        "log1p": lambda it: np.copysign(np.log1p(np.abs(it)), it),
        "sqrt": lambda it: np.copysign(np.sqrt(np.abs(it)), it),
    }
    inputs = np.full(rows.shape, np.nan, dtype=np.float64)
    parts = zip(
        model.about["specification"]["features"],
        model.tensors["normaliser.centres"].astype(np.float64),
        model.tensors["normaliser.scales"].astype(np.float64),
        strict=True,
    )
    for index, (feature, centre, scale) in enumerate(parts):
        raw = rows[:, index].astype(np.float32).astype(np.float64)
        value = transforms[feature["transform"]](raw)
        # A scale of 0 marks a column that did not vary in training: it is 0 for ever, and so no evidence.
        scaled = np.clip((value - centre) / scale, -feature["clip"], feature["clip"]) if scale else np.zeros_like(value)
        inputs[:, index] = np.where(np.isfinite(raw), scaled, np.nan)
    return inputs


def score(model: Model, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The score of each raw row, and each feature's share of it.

    `rows` is (n, features), NaN for null; the scores are (n,), the shares (n, features), of sum 1.
    """
    tensors = {name: values.astype(np.float64) for name, values in model.tensors.items()}
    inputs = normalise(model, rows)
    present = np.isfinite(inputs)
    known = np.where(present, inputs, 0.0)

    hidden, last = known, len(model.about["config"]["hidden"])
    for index in range(last + 1):
        hidden = hidden @ tensors[f"layer{index}.weights"].T + tensors[f"layer{index}.bias"]
        if index < last:
            hidden = np.tanh(hidden)
    output = hidden + known @ tensors["shortcut.weights"].T
    residuals = np.where(present, known - output, 0.0)

    units = residuals @ tensors["whitening.weights"].T + tensors["whitening.bias"]
    squares = np.where(present, units**2, 0.0)
    total = squares.sum(axis=1)
    scores = total / np.maximum(present.sum(axis=1), 1)
    shares = squares / np.where(total > 0, total, 1.0)[:, None]
    return scores, shares
