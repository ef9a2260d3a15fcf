"""The rules and the dashboard of docs/how-to/monitoring, on a real Prometheus and a real centre."""

import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from fleets import HANGS_S, NOW, STILL, centre, free_port

from bundles.fleet.access import credentials

MONITORING = Path(__file__).parents[3] / "docs" / "how-to" / "monitoring"
CONFIG = """
rule_files: [{rules}]
scrape_configs:
  - job_name: calibration-fleet
    scrape_interval: 1s
    authorization: {{credentials_file: {token}}}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="no Prometheus")


@pytest.mark.parametrize("words", [("check", "rules", "alerts.yml"),
                                   ("test", "rules", "alerts-test.yml"),
                                   ("check", "config", "--syntax-only", "prometheus.yml")],
                         ids=" ".join)  # fmt: skip
def test_prometheus_takes_the_files(words):
    done = subprocess.run(
        ["promtool", *words], cwd=MONITORING, capture_output=True, text=True, timeout=HANGS_S
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("address", ["sqlite"], indirect=True)
def test_a_real_prometheus_answers_every_query_of_rules_and_dashboard(address, database, tmp_path):
    token = credentials.add_token(database, "prometheus", "staff", int(NOW.timestamp()))
    with centre(address, first=STILL) as made, prometheus(tmp_path, made.port, token) as ask:
        until = time.monotonic() + HANGS_S
        while ask('up{job="calibration-fleet"}') != ["1"]:
            assert time.monotonic() < until
            time.sleep(0.2)
        assert len(ask("fleet_released_timestamp_seconds")) == 1
        for expression in expressions():
            ask(expression)


@contextlib.contextmanager
def prometheus(place, port, token):
    """A function that asks a Prometheus that scrapes the centre: the values of an expression."""
    own = free_port()
    (place / "token").write_text(token)
    config = CONFIG.format(rules=MONITORING / "alerts.yml", token=place / "token", port=port)
    (place / "prometheus.yml").write_text(config)
    command = (
        "prometheus", f"--config.file={place}/prometheus.yml", f"--storage.tsdb.path={place}/data",
        f"--web.listen-address=127.0.0.1:{own}",
    )  # fmt: skip

    def ask(expression):
        query = urllib.parse.urlencode({"query": expression})
        try:
            url = f"http://127.0.0.1:{own}/api/v1/query?{query}"
            with urllib.request.urlopen(url, timeout=HANGS_S) as answered:
                found = json.load(answered)
        except urllib.error.HTTPError as error:
            if error.code != 503:  # it is not ready yet
                raise
            return []
        except OSError:  # it does not listen yet
            assert running.poll() is None, (place / "log").read_text()
            return []
        return [sample["value"][1] for sample in found["data"]["result"]]

    with (place / "log").open("w") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield ask
    finally:
        running.terminate()
        running.wait(HANGS_S)


def expressions():
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
