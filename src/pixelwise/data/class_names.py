"""Match classes by their names: rename and merge them, order them, and explain names that do not match."""

import difflib
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import yaml

from pixelwise.data.classes import Classes
from pixelwise.data.colors import choose_colors
from pixelwise.errors import DataError

IGNORE_NAMES = ("ignore", "__ignore__")
"""Names, in lower case, of labels whose pixels are ignored."""

_MAX_LISTED = 40


def rename_classes(classes: Classes, rename: Mapping[str, str], *, is_complete: bool = True) -> Classes:
    """Rename classes, and merge those with the same new name; the pixels of one renamed to `ignore` are ignored.

    Args:
        classes: The classes as their format names them.
        rename: Name → new name.
        is_complete: Whether `classes` has every class of the format, not only those that occur in its files.

    Raises:
        DataError: `rename` has a name that is not a class.
    """
    for name, target in rename.items():
        if name not in classes.names:
            near = find_nearest(name, set(classes.names) - {target})
            if near or (is_complete and target not in classes.names):
                hint = f" Did you mean {near!r}?" if near else ""
                raise DataError(f"'rename' has the unknown class {name!r}.{hint} Classes: {list_names(classes.names)}.")
    targets = [rename.get(name, name) for name in classes.names]
    ignored = [name in rename and rename[name].lower() in IGNORE_NAMES for name in classes.names]
    kept = list(dict.fromkeys(target for target, ignore in zip(targets, ignored, strict=True) if not ignore))
    # A class that keeps its name also keeps its color, even if others are merged into it.
    colors = dict(zip(targets, classes.colors, strict=True)) | dict(zip(classes.names, classes.colors, strict=True))
    index_of = {name: index for index, name in enumerate(kept)}
    values, ranges = classes.label_mapping.items(), classes.ranges.items()
    return replace(
        classes,
        names=tuple(kept),
        colors=tuple(colors[name] for name in kept),
        label_mapping={value: index_of[targets[index]] for value, index in values if not ignored[index]},
        ignore=(*classes.ignore, *(value for value, index in values if ignored[index])),
        ranges={limits: index_of[targets[index]] for limits, index in ranges if not ignored[index]},
    )


def order_classes(classes: Classes, names: Sequence[str]) -> Classes:
    """Return the classes in the order of `names`, which may have more names: no mask value stands for those."""
    index_of = {name: index for index, name in enumerate(names)}
    return replace(
        classes,
        names=tuple(names),
        colors=choose_colors(names, dict(zip(classes.names, classes.colors, strict=True))),
        label_mapping={value: index_of[classes.names[i]] for value, i in classes.label_mapping.items()},
        ranges={limits: index_of[classes.names[i]] for limits, i in classes.ranges.items()},
    )


def find_similar_names(names: Sequence[str]) -> list[list[str]]:
    """Return groups of names that differ only in case, blanks or the encoding of accents."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_normalize(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def suggest_renames(names: Sequence[str], wanted: Sequence[str]) -> dict[str, str]:
    """Return new names for those that are not wanted: the wanted name that is written alike, or the only one left."""
    left = [name for name in names if name not in wanted]
    free = [name for name in wanted if name not in names]
    suggested = {name: same[0] for name in left if (same := [w for w in wanted if _normalize(w) == _normalize(name)])}
    for name in left:
        if name not in suggested and (near := find_nearest(name, set(free) - set(suggested.values()))):
            suggested[name] = near
    left = [name for name in left if name not in suggested]
    free = [name for name in free if name not in suggested.values()]
    return suggested | ({left[0]: free[0]} if len(left) == len(free) == 1 else {})


def find_nearest(name: str, names: Collection[str]) -> str | None:
    """Return the name that is written most like another one; None if none is similar."""
    by_key = {_normalize(known): known for known in sorted(names)}
    near = difflib.get_close_matches(_normalize(name), by_key, n=1)
    return by_key[near[0]] if near else None


def explain_difference(names: Sequence[str], wanted: Sequence[str], holders: tuple[str, str]) -> str:
    """Say which names only the one or the other holder has, and which of them are probably the same.

    Args:
        names: The names of the first holder.
        wanted: The names of the second holder.
        holders: Both, such as "the files" and "'names'".
    """
    only, only_wanted = ([n for n in a if n not in b] for a, b in ((names, wanted), (wanted, names)))
    parts = [f"only in {h}: {list_names(n)}" for h, n in zip(holders, (only, only_wanted), strict=True) if n]
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}.{ask_for_similar(only, only_wanted or wanted)}"


def ask_for_similar(names: Sequence[str], known: Sequence[str]) -> str:
    """Return ` Did you mean 'disc' by 'dsic'?` for the first names that are written like known ones."""
    similar = [(name, near) for name in names if (near := find_nearest(name, known))]
    return "".join(f" Did you mean {near!r} by {name!r}?" for name, near in similar[:5])


def list_names(names: Sequence[str]) -> str:
    """Return `'a', 'b', 'c' and 4 more`; quotes show blanks."""
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(map(repr, names[:_MAX_LISTED])) + more


def format_key(key: str, value: object) -> str:
    """Return a line for dataset.yaml: `rename: {Disc: disc}`."""
    return yaml.safe_dump({key: value}, default_flow_style=None, allow_unicode=True, width=1e9, sort_keys=False).strip()


def _normalize(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())
