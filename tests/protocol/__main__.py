"""Look for interleavings that break a guarantee, and look at one closely.

python -m tests.protocol hunt SECONDS [FIRST_SEED] [MUTANT]    random faults on every core
python -m tests.protocol seed N [MUTANT]                       one run again, its faults shrunk, told line by line
python -m tests.protocol scene NAME [MUTANT]                   one known interleaving, told line by line
python -m tests.protocol mutants SECONDS                       a hunt for each mutant: which rule is seen to matter, how soon
"""

import secrets
import sys

from tests.protocol import plans, scenes
from tests.protocol.hunt import hunt
from tests.protocol.mutants import MUTANTS
from tests.protocol.variant import REAL, Variant


def _variant(name: str) -> Variant:
    return {each.name: each for each in MUTANTS}[name] if name else REAL


def main(command: str = "", *words: str) -> int:
    """Run ``command``; 1: something was broken."""
    first, second, third = (*words, "", "", "")[:3]
    match command:
        case "hunt":
            start = int(second or secrets.randbelow(10**9))
            print(f"seeds from {start} on")
            found = hunt(float(first), start, _variant(third))
            print(found)
            return int(bool(found.broken))
        case "seed":
            plan = plans.shrink(plans.draw(int(first)), _variant(second))
            print(plans.story(plans.run(plan, _variant(second), trace=True)))
            print("\n".join(map(repr, plan.faults)))
        case "scene":
            print(plans.story(scenes.play(scenes.SCENES[first], _variant(second), trace=True)))
        case "mutants":
            for mutant in MUTANTS:
                print(mutant.name, hunt(float(first), 0, mutant))
        case _:
            print(__doc__)
            return 64
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
