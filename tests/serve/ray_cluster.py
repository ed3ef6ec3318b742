"""A Ray cluster of two CPUs with the application of `atrous.serve.ray`, for `test_ray.py`.

Run as a process. Every line of its input holds arguments of the application as JSON, is deployed,
and answered by the URL once all replicas are the new ones; without arguments what there is goes
away. Ends, and all that it started, when its input does.
"""

import json
import socket
import sys

import ray
from ray import serve

from atrous.serve.ray import application

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
# Else it would join a cluster that somebody has started on this machine.
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"port": port})
for line in sys.stdin:
    if arguments := json.loads(line):
        serve.run(application(arguments), name="app")
    else:
        serve.delete("app")
    print(f"http://127.0.0.1:{port}", flush=True)  # noqa: T201
serve.shutdown()
ray.shutdown()
