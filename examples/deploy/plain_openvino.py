"""Segment a photograph: plain_openvino.py STANDALONE.onnx PHOTOGRAPH CLASSES.png"""

import sys
import time

import numpy as np
import openvino
from PIL import Image

pixels = np.asarray(Image.open(sys.argv[2]).convert("RGB"))
exactly = {"INFERENCE_PRECISION_HINT": "f32"}  # processors with bf16 round to it by default
model = openvino.compile_model(sys.argv[1], "CPU", exactly)
model(pixels[None])  # the first time takes longer
began = time.perf_counter()
classes = model(pixels[None])["classes"]
print(f"openvino {openvino.__version__}: {1e3 * (time.perf_counter() - began):.1f} ms")
Image.fromarray(classes[0]).save(sys.argv[3])
