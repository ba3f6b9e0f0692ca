"""When the interpreter looks for objects that know themselves in circles, and at which of them.

It looks when some hundreds more were made than freed, and now and then at everything: with three million deliveries waiting, a long list of
names each time. A round makes thousands of objects at once, nearly all of which are freed without its help.

    begin()   once, when the process starts: it looks less often
    settle()  when a partition's memory has been read back: that is alive, and is not looked at any more
    drop()    when a partition has been left: its memory knows itself in circles, and nothing of it is freed before

Nothing else is ever taken out of its sight: what was alive once and became a circle later would stay for as long as the process.
"""

import gc
from typing import Final

#: A round of a thousand messages makes some ten thousand objects that live until its transaction is written.
_YOUNG: Final = 20_000


def begin() -> None:
    """Look when more than a round's objects were made, not in the midst of it."""
    _, *older = gc.get_threshold()
    gc.set_threshold(_YOUNG, *older)


def settle() -> None:
    """Look no more at what there is."""
    gc.freeze()


def drop() -> None:
    """Free what nobody has any more, of what was settled as well; what is left is settled again."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
