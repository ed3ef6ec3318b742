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


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("a b=default", "expected NAME=MODEL with a name of letters, digits, '.', '_' and '-'"),
        ("=default", "expected NAME=MODEL with a name of letters, digits, '.', '_' and '-'"),
        ("a=", "expected NAME=MODEL, and behind the = stands no model"),
    ],
)
def test_what_names_no_model(
    given: str, why: str, atrous: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "set_up", lambda *_: None)  # of the whole process
    done = atrous("serve", "--port", "0", "-m", given)
    assert (done.code, done.err) == (2, f"error: -m {given}: {why}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--allow-host", "https://lab.example"),
            "error: --allow-host: expected a host name alone, such as lab.example, got "
            "'https://lab.example'",
        ),
        (("--host", "0.0.0.0"), "error: --host 0.0.0.0 lets other machines in: set ATROUS_API_KEY"),
        (
            ("--no-api-key", "--api-key-file", "key"),
            "error: --no-api-key and --api-key-file exclude each other",
        ),
        (("--api-key-file", "."), "error: --api-key-file: cannot read .: Is a directory"),
    ],
)
def test_who_may_ask_is_said_in_the_flags_of_the_verb(
    arguments: tuple[str, ...], message: str, atrous: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ATROUS_API_KEY", raising=False)
    done = atrous("serve", "--port", "0", *arguments)
    assert (done.code, done.err.startswith(message)) == (2, True), done.err
