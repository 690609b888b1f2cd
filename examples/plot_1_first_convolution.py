"""
A first convolution
===================

A convolution moves a small filter over an image. At each place it multiplies the pixels under the
filter by the filter's weights, and adds the products up.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastconv
from fastconv.datasets import load_digits

(images, labels), _ = load_digits()
image = images[0, 0]  # 8 x 8 pixels, from 0 (black) to 1
print(image.shape, image.dtype)

# %%
# This filter is negative above and positive below, so that its sum is large where an image gets
# brighter downwards. :func:`fastconv.conv2d` takes images of shape (N, C, H, W), here one image of
# one channel, and filters of shape (F, C, KH, KW).
edge = np.array([[-1, -1, -1], [0, 0, 0], [1, 1, 1]], np.float32)
result = fastconv.conv2d(image[None, None], edge[None, None], padding="same")
print(result.shape)

# %%
# One number by hand: the window around row 3, column 4.
window = image[2:5, 3:6]
print((window * edge).sum(), result[0, 0, 3, 4])

# %%
# ``padding="same"`` puts zeros around the image, so that the result has its size.
figure, axes = plt.subplots(1, 3, figsize=(7, 2.6), layout="constrained")
for axis, picture, title in zip(
    axes, (image, edge, result[0, 0]), (f"a digit: {labels[0]}", "the filter", "the result")
):
    axis.imshow(picture, cmap="gray")
    axis.set_title(title)
    axis.axis("off")
plt.show()

# %%
# Textbooks write the same as a product of matrices: :func:`fastconv.im2col` copies each window to a
# row.
columns = fastconv.im2col(image[None, None], 3, 3, stride=1, pad=1)
print(columns.shape)
assert np.allclose(columns @ edge.ravel(), result.ravel())
