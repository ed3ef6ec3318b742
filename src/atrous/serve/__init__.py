"""The inference server: Open Inference Protocol v2, `/v1/segment`, metrics, and the web page."""
