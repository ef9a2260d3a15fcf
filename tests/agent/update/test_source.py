import contextlib
import gzip
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError

from agent.errors import InputError, UnreachableError, UntrustedError
from agent.update.source import LIMITS, DownloadLimits, open_source
from tests.agent.update.servers import answering, authority, proxy, serving

QUICK = DownloadLimits(connect_s=0.5, read_s=0.5, whole_s=1.2)
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """Nothing of the developer's network."""
    for name in (*VARIABLES, "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NETRC", os.devnull)


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "repository/metadata").mkdir(parents=True)
    (tmp_path / "repository/targets/stable").mkdir(parents=True)
    (tmp_path / "repository/metadata/timestamp.json").write_bytes(b"{}")
    (tmp_path / "repository/targets/stable/x.bundle").write_bytes(b"b" * 1000)
    return tmp_path / "repository"


def timestamp(source, most=1000):
    return source.download_bytes(f"{source.metadata_url}/timestamp.json", most)


def body(content, length=None, status=200, **headers):
    """An answer of a server."""

    def answer(handler):
        handler.send_response(status)
        if length != "none":
            handler.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while not handler.about.stopping.is_set():
            handler.wfile.write(b"x" * 65536)


def a_byte_at_a_time(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    drip(handler)


def headers_a_byte_at_a_time(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    drip(handler)


def drip(handler):
    with contextlib.suppress(OSError):
        while not handler.about.stopping.wait(0.1):
            handler.wfile.write(b"x")
            handler.wfile.flush()


def silent(handler):
    handler.about.stopping.wait(20)


@pytest.mark.parametrize("kind", ["directory", "file URL", "server"])
def test_a_repository_is_read_from_a_directory_and_from_a_server_alike(repository, kind):
    with serving(repository) as server:
        places = {"directory": str(repository), "file URL": repository.as_uri()}
        source = open_source(places.get(kind, server.url + "/"))
        assert timestamp(source) == b"{}"
        target = f"{source.targets_url}/stable/x.bundle"
        assert source.download_bytes(target, 1000) == b"b" * 1000
        assert b"".join(source.fetch(target)) == b"b" * 1000
        assert source.local == (kind != "server")


@pytest.mark.parametrize("kind", ["directory", "server"])
def test_a_file_longer_than_it_may_be_is_not_taken(repository, kind):
    with serving(repository) as server:
        source = open_source(str(repository) if kind == "directory" else server.url)
        with pytest.raises(
            DownloadLengthMismatchError, match=r"x\.bundle is longer than 999 bytes"
        ):
            source.download_bytes(f"{source.targets_url}/stable/x.bundle", 999)


@pytest.mark.parametrize("kind", ["directory", "server"])
def test_no_file_is_taken_that_is_longer_than_the_largest_whatever_metadata_say(repository, kind):
    with serving(repository) as server:
        limits = DownloadLimits(largest=999)
        source = open_source(str(repository) if kind == "directory" else server.url, limits)
        with pytest.raises(DownloadLengthMismatchError):
            source.download_bytes(f"{source.targets_url}/stable/x.bundle", 10**18)


@pytest.mark.parametrize("kind", ["directory", "server"])
def test_a_missing_file_is_told_from_a_server_in_trouble(repository, kind):
    with serving(repository) as server:
        source = open_source(str(repository) if kind == "directory" else server.url)
        with pytest.raises(DownloadHTTPError) as refused:
            source.download_bytes(f"{source.metadata_url}/2.root.json", 1000)
        assert refused.value.status_code == 404


# Servers that mean harm, or are broken.


def test_an_endless_answer_ends():
    with answering(endless) as server, pytest.raises(DownloadLengthMismatchError):
        timestamp(open_source(server.url))


@pytest.mark.parametrize("answer", [a_byte_at_a_time, headers_a_byte_at_a_time])
def test_an_answer_that_comes_a_byte_at_a_time_ends_with_the_time_for_a_whole_file(answer):
    with answering(answer) as server:
        began = time.monotonic()
        with pytest.raises(UnreachableError, match=r"timestamp\.json took longer than 1\.2 s"):
            timestamp(open_source(server.url, QUICK), 200_000)
        assert time.monotonic() - began < 100


def test_a_server_that_says_nothing_is_not_waited_for():
    with answering(silent) as server:
        with pytest.raises(UnreachableError, match="does not answer in time") as refused:
            timestamp(open_source(server.url, QUICK))
        assert "Try again later" in refused.value.hint


def test_a_server_that_falls_silent_half_way_is_not_waited_for():
    def answer(handler):
        body(b"half", length=8)(handler)
        silent(handler)

    wanted = pytest.raises(UnreachableError, match="does not answer in time")
    with answering(answer) as server, wanted:
        timestamp(open_source(server.url, QUICK))


def test_a_connection_that_is_closed_half_way_is_no_answer():
    wanted = pytest.raises(UnreachableError, match="closed half-way")
    with answering(body(b"half", length=8)) as server, wanted:
        timestamp(open_source(server.url))


def test_a_chunked_answer_that_is_cut_off_is_no_answer():
    def answer(handler):
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"4\r\nhalf\r\nff\r\nmissing")

    with answering(answer) as server, pytest.raises(UnreachableError, match="cannot be reached"):
        timestamp(open_source(server.url))


def test_what_comes_after_the_stated_length_is_not_read():
    with answering(body(b"{}{}{}", length=2)) as server:
        assert timestamp(open_source(server.url)) == b"{}"


def test_an_answer_without_a_length_is_taken_up_to_the_largest():
    with answering(body(b"{}", length="none")) as server:
        assert timestamp(open_source(server.url)) == b"{}"
    wanted = pytest.raises(DownloadLengthMismatchError)
    with answering(body(b"{}" * 600, length="none")) as server, wanted:
        timestamp(open_source(server.url))


@pytest.mark.parametrize("content", [gzip.compress(b"{}" * 100_000), b"{}"])
def test_a_compressed_answer_is_refused_whether_it_is_one_or_only_says_so(content):
    with answering(body(content, Content_Encoding="gzip")) as server:
        with pytest.raises(UnreachableError, match="compressed though it was asked not to"):
            timestamp(open_source(server.url))
        assert server.headers[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("status", [204, 206, 304, 401, 403, 404, 418, 429, 500, 503])
def test_only_a_plain_answer_is_one(status):
    with answering(body(b"", status=status)) as server:
        with pytest.raises(DownloadHTTPError) as refused:
            timestamp(open_source(server.url))
        assert refused.value.status_code == status


@pytest.mark.parametrize(
    "rubbish", [b"", b"\x16\x03\x01\x02", b"SSH-2.0-x\r\n", b"HTTP/1.1 abc\r\n\r\n"]
)
def test_something_that_does_not_speak_http_is_no_repository(rubbish):
    def answer(handler):
        handler.wfile.write(rubbish)

    with answering(answer) as server, pytest.raises(UnreachableError):
        timestamp(open_source(server.url, QUICK))


def test_a_thousand_headers_are_no_answer():
    def answer(handler):
        body(b"{}", **{f"X{n}": "y" for n in range(1000)})(handler)

    with answering(answer) as server, pytest.raises(UnreachableError):
        timestamp(open_source(server.url))


def test_a_refused_connection_says_so():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UnreachableError, match="Connection refused"):
        timestamp(open_source(f"http://127.0.0.1:{port}"))


def test_a_name_that_does_not_exist_says_so():
    with pytest.raises(UnreachableError, match=r"https://bundles\.invalid cannot be reached"):
        timestamp(open_source("https://bundles.invalid", QUICK))


# Redirects.


def redirect(to):
    def answer(handler):
        body(b"", status=302, Location=to(handler) if callable(to) else to)(handler)

    return answer


def test_a_redirect_is_followed(repository):
    with contextlib.ExitStack() as running:
        there = running.enter_context(serving(repository))
        onward = redirect(lambda handler: there.url + handler.path)
        server = running.enter_context(answering(onward))
        assert timestamp(open_source(server.url)) == b"{}"


def test_a_relative_redirect_is_followed(repository):
    def answer(handler):
        if handler.path.startswith("/new"):
            body(b"{}")(handler)
        else:
            redirect("/new")(handler)

    with answering(answer) as server:
        assert timestamp(open_source(server.url)) == b"{}"
        assert server.asked == ["/metadata/timestamp.json", "/new"]


def test_redirects_that_never_end_are_given_up():
    with answering(redirect(lambda handler: handler.path + "x")) as server:
        with pytest.raises(UnreachableError, match="more than 3 times"):
            timestamp(open_source(server.url))
        assert len(server.asked) == 4


def test_what_a_redirect_holds_is_not_read(repository):
    began = []

    def answer(handler):
        handler.send_response(302)
        handler.send_header("Location", f"{there.url}{handler.path}")
        handler.end_headers()
        began.append(time.monotonic())
        with contextlib.suppress(OSError):
            while not handler.about.stopping.is_set():
                handler.wfile.write(b"x" * 65536)
        began.append(time.monotonic())

    with serving(repository) as there, answering(answer) as server:
        assert timestamp(open_source(server.url)) == b"{}"
    assert began[1] - began[0] < 100


def test_a_redirect_that_names_no_place_is_given_up():
    wanted = pytest.raises(UnreachableError, match="more than 3 times")
    with answering(body(b"", status=302)) as server, wanted:
        timestamp(open_source(server.url))


@pytest.mark.parametrize(
    "to",
    [
        "http://bundles.example.org/x",
        "file:///etc/passwd",
        "ftp://bundles.example.org/x",
        "data:application/json,{}",
        "//bundles.example.org/x",
        "http://bundles.example.org\\@127.0.0.1/",
        "http://[::1",
        "https://",
        "https://a:99999999/",
        "javascript:alert(1)",
    ],
)
def test_a_redirect_to_anything_but_https_is_refused(to):
    with answering(redirect(to)) as server:
        with pytest.raises(UnreachableError, match="which is not an https server") as refused:
            timestamp(open_source(server.url))
        assert "asks for a log-in" in refused.value.hint


def test_a_server_elsewhere_may_not_redirect_to_this_machine(tmp_path, monkeypatch, repository):
    known = authority(tmp_path, ("bundles.example.org",))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(known.bundle))
    with serving(repository) as inside, answering(redirect(inside.url), known.server) as server:
        with proxy(server.port) as way:
            monkeypatch.setenv("HTTPS_PROXY", way.url)
            with pytest.raises(UnreachableError, match="redirects"):
                timestamp(open_source("https://bundles.example.org"))
        assert inside.asked == []


# Certificates and proxies.


def test_an_authority_of_the_site_is_named_by_its_file(tmp_path, monkeypatch, repository):
    known = authority(tmp_path, ("localhost", "127.0.0.1"))
    with serving(repository, known.server) as server:
        for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.setenv(variable, str(known.bundle))
            assert timestamp(open_source(server.url)) == b"{}"
            monkeypatch.delenv(variable)


@pytest.mark.parametrize("variable", [None, "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_certificate_of_an_unknown_authority_is_refused_in_plain_words(
    tmp_path, monkeypatch, repository, variable
):
    unknown, other = (authority(tmp_path / n, ("127.0.0.1",)) for n in ("unknown", "other"))
    if variable:
        monkeypatch.setenv(variable, str(other.bundle))
    with serving(repository, unknown.server) as server:
        with pytest.raises(
            UnreachableError, match="a certificate that this machine does not"
        ) as no:
            timestamp(open_source(server.url))
        assert server.asked == []
    assert "REQUESTS_CA_BUNDLE" in no.value.hint
    assert "clock" in no.value.hint


@pytest.mark.parametrize(
    ("names", "days", "words"),
    [
        (("127.0.0.1",), (-40, -10), "expired"),
        (("127.0.0.1",), (10, 40), "not yet valid"),
        (("elsewhere.example.org",), (-1, 30), "mismatch"),
    ],
)
def test_a_certificate_for_another_time_or_name_is_refused(
    tmp_path, monkeypatch, repository, names, days, words
):
    known = authority(tmp_path, names, began_days=days[0], ends_days=days[1])
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(known.bundle))
    wanted = pytest.raises(UnreachableError, match=words)
    with serving(repository, known.server) as server, wanted:
        timestamp(open_source(server.url))


def test_a_bundle_of_authorities_that_is_not_there_is_said(tmp_path, monkeypatch, repository):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    known = authority(tmp_path, ("127.0.0.1",))
    wanted = pytest.raises(UnreachableError, match=r"missing\.pem")
    with serving(repository, known.server) as server, wanted:
        timestamp(open_source(server.url))


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize("kind", ["missing", "no certificates", "empty"])
def test_the_variable_that_names_no_usable_authorities_is_named(
    tmp_path, monkeypatch, repository, variable, kind
):
    if kind != "missing":
        (tmp_path / "site.pem").write_text("" if kind == "empty" else "certificates\n")
    monkeypatch.setenv(variable, str(tmp_path / "site.pem"))
    known = authority(tmp_path, ("127.0.0.1",))
    wanted = pytest.raises(UnreachableError, match=r"site\.pem cannot be used")
    with serving(repository, known.server) as server, wanted as refused:
        timestamp(open_source(server.url))
    assert variable in refused.value.hint
    assert "again later" not in refused.value.hint


def test_authorities_that_cannot_be_used_are_no_reason_where_none_are_needed(
    tmp_path, monkeypatch, repository
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    with serving(repository) as server:
        assert timestamp(open_source(server.url)) == b"{}"
    with pytest.raises(UnreachableError, match="cannot be reached: Connection refused"):
        timestamp(open_source("http://127.0.0.1:1"))


def test_an_https_repository_is_reached_through_a_proxy(tmp_path, monkeypatch, repository):
    known = authority(tmp_path, ("bundles.example.org",))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(known.bundle))
    with serving(repository, known.server) as server, proxy(server.port) as way:
        monkeypatch.setenv("HTTPS_PROXY", way.url)
        source = open_source("https://bundles.example.org/")
        assert timestamp(source) == b"{}"
        assert timestamp(source) == b"{}"
        assert way.asked == ["CONNECT bundles.example.org:443"]  # one connection is enough
        assert server.asked == 2 * ["/metadata/timestamp.json"]


def test_what_no_proxy_names_goes_to_no_proxy(tmp_path, monkeypatch, repository):
    with proxy(1) as way:
        monkeypatch.setenv("HTTPS_PROXY", way.url)
        monkeypatch.setenv("NO_PROXY", ".invalid")
        with pytest.raises(UnreachableError, match="cannot be reached"):
            timestamp(open_source("https://bundles.invalid", QUICK))
        assert way.asked == []


def test_what_this_machine_serves_itself_goes_to_no_proxy(monkeypatch, repository):
    with serving(repository) as server, proxy(1) as way:
        monkeypatch.setenv("HTTP_PROXY", way.url)
        monkeypatch.setenv("http_proxy", way.url)
        monkeypatch.setenv("ALL_PROXY", way.url)
        assert timestamp(open_source(server.url)) == b"{}"
        assert way.asked == []


@pytest.mark.parametrize("refusal", ["407 Proxy Authentication Required", "403 Forbidden"])
def test_a_proxy_that_refuses_is_named_as_the_reason(monkeypatch, refusal):
    with proxy(1, refuse=refusal) as way:
        monkeypatch.setenv("HTTPS_PROXY", way.url)
        with pytest.raises(UnreachableError, match=f"the proxy.*{refusal}") as refused:
            timestamp(open_source("https://bundles.example.org"))
    assert "HTTPS_PROXY" in refused.value.hint


def test_a_proxy_that_is_not_there_is_named_as_the_reason(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@127.0.0.1:1")
    with pytest.raises(UnreachableError, match="the proxy") as refused:
        timestamp(open_source("https://bundles.example.org", QUICK))
    assert "secret" not in refused.value.message + refused.value.hint


# What may be named as a repository.


@pytest.mark.parametrize(
    "place",
    [
        "http://bundles.example.org",
        "http://127.0.0.1.example.org",
        "http://192.168.1.1/x",
        "http://0.0.0.0",
        "http://localhost.example.org",
        "http://127.1",
        "ftp://bundles.example.org",
        "https://",
        "https:///path",
        "https://:443",
        "https://[::1",
        "https://host:port",
        "https://host:0",
        "https://host/?x=1",
        "https://host/#x",
        "https://host/a b",
        "https://host\\@127.0.0.1",
        "http://127.0.0.1\\.example.org",
        "https://host\n",
        "https://höst.example.org",
        "file://server/share",
        "file://",
        "://",
    ],
)
def test_a_place_of_another_kind_is_refused(place):
    with pytest.raises(InputError) as refused:
        open_source(place)
    assert refused.value.message


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.4.5.6", "[::1]", "LOCALHOST"])
def test_plain_http_may_be_used_on_this_machine_itself(host):
    assert open_source(f"http://{host}:8000/x").metadata_url == f"http://{host}:8000/x/metadata"


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30))
def test_whatever_follows_http_no_other_machine_is_asked(rest):
    import requests
    import urllib3

    try:
        source = open_source(f"http://{rest}")
    except InputError:
        return
    # The parsers of requests and of urllib3 must see the machine that was checked.
    sent = requests.Request("GET", source.metadata_url).prepare().url
    host = urllib3.util.parse_url(sent).host.strip("[]")
    assert host == "localhost" or host == "::1" or host.startswith("127.")


def test_a_password_in_the_url_is_used_and_never_shown():
    with answering(body(b"", status=500)) as server:
        place = server.url.replace("://", "://user:p%40ss@") + "/repo/"
        source = open_source(place)
        with pytest.raises(DownloadHTTPError) as refused:
            timestamp(source)
        assert server.headers[0]["Authorization"] == "Basic dXNlcjpwQHNz"
        told = f"{source.name} {source.metadata_url} {source.targets_url} {refused.value}"
    assert "p%40ss" not in told
    assert "user" not in told
    assert source.name == f"{server.url}/repo"


def test_a_password_stays_with_its_own_server():
    with answering(body(b"{}")) as there, answering(redirect(lambda _: there.url)) as server:
        source = open_source(server.url.replace("://", "://user:secret@"))
        assert timestamp(source) == b"{}"
        assert "Authorization" in server.headers[0]
        assert "Authorization" not in there.headers[0]


# Directories.


@pytest.mark.parametrize(
    "place", ["missing", "file", "link-to-itself", "bundles.example.org/x", "a\0b"]
)
def test_a_directory_that_is_not_there_is_unreachable(tmp_path, place):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link-to-itself").symlink_to(tmp_path / "link-to-itself")
    with pytest.raises(UnreachableError, match="there is no directory"):
        open_source(str(tmp_path / place))


def test_a_link_within_the_repository_is_followed(repository):
    (repository / "metadata/timestamp.json").rename(repository / "metadata/5.timestamp.json")
    (repository / "metadata/timestamp.json").symlink_to("5.timestamp.json")
    assert timestamp(open_source(str(repository))) == b"{}"


def test_the_repository_itself_may_be_a_link(repository, tmp_path):
    (tmp_path / "stick").symlink_to(repository)
    assert timestamp(open_source(str(tmp_path / "stick"))) == b"{}"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_link_out_of_the_repository_is_refused(repository, tmp_path, kind):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/timestamp.json").write_text("secret")
    (repository / "metadata/timestamp.json").unlink()
    if kind == "file":
        (repository / "metadata/timestamp.json").symlink_to(tmp_path / "outside/timestamp.json")
    else:
        (repository / "metadata").rmdir()
        (repository / "metadata").symlink_to(tmp_path / "outside")
    with pytest.raises(UntrustedError, match="leads out of the repository"):
        timestamp(open_source(str(repository)))


@pytest.mark.parametrize(
    "name", ["../x", "..%2Fx", "%2e%2e/x", "a/../x", "./x", "/x", "a//x", "%00"]
)
def test_a_name_that_climbs_is_refused(repository, name):
    (repository / "x").write_text("secret")
    source = open_source(str(repository))
    with pytest.raises(UntrustedError, match="leads out of the repository"):
        source.download_bytes(f"{source.targets_url}/{name}", 1000)


@pytest.mark.parametrize("kind", ["pipe", "directory", "socket"])
def test_only_regular_files_are_read(repository, kind):
    path = repository / "metadata/timestamp.json"
    path.unlink()
    with contextlib.ExitStack() as open_here:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "directory":
            path.mkdir()
        else:
            listening = open_here.enter_context(socket.socket(socket.AF_UNIX))
            open_here.enter_context(contextlib.chdir(path.parent))  # its path is bounded
            listening.bind(path.name)
        with pytest.raises((UntrustedError, UnreachableError)):
            timestamp(open_source(str(repository)))


def test_a_stick_that_is_pulled_out_is_an_empty_one(repository, tmp_path):
    source = open_source(str(repository))
    repository.rename(tmp_path / "elsewhere")
    with pytest.raises(DownloadHTTPError):
        timestamp(source)


def test_a_medium_that_hangs_ends_with_the_time_for_a_whole_file(repository, monkeypatch):
    let_go = threading.Event()
    real = os.open
    monkeypatch.setattr(os, "open", lambda *a: (let_go.wait(20), real(*a))[1])
    source = open_source(str(repository), QUICK)
    try:
        with pytest.raises(UnreachableError, match="took longer"):
            timestamp(source)
    finally:
        let_go.set()


def test_a_name_with_a_space_or_a_percent_sign_is_found(tmp_path):
    (tmp_path / "a 100% stick/metadata").mkdir(parents=True)
    (tmp_path / "a 100% stick/metadata/timestamp.json").write_text("{}")
    assert timestamp(open_source(str(tmp_path / "a 100% stick"))) == b"{}"
    assert timestamp(open_source((tmp_path / "a 100% stick").as_uri())) == b"{}"


def test_the_limits_of_production_are_those_documented():
    assert (LIMITS.connect_s, LIMITS.read_s, LIMITS.whole_s) == (10, 20, 120)
    assert (LIMITS.redirects, LIMITS.largest) == (3, 5 * 2**20)
    assert (LIMITS.all_s, LIMITS.roots) == (600, 256)


def test_commands_that_need_no_repository_do_not_import_what_it_takes():
    code = (
        "import agent.commands.root, sys;"
        " print([m for m in ('tuf', 'requests', 'cryptography') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
