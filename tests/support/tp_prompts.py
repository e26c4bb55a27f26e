"""Random prompts for the tests of tensor-parallel instances."""

import random
from typing import Any


def prompts(models: list[Any], count: int, seed: int, longest: int = 100) -> dict[str, list[int]]:
    rng = random.Random(seed)
    return {
        f"{model.name}/{i}": [rng.randrange(1, 500) for _ in range(rng.randrange(5, longest))]
        for model in models
        for i in range(count)
    }
