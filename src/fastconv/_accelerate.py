"""Our functions in place of SciPy's, for code that cannot change its imports."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Iterator

from fastconv._errors import argument_error, named
from fastconv._scipy import replaced

__all__ = ["accelerate", "patch_scipy", "unpatch_scipy"]

MODULES = ("ndimage", "signal")
"""The modules of SciPy whose functions we have, under the same names in fastconv."""


class _State:
    """Who asks for our functions: open ``with`` blocks, and calls of `patch_scipy`."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.blocks = 0
        self.patched = False

    def update(self) -> None:
        """Put our functions in, or SciPy's back, as it is asked for now."""
        if self.blocks or self.patched:
            _put_ours()
        else:
            _put_back()


_state = _State()


@contextlib.contextmanager
@named
def accelerate() -> Iterator[None]:
    """Run SciPy's filters on fastconv's kernels within a ``with`` block.

    In the block, the functions of `fastconv.ndimage` and `fastconv.signal` stand in `scipy.ndimage`
    and `scipy.signal`. So they also run in libraries that look them up there when they call them:
    scikit-image's ``gaussian``, ``sobel``, ``median``, ``dilation`` and ``erosion`` do, and
    dask-image's filters of NumPy arrays. The results are SciPy's, as `fastconv.ndimage` describes.

    A name that was imported from SciPy before (``from scipy.ndimage import convolve``) stays
    SciPy's. The replacement is the whole process's: while any thread is in a block, all threads run
    our functions. When the last block ends, by an exception too, SciPy has its own ones back.

    Raises
    ------
    ImportError
        If SciPy is not installed.

    See Also
    --------
    patch_scipy : The same until `unpatch_scipy`.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import ndimage
    >>> import fastconv
    >>> image = np.arange(12.0).reshape(3, 4)
    >>> with fastconv.accelerate():
    ...     fast = ndimage.uniform_filter(image, 3)
    >>> bool(np.allclose(fast, ndimage.uniform_filter(image, 3)))
    True
    """
    with _state.lock:
        _state.blocks += 1
        try:
            _state.update()
        except BaseException:
            _state.blocks -= 1
            raise
    try:
        yield
    finally:
        with _state.lock:
            _state.blocks -= 1
            _state.update()


@named
def patch_scipy() -> None:
    """Run SciPy's filters on fastconv's kernels from now on.

    This is what `accelerate` does for a block; calling it again changes nothing.

    Raises
    ------
    ImportError
        If SciPy is not installed.

    See Also
    --------
    unpatch_scipy : The way back.

    Examples
    --------
    >>> from scipy import ndimage
    >>> import fastconv
    >>> fastconv.patch_scipy()
    >>> ndimage.convolve is fastconv.ndimage.convolve
    True
    >>> fastconv.unpatch_scipy()
    >>> ndimage.convolve is fastconv.ndimage.convolve
    False
    """
    with _state.lock:
        before, _state.patched = _state.patched, True
        try:
            _state.update()
        except BaseException:
            _state.patched = before
            raise


@named
def unpatch_scipy() -> None:
    """Give SciPy its own functions back, once all blocks of `accelerate` have ended.

    Without `patch_scipy` before, this changes nothing.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.patch_scipy()
    >>> fastconv.unpatch_scipy()
    """
    with _state.lock:
        _state.patched = False
        _state.update()


def _put_ours() -> None:
    """Replace SciPy's functions, unless that is done."""
    if replaced:
        return
    try:
        theirs = {name: importlib.import_module(f"scipy.{name}") for name in MODULES}
    except ImportError:
        raise argument_error(ImportError, "this needs SciPy: pip install scipy") from None
    for name, module in theirs.items():
        ours = importlib.import_module(f"fastconv.{name}")
        for function in ours.__all__:
            if hasattr(module, function):
                replaced[module.__name__, function] = getattr(module, function)
                setattr(module, function, getattr(ours, function))


def _put_back() -> None:
    """Restore what `_put_ours` has replaced, unless somebody else has replaced it since.

    Other threads may look for SciPy's functions in `replaced` until all are back.
    """
    for (name, function), original in replaced.items():
        module = importlib.import_module(name)
        ours = importlib.import_module(name.replace("scipy", "fastconv", 1))
        if getattr(module, function, None) is getattr(ours, function):
            setattr(module, function, original)
    replaced.clear()
