"""
SciPy's filters
===============

:mod:`fastconv.ndimage` has the filters of :mod:`scipy.ndimage`, with the same arguments and the
same numbers, on all processors.
"""

import matplotlib.pyplot as plt
import numpy as np

from fastconv import ndimage

rng = np.random.default_rng(0)
y, x = np.mgrid[-1:1:240j, -1:1:240j]
scene = (np.hypot(x, y) < 0.6) * 0.5 + (np.abs(x + y) < 0.15) * 0.3 + 0.1
noisy = (scene + rng.normal(0, 0.1, scene.shape)).clip(0, 1)
noisy[rng.random(scene.shape) < 0.03] = 1.0  # pixels that are stuck

results = {
    "noisy": noisy,
    "gaussian_filter, sigma=2": ndimage.gaussian_filter(noisy, 2),
    "median_filter, size=5": ndimage.median_filter(noisy, 5),
    "sobel, after the median": np.hypot(
        ndimage.sobel(ndimage.median_filter(noisy, 5), 0),
        ndimage.sobel(ndimage.median_filter(noisy, 5), 1),
    ),
}
figure, axes = plt.subplots(2, 2, figsize=(7, 7.4), layout="constrained")
for axis, (title, picture) in zip(axes.flat, results.items()):
    axis.imshow(picture, cmap="gray")
    axis.set_title(title)
    axis.axis("off")
plt.show()

# %%
# A mean takes the stuck pixels in; a median leaves them out, because at most a few of the 25 pixels
# of a window are stuck.
for title, picture in list(results.items())[:3]:
    print(f"{title:26} error {np.abs(picture - scene).mean():.3f}")
