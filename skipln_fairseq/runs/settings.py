"""Settings in YAML, and fairseq's flags among them.

Flags are written without ``--``: ``true`` is a flag without a value, ``false`` and ``null`` are none.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..common.errors import UserError

__all__ = ["Flags", "check_flags", "check_keys", "check_mapping", "read_settings", "words"]

Flags = Mapping[str, Any]

LANGUAGES = ("source-lang", "target-lang")


class _OnceLoader(yaml.SafeLoader):
    """A key that is given twice is refused; YAML would keep the last one silently."""


def _once(loader: _OnceLoader, node: yaml.MappingNode) -> dict:
    merge = "tag:yaml.org,2002:merge"  # <<, whose entries are overridden on purpose
    keys = [loader.construct_object(key) for key, _ in node.value if key.tag != merge]
    names = [
        str(key) for key in keys
    ]  # as which they are used: 3 and "3" are one, and to a dict so are 1 and 1.0
    for key in keys:
        if keys.count(key) > 1 or names.count(str(key)) > 1:
            raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", node.start_mark)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_OnceLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _once)


def read_settings(file: Path) -> Any:
    """What a YAML file holds.

    Raises:
        UserError: it cannot be read, or is none.
    """
    try:
        return yaml.load(file.read_text("utf-8"), _OnceLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from error
    except (
        ValueError,
        RecursionError,
    ) as error:  # a date that there is not, a number of thousands of digits, deep nests
        raise UserError(f"{file}: not YAML: {error}") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise UserError(f"{file}{line}: not YAML: {getattr(error, 'problem', error)}") from error


def words(flags: Flags) -> list[str]:
    """The words of a command line: ``{"lr": 0.1, "cpu": True}`` is ``--lr 0.1 --cpu``."""
    line = []
    for name, value in flags.items():
        if value is None or value is False:
            continue
        if str(value).startswith("-"):  # which would be a flag of its own
            line.append(f"--{name}={value}")
        else:
            line += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return line


def check_mapping(name: str, value: Any) -> None:
    """Refuse what has no entries."""
    if not isinstance(value, dict) or not value:
        raise UserError(f"{name}: valid is a mapping with at least one entry")


def check_keys(name: str, value: Any, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    """Refuse a mapping without what is needed, or with what nobody knows."""
    check_mapping(name, value)
    known = (*needed, *optional)
    missing = [f"has no {key!r}" for key in needed if key not in value]
    unknown = [f"has {key!r}" for key in value if key not in known]
    if missing or unknown:  # together: one may be the other, misspelt
        valid = f": valid are {', '.join(known)}" if unknown else ""
        raise UserError(f"{name} {' and '.join(missing + unknown)}{valid}")


def check_flags(name: str, value: Any, not_here: tuple[str, ...] = ()) -> dict[str, Any]:
    """A mapping of flags, none of which is set elsewhere."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{name}: valid are flags and their values, as a mapping")
    for flag, setting in value.items():
        if not isinstance(flag, str) or flag.startswith("-"):
            raise UserError(f"{name}: {flag!r}: write a flag's name without dashes")
        if isinstance(setting, (dict, list)):
            raise UserError(f"{name}: {flag}: valid is one value")
        if flag in LANGUAGES and isinstance(setting, bool):
            raise UserError(
                f"{name}: {flag} {setting}: write it in quotation marks if it is one of YAML's words, as 'no'"
            )
        if flag in not_here:
            raise UserError(f"{name}: {flag} is set by this command itself")
    return value
