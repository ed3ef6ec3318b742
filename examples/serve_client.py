"""Ask a running `atrous serve` what is in a picture, with nothing but the standard library.

python examples/serve_client.py PICTURE [http://127.0.0.1:8000]

The API key, if the server wants one, is taken from ATROUS_API_KEY.
"""

import json
import os
import sys
import urllib.request
from pathlib import Path


def main(picture: Path, server: str = "http://127.0.0.1:8000") -> None:
    """Print the classes with their shares, and write the mask beside the picture."""
    headers = {"Content-Type": "application/octet-stream"}
    if key := os.environ.get("ATROUS_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"

    def ask(output: str) -> bytes:
        url = f"{server}/v1/segment?output={output}"
        request = urllib.request.Request(url, picture.read_bytes(), headers)
        with urllib.request.urlopen(request) as answer:
            data: bytes = answer.read()
        return data

    document = json.loads(ask("json"))
    print(f"{picture.name}: {document['width']}×{document['height']}, by {document['model']}")
    for row in document["classes"]:
        print(f"  {row['name']}: {row['share']:.1%}")
    mask = picture.with_name(f"{picture.stem}-mask.png")
    mask.write_bytes(ask("mask"))
    print(f"mask: {mask.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])
