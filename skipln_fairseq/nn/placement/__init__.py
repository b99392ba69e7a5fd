"""Where the norms of a connection stand. ``PLACEMENTS`` is the registry behind ``--norm-placement``."""

from ..variant import import_variants
from .base import PLACEMENTS, Connection, connection_class

__all__ = ["PLACEMENTS", "Connection", "connection_class"]

import_variants(__path__, __name__)
