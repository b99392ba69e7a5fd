"""An extension of mkdocstrings: references in docstrings, :class:`.Site`, become plain code in the pages."""

import re

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`~?\.*([^`]+)`")


class PlainReferences(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_instance(self, *, obj, **kwargs) -> None:
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(r"`\1`", obj.docstring.value)
