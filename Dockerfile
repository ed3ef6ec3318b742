# The server with the model in the package, on the CPU:
#
#   docker build -t atrous .
#   docker run --rm -p 127.0.0.1:8000:8000 -e ATROUS_API_KEY=... atrous
#   docker run --rm -p 127.0.0.1:8000:8000 -v ./models:/models:ro -e ATROUS_API_KEY=... \
#       atrous serve --host 0.0.0.0 -m mine=/models/mine.onnx
#
# The wheel is built in a stage of its own, because the class-map kernel needs a compiler.
FROM python:3.11-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps -w /wheels .

FROM python:3.11-slim
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /wheels
RUN wheel="$(ls /wheels/*.whl)" \
    && pip install --no-cache-dir -c /tmp/constraints.txt "${wheel}[serve,openvino]" \
    && rm -rf /wheels /tmp/constraints.txt \
    && useradd --create-home --uid 1000 atrous
USER atrous
WORKDIR /home/atrous
EXPOSE 8000
# SIGTERM, which docker stop sends, lets requests finish; give it --stop-timeout 35.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["python", "-c", \
    "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=2)"]
ENTRYPOINT ["atrous"]
CMD ["serve", "--host", "0.0.0.0", "--log-format", "json"]
