"""`examples/deploy/kserve.yaml` says of the container what the Dockerfile and the server say."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from atrous.cli import app
from atrous.serve.guard import HEALTH
from atrous.serve.settings import KEY_VARIABLE

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()

# Of `PredictorSpec`, v1beta1: those of every component and those of a pod that the example uses.
PREDICTOR = {
    "minReplicas": int,
    "maxReplicas": int,
    "scaleMetric": str,
    "scaleTarget": int,
    "timeout": int,
    "terminationGracePeriodSeconds": int,
    "containers": list,
}


@pytest.fixture(scope="module")
def predictor() -> dict[str, Any]:
    service = yaml.safe_load((ROOT / "examples" / "deploy" / "kserve.yaml").read_text())
    assert service["apiVersion"] == "serving.kserve.io/v1beta1"
    assert service["kind"] == "InferenceService"
    assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", service["metadata"]["name"])
    assert service["spec"].keys() == {"predictor"}
    found: dict[str, Any] = service["spec"]["predictor"]
    return found


@pytest.fixture(scope="module")
def container(predictor: dict[str, Any]) -> dict[str, Any]:
    [found] = predictor["containers"]
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def told(container: dict[str, Any]) -> dict[str, Any]:
    """What `atrous serve` makes of the arguments."""
    verb, *arguments = container["args"]
    group: Any = typer.main.get_command(app)
    found: dict[str, Any] = group.commands[verb].make_context(verb, arguments).params
    return found


def instruction(name: str) -> str:
    """The last of the Dockerfile, its lines joined."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)[-1]


def test_fields_of_the_predictor(predictor: dict[str, Any]) -> None:
    assert {name: type(value) for name, value in predictor.items()} == PREDICTOR
    assert 1 <= predictor["minReplicas"] <= predictor["maxReplicas"]
    assert predictor["scaleMetric"] in ("concurrency", "rps", "cpu", "memory")


def test_the_container_runs_the_entry_point(container: dict[str, Any]) -> None:
    assert container["name"] == "kserve-container"
    assert "command" not in container
    assert json.loads(instruction("ENTRYPOINT")) == ["atrous"]
    assert container["args"][0] == json.loads(instruction("CMD"))[0] == "serve"
    uid = container["securityContext"]["runAsUser"]
    assert f"--uid {uid} " in instruction("RUN")


def test_one_port(container: dict[str, Any], told: dict[str, Any]) -> None:
    [port] = container["ports"]
    assert told["port"] == port["containerPort"] == int(instruction("EXPOSE"))
    assert told["host"] == "0.0.0.0"
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("readiness", "liveness")]
    assert {probe["port"] for probe in probes} == {told["port"]}
    assert {probe["path"] for probe in probes} == HEALTH


def test_a_key(container: dict[str, Any], told: dict[str, Any]) -> None:
    assert not told["no_api_key"]
    [variable] = container["env"]
    assert variable["name"] == KEY_VARIABLE
    assert "secretKeyRef" in variable["valueFrom"]


def test_times_fit(
    predictor: dict[str, Any], container: dict[str, Any], told: dict[str, Any]
) -> None:
    _, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    ends_within = int(seconds) + told["grace_seconds"]
    assert ends_within < predictor["terminationGracePeriodSeconds"]
    assert told["answer_seconds"] <= predictor["timeout"]
