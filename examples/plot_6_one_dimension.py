"""
Signals
=======

:func:`fastconv.conv1d` is the convolution of signals. Here it finds a pulse in noise: correlation
with the pulse itself is largest where the pulse is.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastconv

rng = np.random.default_rng(3)
time = np.arange(64)
pulse = np.sin(time / 3) * np.hanning(64)  # The wave that was sent...
echo = np.zeros(1000)
echo[620:684] = 0.6 * pulse  # ... and what came back after 620 samples.
signal = echo + rng.normal(0, 0.3, 1000)

match = fastconv.conv1d(signal[None, None], pulse[None, None], padding="valid")[0, 0]
print("the pulse begins at sample", match.argmax())

figure, axes = plt.subplots(2, 1, figsize=(7, 4), sharex=True, layout="constrained")
axes[0].plot(signal, lw=0.7)
axes[0].plot(echo, lw=1.5)
axes[0].set_title("the signal, and the echo in it")
axes[1].plot(match)
axes[1].axvline(620, color="gray", ls=":")
axes[1].set_title("conv1d with the pulse")
plt.show()
