"""A table of input and output length quantiles, and samples drawn from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aegaeon.errors import UserError
from aegaeon.files import write_text

SHAREGPT = Path(__file__).parents[1] / "data" / "sharegpt_lengths.json"


@dataclass(frozen=True, slots=True, eq=False)
class LengthTable:
    """Quantiles of input and output lengths in tokens, the two taken as independent.

    `levels`, `inputs` and `outputs` have shape (k,): levels rise from 0 to 1, lengths never fall
    and are at least 1. `n`, the means and `source` describe the pool it was fitted to.
    """

    levels: NDArray[np.float64]
    inputs: NDArray[np.float64]
    outputs: NDArray[np.float64]
    n: int
    input_mean: float
    output_mean: float
    source: str

    def __post_init__(self) -> None:
        levels = self.levels
        if len(levels) < 2 or levels[0] != 0 or levels[-1] != 1 or not np.all(np.diff(levels) > 0):
            raise ValueError("levels must rise from 0 to 1")
        for name, values in (("input", self.inputs), ("output", self.outputs)):
            if values.shape != levels.shape or not np.all(np.diff(values, prepend=1.0) >= 0):
                raise ValueError(f"{name} quantiles must be one a level, at least 1, never falling")

    def sample(
        self, rng: np.random.Generator, n: int, input_scale: float = 1.0, output_scale: float = 1.0
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return n input and n output lengths (tokens, at least 1), each of shape (n,).

        Inverse transform with linear interpolation. The draws do not depend on the scales, and
        the first k of n are those of a sample of k.
        """
        uniform = rng.random((n, 2))
        inputs = np.interp(uniform[:, 0], self.levels, self.inputs)
        outputs = np.interp(uniform[:, 1], self.levels, self.outputs)
        return (
            scale_lengths(np.rint(inputs), input_scale),
            scale_lengths(np.rint(outputs), output_scale),
        )

    def save(self, path: Path) -> None:
        """Write the table as JSON, atomically; `UserError` if `path` cannot be written."""
        document = {
            "source": self.source,
            "n": self.n,
            "levels": self.levels.tolist(),
            "input": {"mean": self.input_mean, "quantiles": self.inputs.tolist()},
            "output": {"mean": self.output_mean, "quantiles": self.outputs.tolist()},
        }
        write_text(json.dumps(document) + "\n", path)

    @classmethod
    def load(cls, path: Path) -> LengthTable:
        """Read a table that `save` wrote; `UserError` names what is wrong with the file."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            parts = document["input"], document["output"]
            inputs, outputs = (np.array(part["quantiles"], dtype=np.float64) for part in parts)
            return cls(
                levels=np.array(document["levels"], dtype=np.float64),
                inputs=inputs,
                outputs=outputs,
                n=int(document["n"]),
                input_mean=float(parts[0]["mean"]),
                output_mean=float(parts[1]["mean"]),
                source=str(document["source"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: not a length table ({error!r}); "
                "make one with: aegaeon workload lengths CSV... -o FILE"
            ) from error


@cache
def sharegpt_lengths() -> LengthTable:
    """Return the committed table of ShareGPT turns (paper section 7.1), read once."""
    return LengthTable.load(SHAREGPT)


def scale_lengths(lengths: ArrayLike, scale: float) -> NDArray[np.int64]:
    """Return lengths times `scale`, rounded to whole tokens, from 1 to 2**31 - 1."""
    scaled = np.rint(np.asarray(lengths, dtype=np.float64) * scale)
    return np.clip(scaled, 1, 2**31 - 1).astype(np.int64)


def clip_lengths(
    inputs: NDArray[np.int64], outputs: NDArray[np.int64], max_len: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return lengths (both at least 1) whose sum is at most `max_len`, itself at least 2.

    The prompt gives way first: it is cut to max_len - output. Only an output that would leave it
    no token is cut too, to max_len - 1.
    """
    limit = np.asarray(max_len, dtype=np.int64)
    outputs = np.minimum(outputs, limit - 1)
    return np.minimum(inputs, limit - outputs), outputs
