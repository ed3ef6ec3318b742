"""Segment a photograph: plain_onnxruntime.py STANDALONE.onnx PHOTOGRAPH CLASSES.png"""

import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

pixels = np.asarray(Image.open(sys.argv[2]).convert("RGB"))
options = onnxruntime.SessionOptions()
cpu = Path("/proc/cpuinfo")
if not cpu.exists() or "vnni" not in cpu.read_text():  # else int8 overflows; with VNNI, it is slow
    options.add_session_config_entry("session.x64quantprecision", "1")
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
session.run(None, {"image": pixels[None]})  # the first time takes longer
began = time.perf_counter()
[classes] = session.run(["classes"], {"image": pixels[None]})
print(f"onnxruntime {onnxruntime.__version__}: {1e3 * (time.perf_counter() - began):.1f} ms")
Image.fromarray(classes[0]).save(sys.argv[3])
