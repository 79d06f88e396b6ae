"""The Python client against a cluster: `client.py KUBECONFIG IMAGE`. Ends with `done`, or with a traceback.

IMAGE has busybox's commands. Each step asserts what the client's users rely on.
"""

import socket
import sys
import time

import yaml
from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import portforward, stream

NAMESPACE = "python-client"
DEADLINE = 60


def refused(code, reason, call):
    try:
        call()
    except ApiException as error:
        body = yaml.safe_load(error.body)
        assert (error.status, body["reason"]) == (code, reason), (error.status, body)
        return body
    raise AssertionError(f"{reason} was expected")


def until(what, condition):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come")


def discovery(api):
    assert client.VersionApi(api).get_code().major == "1"
    groups = {g.name for g in client.ApisApi(api).get_api_versions().groups}
    assert {"apps", "batch", "rbac.authorization.k8s.io"} <= groups, groups
    resources = dynamic.DynamicClient(api).resources
    assert resources.get(api_version="apps/v1", kind="Deployment").namespaced


def objects(core):
    made = core.create_namespaced_config_map(
        NAMESPACE,
        client.V1ConfigMap(
            metadata=client.V1ObjectMeta(name="one", labels={"a": "1"}), data={"x": "1", "y": "2"}
        ),
    )
    assert made.metadata.uid and made.metadata.resource_version
    refused(409, "AlreadyExists", lambda: core.create_namespaced_config_map(NAMESPACE, made_again("one")))
    refused(404, "NotFound", lambda: core.read_namespaced_config_map("none", NAMESPACE))
    body = refused(422, "Invalid", lambda: core.create_namespaced_config_map(NAMESPACE, made_again("Not_A_Name")))
    assert body["details"]["causes"][0]["field"] == "metadata.name", body
    merged = core.patch_namespaced_config_map("one", NAMESPACE, {"data": {"x": None, "z": "3"}})
    assert merged.data == {"y": "2", "z": "3"}, merged.data
    patched = core.patch_namespaced_config_map(
        "one", NAMESPACE, [{"op": "replace", "path": "/data/y", "value": "4"}]
    )
    assert patched.data["y"] == "4", patched.data
    stale = core.read_namespaced_config_map("one", NAMESPACE)
    stale.metadata.resource_version = made.metadata.resource_version
    refused(409, "Conflict", lambda: core.replace_namespaced_config_map("one", NAMESPACE, stale))
    for i in range(25):
        core.create_namespaced_config_map(NAMESPACE, made_again(f"many-{i:02}", {"many": "yes"}))
    names, token = [], None
    while True:
        page = core.list_namespaced_config_map(NAMESPACE, label_selector="many=yes", limit=10, _continue=token)
        names += [i.metadata.name for i in page.items]
        token = page.metadata._continue
        if not token:
            break
        assert len(page.items) == 10 and page.metadata.remaining_item_count is None
    assert names == [f"many-{i:02}" for i in range(25)], names
    gone = core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="many=yes")
    assert gone is not None
    assert not core.list_namespaced_config_map(NAMESPACE, label_selector="many=yes").items


def made_again(name, labels=None):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels=labels))


def watching(core):
    since = core.list_namespaced_secret(NAMESPACE).metadata.resource_version
    secret = client.V1Secret(metadata=client.V1ObjectMeta(name="s"), string_data={"k": "v"})
    core.create_namespaced_secret(NAMESPACE, secret)
    core.patch_namespaced_secret("s", NAMESPACE, {"metadata": {"labels": {"b": "2"}}})
    core.delete_namespaced_secret("s", NAMESPACE)
    seen = []
    events = watch.Watch().stream(
        core.list_namespaced_secret, NAMESPACE, resource_version=since, timeout_seconds=DEADLINE
    )
    for event in events:
        seen.append(event["type"])
        if event["type"] == "DELETED":
            break
    assert seen == ["ADDED", "MODIFIED", "DELETED"], seen


def applying(api):
    maps = dynamic.DynamicClient(api).resources.get(api_version="v1", kind="ConfigMap")
    wanted = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "applied", "namespace": NAMESPACE},
        "data": {"mine": "1"},
    }
    made = maps.server_side_apply(wanted, field_manager="first")
    assert made.data.mine == "1"
    wanted["data"]["mine"] = "2"
    try:
        maps.server_side_apply(wanted, field_manager="second")
        raise AssertionError("a conflict was expected")
    except dynamic.exceptions.ConflictError:
        pass
    taken = maps.server_side_apply(wanted, field_manager="second", force_conflicts=True)
    assert taken.data.mine == "2"


def customs(api):
    extensions, customs = client.ApiextensionsV1Api(api), client.CustomObjectsApi(api)
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer", "minimum": 1}}}}}
    extensions.create_custom_resource_definition(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "shirts.python.example.com"},
            "spec": {
                "group": "python.example.com",
                "scope": "Namespaced",
                "names": {"plural": "shirts", "kind": "Shirt"},
                "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
            },
        }
    )
    where = ("python.example.com", "v1", NAMESPACE, "shirts")

    def served():
        try:
            return customs.list_namespaced_custom_object(*where)
        except ApiException:
            return None

    until("the custom resource", served)
    shirt = {"apiVersion": "python.example.com/v1", "kind": "Shirt", "metadata": {"name": "red"}, "spec": {"size": 3}}
    customs.create_namespaced_custom_object(*where, shirt)
    patched = customs.patch_namespaced_custom_object(*where, "red", {"spec": {"size": 5}})
    assert patched["spec"]["size"] == 5
    bad = dict(shirt, metadata={"name": "blue"}, spec={"size": 0})
    body = refused(422, "Invalid", lambda: customs.create_namespaced_custom_object(*where, bad))
    assert "spec.size" in body["message"], body
    extensions.delete_custom_resource_definition("shirts.python.example.com")


def pods(core, image):
    script = "echo from the log; while true; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\nhello' | nc -l -p 8080; done"
    container = client.V1Container(
        name="c", image=image, image_pull_policy="IfNotPresent", command=["sh", "-c", script]
    )
    pod = client.V1Pod(
        metadata=client.V1ObjectMeta(name="p"),
        spec=client.V1PodSpec(containers=[container], termination_grace_period_seconds=0),
    )
    until("the account", lambda: any(a.metadata.name == "default" for a in core.list_namespaced_service_account(NAMESPACE).items))
    core.create_namespaced_pod(NAMESPACE, pod)
    until("a running pod", lambda: core.read_namespaced_pod("p", NAMESPACE).status.phase == "Running")
    until("its log", lambda: "from the log" in core.read_namespaced_pod_log("p", NAMESPACE))
    call = core.connect_get_namespaced_pod_exec
    told = stream(call, "p", NAMESPACE, command=["sh", "-c", "echo out; echo err >&2"], stderr=True, stdin=False, stdout=True, tty=False)
    assert "out" in told and "err" in told, told
    session = stream(call, "p", NAMESPACE, command=["sh", "-c", "read x; echo got $x; exit 3"], stderr=True, stdin=True, stdout=True, tty=False, _preload_content=False)
    session.write_stdin("word\n")
    session.run_forever(timeout=DEADLINE)
    assert session.read_stdout().strip() == "got word" and session.returncode == 3, session.returncode
    forward = portforward(core.connect_get_namespaced_pod_portforward, "p", NAMESPACE, ports="8080")
    wire = forward.socket(8080)
    wire.settimeout(DEADLINE)
    wire.sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = b""
    while b"hello" not in answer:
        part = wire.recv(1024)
        assert part, (answer, forward.error(8080))
        answer += part
    wire.close()
    core.delete_namespaced_pod("p", NAMESPACE, grace_period_seconds=0)

    def gone():
        try:
            core.read_namespaced_pod("p", NAMESPACE)
        except ApiException as error:
            return error.status == 404
        return False

    until("the pod's end", gone)


def main():
    kubeconfig, image = sys.argv[1:3]
    socket.setdefaulttimeout(DEADLINE)
    api = config.new_client_from_config(kubeconfig)
    core = client.CoreV1Api(api)
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
    for step in (
        lambda: discovery(api),
        lambda: objects(core),
        lambda: watching(core),
        lambda: applying(api),
        lambda: customs(api),
        lambda: pods(core, image),
    ):
        step()
    core.delete_namespace(NAMESPACE)
    print("done")


main()
