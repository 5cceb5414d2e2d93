"""The Python of cards: found as printed, and run as printed."""

import re
from collections.abc import Mapping


def python_blocks(card: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", card, flags=re.M | re.S)


def needs_package(block: str) -> bool:
    return "vqmae_hf" in block


def run_snippets(cards: Mapping[str, str], *, with_package: bool) -> int:
    """Run every block that needs, or does not need, the package, each in a namespace of its own; how many there were."""
    blocks = [(name, block) for name, card in cards.items() for block in python_blocks(card)]
    chosen = [(name, block) for name, block in blocks if needs_package(block) == with_package]
    for name, block in chosen:
        exec(compile(block, f"<card of {name}>", "exec"), {"__name__": "__main__"})
    return len(chosen)
