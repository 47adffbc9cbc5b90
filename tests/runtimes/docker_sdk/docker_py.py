"""Programs that use docker-py, against netd's socket of the Engine API with Docker behind it.

    docker_py.py [CHECK]

prints the names of the checks, or carries one out. Run by tests/runtimes/docker_sdk with DOCKER_HOST set, on a Docker that
has the image `lab` and no containers. A check that fails ends with its traceback, and shows which containers and networks
there are; it leaves nothing behind when it succeeds.
"""

import io
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
import traceback

import docker
from docker import errors, types

PAGE = "hello from web"
SERVE = ["busybox", "httpd", "-f", "-p", "80", "-h", "/www"]
HOST = "192.0.2.1"
# Less than what the laboratory gives a program.
DEADLINE = 20

client = docker.from_env(version="auto", timeout=DEADLINE)


def until(what, look):
    """Waits until `look` returns something true, and returns it."""
    end, seen = time.monotonic() + DEADLINE, None
    while time.monotonic() < end:
        seen = look()
        if seen:
            return seen
        time.sleep(0.05)
    raise AssertionError(f"never: {what}; last: {seen!r}")


def same(left, right):
    assert left == right, f"\n  is:     {left!r}\n  wanted: {right!r}"


def refused(status, text, call):
    """The call fails with this status, and says this text."""
    try:
        done = call()
    except errors.APIError as error:
        assert error.status_code == status and text in error.explanation, repr(error)
        return
    raise AssertionError(f"it should have been refused with {status}: {done!r}")


def outside(port, address=HOST):
    """What another machine gets from the port."""
    line = ["nsenter", "--net=/run/netns/outside", "curl", "-sS", "--max-time", "3", f"http://{address}:{port}/"]
    return subprocess.run(line, capture_output=True, text=True).stdout.strip()


def inside(container, *words):
    return container.exec_run(list(words)).output.decode()


def resolved(container, name):
    """The addresses that a container gets for a name."""
    lines = inside(container, "nslookup", name).splitlines()
    found = [line.split()[-1] for line in lines if line.startswith("Address")]
    return sorted(address for address in found if "127.0.0.11" not in address)


def at(version):
    """The client of this version of the API, one layer below."""
    return docker.APIClient(os.environ["DOCKER_HOST"], version=version)


def names(networks):
    return sorted(network.name for network in networks)


def serve(name, **options):
    return client.containers.run("lab", SERVE, name=name, detach=True, **options)


def system():
    assert client.ping() is True
    version, info = client.version(), client.info()
    same((version["ApiVersion"], version["MinAPIVersion"]), ("1.41", "1.40"))
    assert "netd" in [component["Name"] for component in version["Components"]], version
    same(info["Plugins"]["Network"], ["bridge", "host", "null"])
    assert info["ServerVersion"] and info["Driver"] == "vfs" and info["DefaultAddressPools"], info


def versions():
    for version in ["1.24", "1.39"]:
        old = at(version)
        refused(400, f"client version {version} is too old. Minimum supported API version is 1.40", old.networks)
    refused(400, "client version 1.99 is too new", at("1.99").containers)
    for version in ["1.40", "1.41", "auto"]:
        chosen = at(version)
        assert "host" in [network["Name"] for network in chosen.networks()], version
    same(at("auto").api_version, "1.41")


def networks():
    same(names(client.networks.list()), ["bridge", "host", "none"])
    pool = types.IPAMPool(subnet="10.60.0.0/24", gateway="10.60.0.254", iprange="10.60.0.128/25")
    ipam = types.IPAMConfig(pool_configs=[pool])
    front = client.networks.create("front", ipam=ipam, labels={"tier": "front", "app": "shop"}, check_duplicate=True)
    back = client.networks.create("back", driver="bridge", internal=True, labels={"app": "shop"})
    mtu = client.networks.create("small", options={"com.docker.network.driver.mtu": "1400"})
    shown = client.networks.get(front.id)
    config = {"Subnet": "10.60.0.0/24", "IPRange": "10.60.0.128/25", "Gateway": "10.60.0.254"}
    same(shown.attrs["IPAM"]["Config"], [config])
    same((shown.attrs["Driver"], shown.attrs["Scope"], shown.attrs["Internal"]), ("bridge", "local", False))
    same(shown.attrs["Labels"], {"tier": "front", "app": "shop"})
    assert client.networks.get("back").attrs["Internal"] is True
    same(client.networks.get("small").attrs["Options"], {"com.docker.network.driver.mtu": "1400"})
    same(client.networks.get(front.id[:10]).id, front.id)
    same(client.networks.get("front").containers, [])
    for filters, expected in [
        ({"label": "app"}, ["back", "front"]),
        ({"label": ["app=shop", "tier=front"]}, ["front"]),
        ({"name": "ack"}, ["back"]),
        ({"id": front.id[:12]}, ["front"]),
        ({"driver": "bridge"}, ["back", "bridge", "front", "small"]),
        ({"type": "builtin"}, ["bridge", "host", "none"]),
        ({"type": "custom"}, ["back", "front", "small"]),
        ({"dangling": True}, ["back", "front", "small"]),
    ]:
        same((filters, names(client.networks.list(filters=filters))), (filters, expected))
    same(names(client.networks.list(names=["back"])), ["back"])
    same(names(client.networks.list(ids=[mtu.id])), ["small"])
    same(client.networks.list(greedy=True, names=["back"])[0].attrs["Containers"], {})
    refused(409, "network with name front already exists", lambda: client.networks.create("front"))
    refused(403, "Pool overlaps", lambda: client.networks.create("other", ipam=ipam))
    refused(403, "predefined", lambda: client.networks.create("host"))
    refused(404, "network nope not found", lambda: client.networks.get("nope"))
    same(client.networks.prune(filters={"label": "tier"})["NetworksDeleted"], ["front"])
    back.remove()
    same(client.networks.prune()["NetworksDeleted"], ["small"])
    refused(404, "not found", back.remove)
    same(names(client.networks.list()), ["bridge", "host", "none"])


def containers():
    ipam = types.IPAMConfig(pool_configs=[types.IPAMPool(subnet="10.60.0.0/24")])
    client.networks.create("net1", ipam=ipam)
    web = serve("web", network="net1", ports={"80/tcp": 4000}, labels={"role": "server"}, hostname="www")
    peer = client.containers.run("lab", name="peer", network="net1", detach=True)
    web.reload()
    settings, mode = web.attrs["NetworkSettings"], web.attrs["HostConfig"]["NetworkMode"]
    same((mode, sorted(settings["Networks"])), ("net1", ["net1"]))
    end = settings["Networks"]["net1"]
    same((end["IPPrefixLen"], end["Gateway"]), (24, "10.60.0.1"))
    same(end["NetworkID"], client.networks.get("net1").id)
    bound = {(each["HostIp"], each["HostPort"]) for each in settings["Ports"]["80/tcp"]}
    same(bound, {("0.0.0.0", "4000"), ("::", "4000")})
    same(web.ports, settings["Ports"])
    until("the page comes from outside", lambda: outside(4000) == PAGE)
    for name in ["web", web.id[:12]]:
        same((name, resolved(peer, name)), (name, [end["IPAddress"]]))
    same(inside(peer, "wget", "-qO-", "http://web/").strip(), PAGE)
    assert f"inet {end['IPAddress']}/24" in inside(web, "ip", "-4", "address", "show", "eth0")
    shown = client.networks.get("net1").attrs["Containers"]
    same(sorted(shown), sorted([web.id, peer.id]))
    same([shown[web.id][key] for key in ("Name", "IPv4Address", "MacAddress")],
         ["web", f"{end['IPAddress']}/24", end["MacAddress"]])
    same(sorted(each.name for each in client.networks.get("net1").containers), ["peer", "web"])
    refused(403, "active endpoints", client.networks.get("net1").remove)
    for filters, expected in [
        ({"network": "net1"}, ["peer", "web"]),
        ({"label": "role=server"}, ["web"]),
        ({"publish": "4000"}, ["web"]),
        ({"status": "exited", "name": "web"}, []),
    ]:
        found = client.containers.list(all=True, filters=filters)
        same((filters, sorted(each.name for each in found)), (filters, expected))
    listed = {each["Names"][0]: each for each in client.api.containers()}
    same(listed["/web"]["NetworkSettings"]["Networks"]["net1"]["IPAddress"], end["IPAddress"])
    assert {(port["PrivatePort"], port["PublicPort"]) for port in listed["/web"]["Ports"]} == {(80, 4000)}, listed
    web.restart(timeout=1)
    until("the page comes again", lambda: outside(4000) == PAGE)
    web.stop(timeout=1)
    same(client.containers.get("web").status, "exited")
    until("the port is closed", lambda: outside(4000) == "")
    web.start()
    until("the page comes after a start", lambda: outside(4000) == PAGE)
    [container.remove(force=True) for container in (web, peer)]
    until("the network is empty", lambda: client.networks.get("net1").attrs["Containers"] == {})
    client.networks.get("net1").remove()


def endpoints():
    """Settings of endpoints, of containers that are created and of those that run."""
    ipam = types.IPAMConfig(pool_configs=[types.IPAMPool(subnet="10.61.0.0/24")])
    one, two = client.networks.create("one", ipam=ipam), client.networks.create("two", internal=True)
    api = client.api
    config = api.create_networking_config({"one": api.create_endpoint_config(
        ipv4_address="10.61.0.40", aliases=["db", "store"])})
    on_one = api.create_host_config(network_mode="one")
    api.start(api.create_container("lab", SERVE, name="static", networking_config=config, host_config=on_one))
    static = client.containers.get("static")
    end = static.attrs["NetworkSettings"]["Networks"]["one"]
    same((end["IPAddress"], end["IPAMConfig"]), ("10.61.0.40", {"IPv4Address": "10.61.0.40"}))
    assert {"db", "store"} <= set(end["Aliases"]), end
    later = client.containers.run("lab", name="later", network="two", detach=True)
    one.connect(later, ipv4_address="10.61.0.41", aliases=["worker"])
    later.reload()
    ends = later.attrs["NetworkSettings"]["Networks"]
    same((sorted(ends), ends["one"]["IPAddress"]), (["one", "two"], "10.61.0.41"))
    for name in ["static", "db", "store"]:
        until(f"later finds {name}", lambda: resolved(later, name) == ["10.61.0.40"])
    for name in ["later", "worker"]:
        until(f"static finds {name}", lambda: resolved(static, name) == ["10.61.0.41"])
    refused(403, "already exists in network one", lambda: one.connect(later))
    refused(400, "no configured subnet contains IP address 10.9.9.9",
            lambda: two.connect(static, ipv4_address="10.9.9.9"))
    refused(404, "No such container: nobody", lambda: one.connect("nobody"))
    two.connect("static")
    two.disconnect(static)
    one.disconnect("later", force=True)
    later.reload()
    same(list(later.attrs["NetworkSettings"]["Networks"]), ["two"])
    until("static finds later no more", lambda: "10.61.0.41" not in resolved(static, "worker"))
    refused(500, "is not connected to", lambda: one.disconnect("later"))
    [container.remove(force=True) for container in (static, later)]
    [network.remove() for network in (one, two)]


def modes():
    """Containers without a network of netd's, on the default one, and in another's namespace."""
    plain = serve("plain", ports={"80": ("127.0.0.1", 4010)})
    plain.reload()
    settings = plain.attrs["NetworkSettings"]
    same((sorted(settings["Networks"]), settings["Networks"]["bridge"]["IPAddress"]),
         (["bridge"], settings["IPAddress"]))
    same(settings["Ports"]["80/tcp"], [{"HostIp": "127.0.0.1", "HostPort": "4010"}])
    page = ["wget", "-qO-", "http://127.0.0.1/"]
    same(client.containers.run("lab", page, network_mode="container:plain", remove=True).decode().strip(), PAGE)
    host = client.containers.run("lab", ["ip", "-o", "link"], network_mode="host", remove=True).decode()
    assert "uplink" in host, host
    for options in [{"network_mode": "none"}, {"network_disabled": True}]:
        alone = client.containers.run("lab", ["ip", "-o", "link"], remove=True, **options).decode()
        assert "eth0" not in alone, alone
    refused(400, "network nope not found", lambda: client.containers.run("lab", network="nope"))
    plain.remove(force=True)


def streams():
    """Replies that do not end at once, and connections that become something else."""
    talk = client.containers.run("lab", ["sh", "-c", "echo one; echo two >&2; read line; echo got $line; sleep 1000"],
                                 name="talk", detach=True, stdin_open=True)
    lines = talk.logs(stream=True, follow=True)
    same({next(lines).strip(), next(lines).strip()}, {b"one", b"two"})
    attached = talk.attach_socket(params={"stdin": 1, "stream": 1})
    attached._sock.sendall(b"a line\n")
    same(next(lines).strip(), b"got a line")
    attached.close()
    same(talk.exec_run(["sh", "-c", "echo out; exit 3"]), (3, b"out\n"))
    same(talk.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True).output, (b"out\n", b"err\n"))
    same(b"".join(talk.exec_run(["sh", "-c", "for n in 1 2 3; do echo $n; done"], stream=True).output), b"1\n2\n3\n")
    stream = talk.exec_run(["cat"], stdin=True, tty=True, socket=True).output
    stream._sock.sendall(b"ping\n")
    same(stream._sock.recv(100)[:4], b"ping")
    stream.close()
    stream = talk.exec_run(["cat"], stdin=True, socket=True).output
    stream._sock.sendall(b"to the end")
    stream._sock.shutdown(socket.SHUT_WR)
    received = b""
    while chunk := stream._sock.recv(100):
        received += chunk
    same(received, b"\x01\0\0\0\0\0\0\x0ato the end")
    stream.close()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("note")
        member.size = 1 << 20
        archive.addfile(member, io.BytesIO(b"x" * member.size))
    assert talk.put_archive("/tmp", packed.getvalue())
    chunks, stat = talk.get_archive("/tmp/note")
    same((stat["name"], stat["size"]), ("note", 1 << 20))
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        same(archive.extractfile("note").read(), b"x" * (1 << 20))
    assert talk.stats(stream=False)["networks"]["eth0"]["rx_bytes"] >= 0
    assert next(talk.stats(decode=True))["networks"]
    talk.kill()
    same(talk.wait(timeout=DEADLINE)["StatusCode"], 137)
    same(list(lines), [])
    talk.remove()


def images():
    """The body of a request is a stream, and so is the reply."""
    files = io.BytesIO()
    with tarfile.open(fileobj=files, mode="w") as archive:
        text = b"FROM lab\nRUN echo built > /tmp/built\nCMD cat /tmp/built\n"
        member = tarfile.TarInfo("Dockerfile")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    files.seek(0)
    image, log = client.images.build(fileobj=files, custom_context=True, tag="built", rm=True, network_mode="none")
    assert any("Successfully built" in line.get("stream", "") for line in log)
    same(client.containers.run("built", remove=True), b"built\n")
    saved = b"".join(image.save())
    client.images.remove("built")
    same(client.images.load(saved)[0].id, image.id)
    client.images.remove(image.id)
    refused(404, "No such image: nothing", lambda: client.images.get("nothing"))


def events():
    """What happens to networks and containers, in order."""
    started = time.time()
    stream = client.events(decode=True, filters={"type": ["container", "network"]})
    seen, named = [], threading.Event()

    def follow():
        for event in stream:
            about = event["Actor"]["Attributes"]
            seen.append((event["Type"], event["Action"], about["name"], about.get("container", "")))
            if event["Type"] == "network" and event["Action"] == "destroy":
                named.set()
                return

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    network = client.networks.create("watched")
    web = serve("web", network="watched")
    web.kill()
    web.wait(timeout=DEADLINE)
    until("it is disconnected", lambda: client.networks.get("watched").attrs["Containers"] == {})
    web.remove()
    network.remove()
    assert named.wait(DEADLINE), f"the network's end was not told: {seen}"
    stream.close()
    wanted = [("network", "create", "watched", ""), ("network", "connect", "watched", web.id),
              ("network", "disconnect", "watched", web.id), ("network", "destroy", "watched", "")]
    same([event for event in seen if event[0] == "network"], wanted)
    of_web = [action for kind, action, name, _ in seen if (kind, name) == ("container", "web")]
    same(of_web, ["create", "start", "kill", "die", "destroy"])
    # What has happened is told again in the order of time, with an end and without one.
    asked = {"decode": True, "since": started, "filters": {"event": ["create", "connect", "start", "die", "destroy"]}}
    again = list(client.events(until=time.time(), **asked))
    order = [(event["Type"], event["Action"]) for event in again]
    same(order, [("network", "create"), ("container", "create"), ("network", "connect"), ("container", "start"),
                 ("container", "die"), ("container", "destroy"), ("network", "destroy")])
    endless = client.events(**asked)
    same([next(endless) for _ in again], again)
    endless.close()


def tests_of_others():
    """What testcontainers and its kin ask: a network with labels, a container with ports chosen at random."""
    assert client.info()["OperatingSystem"]
    labels = {"org.testcontainers": "true", "org.testcontainers.session-id": "a-b-c"}
    network = client.networks.create("tc-0123", labels=labels, attachable=True)
    api = client.api
    port = "80/tcp"
    for number, host_port in enumerate(["", "0"]):
        body = {"Image": "lab", "Cmd": SERVE, "Labels": labels, "ExposedPorts": {port: {}},
                "HostConfig": {"PortBindings": {port: [{"HostIp": "", "HostPort": host_port}]}, "NetworkMode": "tc-0123"},
                "NetworkingConfig": {"EndpointsConfig": {"tc-0123": {"Aliases": [f"tc-{number}"]}}}}
        created = api._result(api._post_json(api._url("/containers/create"), data=body), json=True)
        api.start(created["Id"])
        bindings = api.inspect_container(created["Id"])["NetworkSettings"]["Ports"][port]
        chosen = {binding["HostPort"] for binding in bindings}
        assert len(chosen) == 1 and chosen != {"0"} and int(min(chosen)) > 1024, bindings
        until("it is reachable", lambda: outside(min(chosen)) == PAGE)
        same({each["HostPort"] for each in api.port(created["Id"], 80)}, chosen)
    every = serve("every", network="tc-0123", publish_all_ports=True, ports={port: None})
    every.reload()
    until("it is reachable", lambda: outside(every.ports["80/tcp"][0]["HostPort"]) == PAGE)
    until("they find each other", lambda: len(resolved(every, "tc-0")) == 1 and len(resolved(every, "tc-1")) == 1)
    same(len(client.containers.list(filters={"label": "org.testcontainers.session-id=a-b-c"})), 2)
    [container.remove(force=True, v=True) for container in client.containers.list()]
    same(client.containers.prune()["ContainersDeleted"], None)
    same(client.networks.prune(filters={"label": "org.testcontainers.session-id=a-b-c"})["NetworksDeleted"], ["tc-0123"])


CHECKS = [system, versions, networks, containers, endpoints, modes, streams, images, events, tests_of_others]


def main():
    checks = {check.__name__: check for check in CHECKS}
    if len(sys.argv) == 1:
        print("\n".join(checks))
        return
    try:
        checks[sys.argv[1]]()
    except Exception:
        traceback.print_exc()
        shown = [(each["Names"], each["Status"]) for each in client.api.containers(all=True)]
        networks = [network["Name"] for network in client.api.networks()]
        raise SystemExit(f"{sys.argv[1]} of docker-py {docker.__version__}; containers: {shown}, networks: {networks}")


main()
