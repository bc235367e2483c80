"""The exact synthesis in Python integers, from caecodec/FORMAT.md, section 10, alone: it shares no code with the package."""

from math import isqrt

import numpy as np


def reference(tensors, latents, levels):
    """FORMAT.md, 10, in Python integers: symbols [channel][row][column] -> planes [channel][row][column]."""

    def integers(values, bits):
        return [round(value * 2**bits) for value in values.reshape(-1).tolist()]  # halves to even; floats times powers: exact

    def limited(value, limit):
        return max(-limit, min(limit, value))

    medians = integers(tensors["medians"], 10)
    planes = [[[limited(2**10 * int(s) + m, 2**24) for s in row] for row in p] for p, m in zip(latents, medians, strict=True)]
    for i in range(4):
        weight = tensors[f"g_s.{2 * i}.weight"]
        inputs, outputs = weight.shape[:2]
        kernel = np.array(integers(weight, 18 if i else 22), object).reshape(inputs, outputs, 5, 5)
        bias = integers(tensors[f"g_s.{2 * i}.bias"], 32)
        height, width = len(planes[0]), len(planes[0][0])
        sums = [[[b] * (2 * width) for _ in range(2 * height)] for b in bias]
        for a in range(inputs):
            for y in range(height):
                for x in range(width):
                    for u in range(max(0, 2 - 2 * y), min(5, 2 * height + 2 - 2 * y)):
                        for v in range(max(0, 2 - 2 * x), min(5, 2 * width + 2 - 2 * x)):
                            for b in range(outputs):
                                sums[b][2 * y + u - 2][2 * x + v - 2] += kernel[a, b, u, v] * planes[a][y][x]
        if i == 3:
            return np.array([[[(limited(max(s, 0), 2**32) * levels + 2**31) // 2**32 for s in r] for r in p] for p in sums])
        values = np.array([[[limited((s + 2**17) // 2**18, 2**22) for s in row] for row in plane] for plane in sums], object)
        gamma = np.array(integers(tensors[f"g_s.{2 * i + 1}.gamma"], 16), object).reshape(outputs, outputs)
        beta = integers(tensors[f"g_s.{2 * i + 1}.beta"], 30)
        squares = values**2 // 2**14
        planes = []
        for b in range(outputs):
            norm = beta[b] + sum(gamma[b]) // 2 + sum(gamma[b, a] * squares[a] for a in range(outputs))
            root = np.vectorize(isqrt, otypes=[object])(norm)
            grown = (values[b] * (2 * root + 1) + 2**15) // 2**16
            planes.append([[limited(value, 2**24) for value in row] for row in grown.tolist()])
    raise AssertionError
