#!/usr/bin/env python3
"""check.py CONTAINERS METRICS.RS QUERIES: holds what Prometheus, Grafana and compose are given to each other and to the program.

Names of metrics are those of the program's table; each alert has a summary, a description and a severity, and a case in
which it fires; panels are queries of that table, with ids and places of their own; images and stores of compose name no
host, what is mounted is there, and the token that the gateway asks for is the one that Prometheus shows. Prints what is
wrong and ends with 1. The dashboard's queries go to the file QUERIES as rules, for promtool to parse."""
import json
import os
import re
import sys

import yaml

SEVERITIES = {"critical", "warning", "info"}
wrong = []
queries = []


def check(is_so, what):
    if not is_so:
        wrong.append(what)


def text(*path):
    with open(os.path.join(CONTAINERS, *path), encoding="utf-8") as file:
        return file.read()


class Strict(yaml.SafeLoader):
    """Refuses a key that is there twice: the other one would be lost without a word."""


def mapping(loader, node):
    keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
    for key in keys:
        check(keys.count(key) == 1, f"line {node.start_mark.line + 1}: {key} is there twice")
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)


def parsed(*path):
    try:
        return yaml.load(text(*path), Strict)
    except yaml.YAMLError as error:
        check(False, f"{'/'.join(path)}: {error}")
        return {}


def names(table):
    """The metrics that a scrape shows."""
    with open(table, encoding="utf-8") as file:
        found = re.search(r"pub const TABLE: [^=]*= \[(.*?)\n\];", file.read(), re.S)
    known = set(re.findall(r'\(\s*"(nfs_verity_\w+)"', found[1])) if found else set()
    check(len(known) >= 40, f"{table}: only {len(known)} metrics found")
    return known


def check_names(known):
    for path in (
        ("prometheus", "rules.yml"),
        ("prometheus", "rules.test.yml"),
        ("prometheus", "rules.days.test.yml"),
        ("grafana", "dashboard.json"),
    ):
        for name in sorted(set(re.findall(r"(?<![\w:])nfs_verity_\w+(?![\w:])", text(*path)))):
            stem = re.sub(r"_(bucket|sum|count)$", "", name)
            histogram = stem != name and stem.endswith("_duration_seconds") and stem in known
            # Of a histogram a scrape shows the parts alone.
            plain = name in known and not name.endswith("_duration_seconds")
            check(plain or histogram, f"{'/'.join(path)}: the program has no metric {name}")


def check_alerts():
    rules = [rule for group in parsed("prometheus", "rules.yml").get("groups", []) for rule in group["rules"]]
    alerts = [rule for rule in rules if "alert" in rule]
    check(len(alerts) >= 15, f"rules.yml: only {len(alerts)} alerts")
    fired = set()
    for name in ("rules.test.yml", "rules.days.test.yml"):
        for case in parsed("prometheus", name).get("tests", []):
            for test in case.get("promql_expr_test", []):
                for sample in test.get("exp_samples", []):
                    fired |= set(re.findall(r'alertname="(\w+)",severity="(\w+)"', sample["labels"]))
    for rule in alerts:
        name, severity = rule["alert"], rule.get("labels", {}).get("severity")
        check(severity in SEVERITIES, f"rules.yml: {name} has no severity of {sorted(SEVERITIES)}")
        for part in ("summary", "description"):
            check(rule.get("annotations", {}).get(part), f"rules.yml: {name} has no {part}")
        check((name, severity) in fired, f"rules.yml: no test lets {name} fire as {severity}")
    check(len({rule["alert"] for rule in alerts}) == len(alerts), "rules.yml: two alerts have one name")


def check_dashboard():
    try:
        dashboard = json.loads(text("grafana", "dashboard.json"))
    except json.JSONDecodeError as error:
        return check(False, f"dashboard.json: {error}")
    panels = dashboard["panels"] + [inner for panel in dashboard["panels"] for inner in panel.get("panels", [])]
    check(len(panels) >= 20, f"dashboard.json: only {len(panels)} panels")
    ids = [panel.get("id") for panel in panels]
    check(all(isinstance(number, int) for number in ids), "dashboard.json: a panel without a number for its id")
    check(len(set(ids)) == len(ids), "dashboard.json: two panels have one id")
    taken = {}
    for panel in panels:
        title, place = panel.get("title"), panel["gridPos"]
        check(title, f"dashboard.json: panel {panel.get('id')} has no title")
        check(place["x"] + place["w"] <= 24, f"dashboard.json: {title} is off the grid")
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                other = taken.setdefault((x, y), title)
                if other != title:
                    return check(False, f"dashboard.json: {title} lies over {other}")
        if panel["type"] == "row":
            continue
        check(panel.get("description"), f"dashboard.json: {title} has no description")
        targets = panel.get("targets", [])
        check(targets, f"dashboard.json: {title} asks for nothing")
        for target in targets:
            check("nfs_verity_" in target["expr"], f"dashboard.json: {title} shows nothing of the gateway")
            expression = re.sub(r"\$__(rate_interval|range)\b", "5m", target["expr"])
            queries.append({"record": f"panel:{panel['id']}", "expr": expression})
    return None


def check_compose():
    compose = parsed("compose.yaml")
    services = compose.get("services", {})
    check({"gateway", "prometheus", "grafana"} <= set(services), "compose.yaml: a service is missing")
    for name, service in services.items():
        image = service.get("image", "")
        # What has a dot, a colon or the name of this machine before its first slash is a host.
        first, slash, _ = image.partition("/")
        check(not (slash and re.search(r"[.:]|^localhost$", first)), f"compose.yaml: {image} names a host")
        check(":" in image and (name == "gateway" or re.search(r":v?\d", image)), f"compose.yaml: {image} is not pinned")
        check(service.get("read_only") is True, f"compose.yaml: {name} can write to its root")
        check(service.get("cap_drop") == ["ALL"] and "cap_add" not in service, f"compose.yaml: {name} has capabilities")
        check("no-new-privileges:true" in service.get("security_opt", []), f"compose.yaml: {name} can gain privileges")
        check(not service.get("privileged"), f"compose.yaml: {name} is privileged")
        check("healthcheck" in service, f"compose.yaml: {name} has no health check")
        for port in service.get("ports", []):
            check(port == "2049:2049" or port.startswith("127.0.0.1:"), f"compose.yaml: {name}: {port} is open to all")
        for volume in service.get("volumes", []):
            source = re.sub(r"^\$\{[^}]*\}", "", volume).split(":")[0]
            if source.startswith("./"):
                check(os.path.exists(os.path.join(CONTAINERS, source)), f"compose.yaml: there is no {source}")
                check(volume.endswith(":ro"), f"compose.yaml: {name} can write to {source}")
            elif source:
                check(source in compose.get("volumes", {}), f"compose.yaml: there is no volume {source}")
    check_token(compose)
    data = parsed("grafana", "provisioning", "datasources", "prometheus.yaml").get("datasources", [])
    check([source["url"] for source in data] == ["http://prometheus:9090"], "grafana: not the Prometheus of compose.yaml")
    boards = parsed("grafana", "provisioning", "dashboards", "nfs-verity.yaml").get("providers", [])
    for board in boards:
        path = board["options"]["path"]
        mounted = any(f":{path}/" in volume for volume in services.get("grafana", {}).get("volumes", []))
        check(mounted, f"grafana: nothing is mounted at {path}")
    jobs = parsed("prometheus", "prometheus.yml").get("scrape_configs", [])
    targets = [target for job in jobs for config in job["static_configs"] for target in config["targets"]]
    check(targets == ["gateway:9649"], "prometheus.yml: not the gateway of compose.yaml")


def check_token(compose):
    """Whoever is not on the gateway's own machine shows a token, which nobody writes into these files."""
    services, secrets = compose.get("services", {}), compose.get("secrets", {})
    for name, secret in secrets.items():
        check(str(secret.get("file", "")).startswith("${"), f"compose.yaml: the secret {name} is no file of the operator's")
    words = services.get("gateway", {}).get("command", [])
    monitors = [word for word in words if word.startswith("--monitor=")]
    tokens = [word.removeprefix("--monitor-token=") for word in words if word.startswith("--monitor-token=")]
    check(monitors == ["--monitor=0.0.0.0:9649"] and len(tokens) == 1, "compose.yaml: the gateway's monitor has no token")
    jobs = parsed("prometheus", "prometheus.yml").get("scrape_configs", [])
    shown = [job.get("authorization", {}).get("credentials_file") for job in jobs]
    check(shown == tokens, "prometheus.yml: the token is not that of the gateway in compose.yaml")
    for service in ("gateway", "prometheus"):
        given = services.get(service, {}).get("secrets", [])
        check([f"/run/secrets/{name}" for name in given] == tokens, f"compose.yaml: {service} is not given the token")
        check(set(given) <= set(secrets), f"compose.yaml: {service} is given a secret that is none")
    # An image that serves at once has no token yet.
    default = re.search(r"^CMD (\[.*\])$", text("Containerfile"), re.M)
    words = json.loads(default[1]) if default else []
    check("serve" in words, "Containerfile: it does not serve")
    check("--monitor" not in words, "Containerfile: its monitor has no token")


CONTAINERS, TABLE, QUERIES = sys.argv[1:]
check_names(names(TABLE))
check_alerts()
check_dashboard()
check_compose()
with open(QUERIES, "w", encoding="utf-8") as out:
    # JSON is YAML, too.
    json.dump({"groups": [{"name": "dashboard", "rules": queries}]}, out)
for what in wrong:
    print(what, file=sys.stderr)
sys.exit(1 if wrong else 0)
