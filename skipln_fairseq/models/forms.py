"""Whose form of a variant is meant, where this plugin first had another one than its authors' code.

``--connection-form authors``, the default, is the authors'; ``first`` is what this plugin had before that flag was
there, and what a checkpoint without it holds. What differs stands where a variant is declared (``has_forms``).
"""

from ..common.errors import UserError

__all__ = ["FORMS", "form_of"]

FORMS = ("authors", "first")


def form_of(args) -> str:
    """The form that the flags ask for; those of a checkpoint that knows no such flag mean the first.

    Raises:
        UserError: for a name that is no form.
    """
    form = getattr(args, "connection_form", None) or "first"
    if form not in FORMS:
        raise UserError(f"--connection-form {form}: valid are {', '.join(FORMS)}")
    return form
