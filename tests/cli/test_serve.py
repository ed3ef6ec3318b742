"""`atrous serve`, as far as it is not the server: that runs in processes of its own."""

import socket
from pathlib import Path

import pytest

from atrous import artifact, engines
from atrous.serve import logs, server
from atrous.serve.service import Service
from tests.builders.command import Run


@pytest.mark.heavy
@pytest.mark.parametrize("file", [artifact.DEFAULT, artifact.DEFAULT_INT8])
def test_the_model_of_the_package_is_served_under_one_name(
    atrous: Run, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    """Whichever of its files the device makes of it."""
    served: list[str] = []

    def run(service: Service, *_: object) -> bool:
        served.extend(service.models)
        service.close()
        return True

    monkeypatch.setattr(server, "run", run)
    monkeypatch.setattr(logs, "set_up", lambda *_: None)  # of the whole process
    monkeypatch.setattr(engines, "find_model", lambda *_: file)
    assert atrous("serve", "--port", "0", "--engine", "onnxruntime").code == 0
    assert served == ["default"]


def test_an_address_that_is_taken_is_named_once(atrous: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = atrous("serve", "--port", port)
    assert done.code == 2
    assert done.err == (
        f"error: cannot listen on 127.0.0.1, port {port}: Address already in use; --host and "
        "--port take another address\n"
    )
