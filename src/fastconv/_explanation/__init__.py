"""What networks respond to, as numbers: `fastconv.viz` draws it, which needs matplotlib."""

from fastconv._explanation._ascent import activation_ascent
from fastconv._explanation._class_activation import class_activation_map

__all__ = ["activation_ascent", "class_activation_map"]
