"""What kind of thing a product is, as far as its name says it: the labels that search quality is measured with.

A name's head noun is its last word, once what follows a preposition, a count or a model number is taken off: "Chair
with cushion" and "Sofa 2 seats" are a chair and a sofa, "Piano bench" is a bench and "Table fan" no table. Most names
give none of the kinds below; their products are left out of the measurement, not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

KINDS: Final = {
    "bed": ("bed", "crib"),
    "bench": ("bench",),
    "bottle": ("bottle",),
    "cabinet": ("cabinet",),
    "chair": ("chair", "armchair"),
    "cup": ("cup", "mug"),
    "desk": ("desk",),
    "door": ("door",),
    "glass": ("glass",),
    "lamp": ("lamp", "light"),
    "plant": ("plant",),
    "plug": ("plug", "wall socket", "double socket"),
    "radiator": ("radiator",),
    "railing": ("railing",),
    "shelves": ("shelves", "bookcase"),
    "sofa": ("sofa", "couch"),
    "stool": ("stool",),
    "switch": ("switch",),
    "table": ("table",),
    "toilet": ("toilets unit",),
    "towel": ("towel",),
    "vase": ("vase",),
    "wardrobe": ("wardrobe", "cupboard"),
    "washbasin": ("washbasin", "lavatory"),
    "window": ("window",),
}

_HEADS: Final = {word: kind for kind, words in KINDS.items() for word in words}
_QUALIFIER: Final = re.compile(r"\s+(with|under|for|on|of)\b.*|[,(].*|\s+(\d\S*|small|BZ|ottoman)(\s.*)?$")
_HEAD: Final = re.compile(rf"(?:^|\s)({'|'.join(sorted(_HEADS, key=len, reverse=True))})$")


def kind_of(name: str) -> str | None:
    """Return the kind of the product with that name, one of KINDS, or None where the name doesn't say."""
    match = _HEAD.search(_QUALIFIER.sub("", name).casefold().strip())
    return _HEADS[match[1]] if match else None


def kinds(catalogue: Iterable[dict[str, str]]) -> dict[str, str]:
    """Return item id -> kind for the products of a catalogue (with `id` and `name`) whose name says it."""
    return {product["id"]: kind for product in catalogue if (kind := kind_of(product["name"]))}
