"""Pictures of what a network has learned and of what filters do; needs matplotlib.

Every function that draws returns a `matplotlib.figure.Figure` that belongs to nobody else: a
notebook shows it, and ``figure.savefig("name.png")`` writes it. Nothing else of matplotlib is
touched.

Pictures show numbers of any range: unless something else is said, the smallest of a picture is
black and the largest white.
"""

try:
    import matplotlib.figure  # noqa: F401
except ImportError as error:
    raise ImportError("fastconv.viz needs matplotlib: pip install 'fastconv[viz]'") from error

from fastconv._explanation import activation_ascent, class_activation_map
from fastconv.explore._widget import explore
from fastconv.viz._ascent import maximize_activation
from fastconv.viz._class_activation import show_class_activation
from fastconv.viz._feature_maps import show_feature_maps
from fastconv.viz._filters import apply_filters, show_filters
from fastconv.viz._history import show_history
from fastconv.viz._images import show_images
from fastconv.viz._network import show_network

__all__ = [
    "activation_ascent",
    "apply_filters",
    "class_activation_map",
    "explore",
    "maximize_activation",
    "show_class_activation",
    "show_feature_maps",
    "show_filters",
    "show_history",
    "show_images",
    "show_network",
]
