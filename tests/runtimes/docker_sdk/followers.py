"""Programs that follow containers over Docker's Engine API, as Traefik, nginx-proxy and Prometheus do.

    followers.py SOCKET VERSION START END

START and END are lines for the shell that start the container `web`, which serves the page on port 80 of the network
`net1`, and end it. Run by tests/runtimes/docker_sdk; what is wrong is said in a traceback. The programs are asked for with
the same requests and read the same fields as their sources have them (traefik: pkg/provider/docker; nginx-proxy/docker-gen:
internal/context, internal/generator; prometheus: discovery/moby).
"""

import http.client
import json
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

SOCKET, VERSION, START, END = sys.argv[1:]
PAGE = "hello from web"
# Less than what the laboratory gives a program.
DEADLINE = 20


class Connection(http.client.HTTPConnection):
    """One connection to the socket."""

    def __init__(self):
        super().__init__("docker", timeout=DEADLINE)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(SOCKET)


def open_reply(path, filters=None):
    connection = Connection()
    if filters:
        path += ("&" if "?" in path else "?") + urllib.parse.urlencode({"filters": json.dumps(filters)})
    connection.request("GET", path)
    reply = connection.getresponse()
    assert reply.status == 200, (path, reply.status, reply.read())
    reply.of = connection
    return reply


def get(path, filters=None):
    with open_reply(f"/v{VERSION}{path}", filters) as reply:
        return json.load(reply)


class Events:
    """The stream of events; `until` reads on to one of `web`, and keeps what it has passed."""

    def __init__(self, path, filters=None):
        self.reply, self.seen = open_reply(path, filters), []

    def until(self, action):
        while line := self.reply.readline():
            event = json.loads(line)
            self.seen.append(event)
            if event["Type"] == "container" and (event["Action"], name_of(event)) == (action, "web"):
                return event
        raise AssertionError(f"the stream ended before {action}: {self.seen}")

    def of_web(self):
        events = [event for event in self.seen if event["Type"] == "container" and name_of(event) == "web"]
        return [event["Action"] for event in events if event["Action"] in ("start", "die")]


def name_of(event):
    return event["Actor"]["Attributes"]["name"]


def same(left, right):
    assert left == right, f"\n  is:     {left!r}\n  wanted: {right!r}"


def page(url):
    with urllib.request.urlopen(url, timeout=DEADLINE) as reply:
        return reply.read().decode().strip()


def until(what, look):
    end, seen = time.monotonic() + DEADLINE, None
    while time.monotonic() < end:
        seen = look()
        if seen:
            return seen
        time.sleep(0.05)
    raise AssertionError(f"never: {what}; last: {seen!r}")


def serves(url):
    """The server may need a moment after the container's start."""
    def look():
        try:
            return page(url) == PAGE
        except OSError:
            return False
    until(f"the page comes from {url}", look)


def lowest_port(ports):
    return min((key for key in ports if key.endswith("/tcp")), key=lambda key: int(key.split("/")[0])).split("/")[0]


def traefik():
    """Its services: name, labels, and the address of each container that runs and has the label."""
    services = {}
    for listed in get("/containers/json?all=1"):
        container = get(f"/containers/{listed['Id']}/json")
        if container["State"]["Running"] and container["Config"]["Labels"].get("traefik.enable") == "true":
            networks = container["NetworkSettings"]["Networks"]
            address = networks[container["Config"]["Labels"].get("traefik.docker.network", min(networks))]["IPAddress"]
            services[container["Name"]] = f"http://{address}:{lowest_port(container['NetworkSettings']['Ports'])}/"
    return services


def nginx_proxy():
    """Its upstreams: of each container that runs, the first address and port, and the host's port."""
    upstreams = {}
    for listed in get("/containers/json?all=0&size=0"):
        container = get(f"/containers/{listed['Id']}/json")
        env = dict(each.split("=", 1) for each in container["Config"]["Env"] or [])
        ports = container["NetworkSettings"]["Ports"] or {}
        network = next(iter(container["NetworkSettings"]["Networks"].values()), {})
        assert container["HostConfig"]["NetworkMode"] and isinstance(env, dict)
        for key, bindings in ports.items():
            upstreams[container["Name"]] = (network["IPAddress"], key, bindings and bindings[0]["HostPort"])
    return upstreams


def prometheus():
    """Its targets: address and labels of each port of each network of each container."""
    networks = {network["Id"]: network for network in get("/networks")}
    targets = {}
    for container in get("/containers/json", {"network": ["net1"]}):
        for settings in container["NetworkSettings"]["Networks"].values():
            for port in container["Ports"]:
                if port["Type"] == "tcp":
                    network = networks[settings["NetworkID"]]
                    target = f"{settings['IPAddress']}:{port['PrivatePort']}"
                    targets[target] = (container["Names"][0], network["Name"], network["Internal"], network["Scope"],
                                       port.get("PublicPort"), container["HostConfig"]["NetworkMode"])
    return targets


def main():
    version, info = get("/version"), get("/info")
    assert version["Version"] and version["ApiVersion"] and version["Os"] == "linux", version
    assert info["ServerVersion"] and info["Swarm"]["LocalNodeState"] == "inactive", info
    same((traefik(), nginx_proxy(), prometheus()), ({}, {}, {}))
    followers = {
        "traefik": Events(f"/v{VERSION}/events", {"type": ["container"]}),
        "nginx-proxy": Events("/events"),
    }
    for round in range(2):
        subprocess.run(START, shell=True, check=True, stdout=subprocess.DEVNULL)
        for name, follower in followers.items():
            event = follower.until("start")
            if name == "traefik":
                # Versions below 1.52 have these twice, and clients of these versions read either.
                same((event["status"], event["id"]), ("start", event["Actor"]["ID"]))
            same(event["Actor"]["Attributes"].get("traefik.enable"), "true")
        services, upstreams, targets = traefik(), nginx_proxy(), prometheus()
        same(list(services), ["/web"])
        serves(services["/web"])
        address, key, host_port = upstreams["/web"]
        same((f"http://{address}:80/", key, host_port), (services["/web"], "80/tcp", "4000"))
        serves(f"http://127.0.0.1:{host_port}/")
        same(targets, {f"{address}:80": ("/web", "net1", False, "local", 4000, "net1")})
        serves(f"http://{min(targets)}/")
        subprocess.run(END, shell=True, check=True, stdout=subprocess.DEVNULL)
        [follower.until("die") for follower in followers.values()]
        until("it is in no list", lambda: (traefik(), nginx_proxy(), prometheus()) == ({}, {}, {}))
    for name, follower in followers.items():
        same((name, follower.of_web()), (name, ["start", "die"] * 2))
    of_traefik = {event["Type"] for event in followers["traefik"].seen}
    same(of_traefik, {"container"})
    connections = [event["Action"] for event in followers["nginx-proxy"].seen if event["Type"] == "network"]
    same([action for action in connections if action == "connect"], ["connect"] * 2)


main()
