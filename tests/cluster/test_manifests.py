"""The YAML of `cluster/`, read without a cluster.

Ray's own check of `ray up` files, the schemas of KubeRay's resources, and what both leave unchecked.
"""

import copy
import os
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

CLUSTER = Path(__file__).parents[2] / "cluster"
CLOUDS = ("aws.yaml", "gcp.yaml")
RAY_UP = (*CLOUDS, "local.yaml")
KUBERAY = {"RayJob": "rayjob.yaml", "RayCluster": "raycluster.yaml"}

SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|RAY_AUTH_TOKEN=[^\"]|(password|secret|api_key): *\S"
    r"|[0-9a-f]{32}|[A-Za-z0-9+=]{40}"
)
"""Keys of clouds and hosts, tokens, passwords, and what looks like one."""


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / name).read_text())


def changed(document: Any, path: tuple, value: Any = None, key: Any = None) -> Any:
    """Return a copy with another `value` at `path`, or with the last key of `path` renamed to `key`, or without it."""
    document = copy.deepcopy(document)
    place = document
    for step in path[:-1]:
        place = place[step]
    old = place.pop(path[-1])
    if key is not None or value is not None:
        place[key or path[-1]] = old if value is None else value
    return document


# --- ray up ---


def check_ray_up(config: dict[str, Any]) -> dict[str, Any]:
    """Check as `ray up` does before it calls the provider; return the file with Ray's defaults."""
    util = pytest.importorskip("ray.autoscaler._private.util", reason="Ray has moved its check of `ray up` files")
    prepared = util.prepare_config(copy.deepcopy(config))
    util.validate_config(prepared)
    return prepared


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_up_accepts_the_file(name: str) -> None:
    assert check_ray_up(load(name))["cluster_name"] == "rayfs"


@pytest.mark.parametrize(
    ("name", "path", "key"),
    [
        ("aws.yaml", ("max_workers",), "max_worker"),
        ("aws.yaml", ("docker", "run_options"), "run_option"),
        ("aws.yaml", ("available_node_types", "gpu", "min_workers"), "min_worker"),
        ("gcp.yaml", ("available_node_types", "cpu", "resources"), "resource"),
        ("local.yaml", ("auth", "ssh_user"), "user"),
    ],
)
def test_ray_up_refuses_a_misspelt_key(name: str, path: tuple, key: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match=key):
        check_ray_up(changed(load(name), path, key=key))


@pytest.mark.parametrize("name", RAY_UP)
def test_every_node_of_ray_up_asks_for_the_shared_token_and_the_dashboard_stays_on_the_head(name: str) -> None:
    config = load(name)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    head, worker = (config[f"{role}_start_ray_commands"][-1] for role in ("head", "worker"))
    container = " ".join(config.get("docker", {}).get("run_options", []))
    for command in (head, worker):
        environment = f"{container} {command}"
        for setting in ("RAY_AUTH_MODE=token", "RAY_worker_niceness=0", "RAYFS_CACHE=/shared/", "RAYFS_DATA=/shared/"):
            assert setting in environment
    assert "--num-cpus=0" in head, "no episodes beside the driver"
    assert "--dashboard-host=127.0.0.1" in head


@pytest.mark.parametrize("name", RAY_UP)
@pytest.mark.parametrize("role", ["head", "worker"])
def test_ray_start_knows_its_flags(name: str, role: str) -> None:
    from ray.scripts.scripts import start

    flags = shlex.split(load(name)[f"{role}_start_ray_commands"][-1].split("ray start ")[1])
    understood = start.make_context("start", flags).params  # raises on a flag that it does not know
    assert understood["head"] == (role == "head") and bool(understood["address"]) == (role == "worker")


@pytest.mark.parametrize("name", CLOUDS)
def test_a_cloud_cluster_has_a_head_without_cpus_and_workers_of_both_kinds(name: str, ray_version: str) -> None:
    config = load(name)
    types = config["available_node_types"]
    assert set(types) == {"head", "gpu", "cpu"} and config["head_node_type"] == "head"
    assert types["head"]["resources"] == {"CPU": 0} and "max_workers" not in types["head"]
    for kind in ("gpu", "cpu"):
        assert 0 == types[kind]["min_workers"] < types[kind]["max_workers"] <= config["max_workers"]
    assert config["docker"]["image"] == f"rayproject/ray:{ray_version}-py311-gpu"


@pytest.mark.parametrize("name", CLOUDS)
def test_a_cloud_cluster_shares_storage_and_keeps_its_ray(name: str) -> None:
    config = load(name)
    assert "--volume /shared:/shared" in config["docker"]["run_options"]
    assert any("sudo mount -t nfs" in command and "/shared" in command for command in config["initialization_commands"])
    (install,) = config["setup_commands"]
    assert config["file_mounts"]["/home/ray/rayfs"] == "dist"
    assert "--constraint /home/ray/rayfs/constraints.txt /home/ray/rayfs/rayfs-*.whl" in install
    assert "--upgrade" not in install and " -U " not in install


# --- KubeRay ---


@pytest.fixture(scope="module")
def schemas() -> dict[str, dict[str, Any]]:
    """Kind -> strict JSON schema, from the definitions of KubeRay's custom resources (`config/crd/bases`)."""
    data = os.environ.get("RAYFS_DATA")
    folder = os.environ.get("RAYFS_SCHEMAS") or (data and Path(data) / ".." / "schemas")
    if not folder or not Path(folder).is_dir():
        pytest.skip(
            "no schemas: RAYFS_SCHEMAS does not name a folder with ray.io_rayjobs.yaml and ray.io_rayclusters.yaml"
        )
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found = {}
    for kind in KUBERAY:
        definition = yaml.load((Path(folder) / f"ray.io_{kind.lower()}s.yaml").read_text(), loader)
        (version,) = (version for version in definition["spec"]["versions"] if version["name"] == "v1")
        found[kind] = strict(version["schema"]["openAPIV3Schema"])
    return found


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema as JSON schema that refuses unknown properties, where Kubernetes drops them in silence."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    kept = {key: schema[key] for key in ("type", "enum", "required", "minimum", "maximum", "pattern") if key in schema}
    if "properties" in schema:
        kept["properties"] = {name: strict(property_) for name, property_ in schema["properties"].items()}
        kept["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    elif isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = strict(schema["additionalProperties"])
    if "items" in schema:
        kept["items"] = strict(schema["items"])
    return kept


@pytest.mark.parametrize("kind", KUBERAY)
def test_a_manifest_fits_the_schema_of_its_kind(kind: str, schemas) -> None:
    jsonschema.Draft202012Validator(schemas[kind]).validate(load(f"kuberay/{KUBERAY[kind]}"))


GROUP = ("spec", "workerGroupSpecs", 0)
CONTAINER = (*GROUP, "template", "spec", "containers", 0)


@pytest.mark.parametrize(
    ("kind", "path", "key", "value"),
    [
        ("RayCluster", (*GROUP, "maxReplicas"), "max_replicas", None),
        ("RayCluster", (*GROUP, "template"), None, None),
        ("RayCluster", (*CONTAINER, "volumeMounts"), "volumeMount", None),
        ("RayCluster", ("spec", "headGroupSpec", "rayStartParams", "num-cpus"), None, 0),
        ("RayCluster", ("spec", "authOptions", "mode"), None, "tokens"),
        ("RayJob", ("spec", "backoffLimit"), "backOffLimit", None),
        ("RayJob", ("spec", "entrypoint"), None, ["python"]),
    ],
)
def test_the_schema_refuses_what_kubernetes_would_drop_or_misread(kind: str, path, key, value, schemas) -> None:
    with pytest.raises(jsonschema.ValidationError):
        wrong = changed(load(f"kuberay/{KUBERAY[kind]}"), path, value=value, key=key)
        jsonschema.Draft202012Validator(schemas[kind]).validate(wrong)


@pytest.mark.parametrize("kind", KUBERAY)
def test_a_manifest_names_its_kind_the_pinned_ray_and_the_token(kind: str, ray_version: str) -> None:
    manifest = load(f"kuberay/{KUBERAY[kind]}")
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", kind)
    cluster = manifest["spec"] if kind == "RayCluster" else manifest["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == ray_version
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0", "no episodes beside the driver"


def test_the_job_runs_on_the_cluster_that_also_stands_alone() -> None:
    assert load("kuberay/rayjob.yaml")["spec"]["rayClusterSpec"] == load("kuberay/raycluster.yaml")["spec"]


def test_every_pod_runs_the_image_and_shares_the_volume(ray_version: str) -> None:
    cluster = load("kuberay/raycluster.yaml")["spec"]
    claim = load("kuberay/volume.yaml")
    assert claim["kind"] == "PersistentVolumeClaim" and claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert container["image"] == f"REGISTRY/rayfs:ray-{ray_version}"
        assert container["resources"]["requests"] == container["resources"]["limits"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
        assert mounts["/data"]["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}
        assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        assert environment["RAYFS_CACHE"].startswith("/data/") and environment["RAYFS_DATA"] == "/data"
    (gpu,) = cluster["workerGroupSpecs"]
    assert gpu["minReplicas"] == gpu["replicas"] == gpu["maxReplicas"] >= 1, "the pool is sized when the job starts"
    assert gpu["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_a_failed_job_is_tried_again_on_the_volume_and_has_time_to_commit(parse_job) -> None:
    spec = load("kuberay/rayjob.yaml")["spec"]
    assert parse_job(spec["entrypoint"]).out.startswith("/data/"), "only the volume outlives the cluster"
    assert spec["backoffLimit"] >= 1 and spec["submitterConfig"]["backoffLimit"] == 0
    assert spec["shutdownAfterJobFinishes"] is True
    wait_s = int(yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"])
    cluster = spec["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["template"]["spec"]["terminationGracePeriodSeconds"] > wait_s


# --- every file ---


@pytest.mark.parametrize(
    "path", sorted(path for path in CLUSTER.rglob("*") if path.is_file()), ids=lambda path: path.name
)
def test_no_file_holds_a_secret(path: Path) -> None:
    assert not SECRET.search(path.read_text())
