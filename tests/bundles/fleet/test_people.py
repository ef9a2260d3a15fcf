"""Who may read, and how they come in: a password, a proxy's word, an identity provider's."""

import contextlib
import http.client
import itertools
import json
import re
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from http.cookies import SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from fleets import HANGS_S, NOW, STILL, centre, report
from joserfc.jwk import ECKey
from provider import CLIENT, SECRET, provider
from sqlalchemy import func, select

from bundles.fleet.access import credentials, oidc
from bundles.fleet.access.oidc import ProviderDesk
from bundles.fleet.settings import OidcProvider
from bundles.fleet.storage.database import open_database
from bundles.fleet.storage.schema import sessions, tokens, users

NOW_S = int(NOW.timestamp())
PASSWORD = "correct horse battery"
NUMBERS = itertools.count()
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Visitor:
    """A browser's cookies and headers, without the browser."""

    def __init__(self, made):
        self.made, self.cookies = made, {}

    def ask(self, method, path, fields=None, **headers):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        body = urlencode(fields) if fields is not None else None
        connection = http.client.HTTPConnection("127.0.0.1", self.made.port, timeout=HANGS_S)
        with contextlib.closing(connection):
            connection.request(method, path, body, sent | (FORM if body is not None else {}))
            answer = connection.getresponse()
            text = answer.read().decode()
            for line in answer.headers.get_all("Set-Cookie") or ():
                for name, morsel in SimpleCookie(line).items():
                    self.cookies[name] = morsel.value
                    if not morsel.value or morsel["max-age"] == "0":
                        del self.cookies[name]
            return answer, text

    def form(self, path="/login"):
        return re.search(r'name="form" value="(\w+)"', self.ask("GET", path)[1])[1]

    def sign_in(self, name, password=PASSWORD, **other):
        fields = {"form": self.form(), "name": name, "password": password} | other
        return self.ask("POST", "/login", fields)[0]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def place(request, tmp_path_factory):
    """A centre for all of these tests, and its database."""
    address = f"sqlite:///{tmp_path_factory.mktemp('people') / 'fleet.db'}"
    if request.param == "postgresql":
        address = request.getfixturevalue("cluster").make("people")
    database = open_database(address)
    with centre(address) as made:
        yield made, database
    database.close()


@pytest.fixture
def served(place):
    return place[0]


@pytest.fixture
def database(place):
    return place[1]


@pytest.fixture
def name(database):
    """Somebody new, whom nobody has tried to be yet."""
    made = f"ada{next(NUMBERS)}"
    credentials.set_password(database, made, PASSWORD)
    return made


def test_who_knows_the_password_comes_in_and_out_again(served, name):
    ada = Visitor(served)
    assert ada.ask("GET", "/")[0].headers["Location"] == "/login"
    assert ada.sign_in(name).headers["Location"] == "/"
    assert ada.ask("GET", "/")[0].status == 200
    assert ada.ask("GET", "/v1/cells.csv")[0].status == 200
    stolen = dict(ada.cookies)
    assert ada.ask("POST", "/logout", {"form": ada.form("/")})[0].headers["Location"] == "/login"
    ada.cookies = stolen
    assert ada.ask("GET", "/")[0].status == 303  # the session is over, not only forgotten here


@pytest.mark.parametrize(
    ("said", "password"),
    [("NAME", "wrong horse battery"), ("bob", PASSWORD), ("", ""), ("NAME' OR '1'='1", PASSWORD),
     ("NAME' --", "x"), ("NAME\x00", PASSWORD), ("<script>", "x" * 2000)],
)  # fmt: skip
def test_who_does_not_know_it_stays_outside(served, name, said, password):
    visitor = Visitor(served)
    answer = visitor.sign_in(said.replace("NAME", name), password)
    assert answer.status == 403
    assert visitor.ask("GET", "/")[0].status == 303
    assert "<script>" not in visitor.ask("GET", "/login")[1]


@pytest.fixture
def quiet(tmp_path):
    """A centre of one test's own, for ada, and its database; it forgets no try."""
    address = f"sqlite:///{tmp_path / 'fleet.db'}"
    database = open_database(address)
    credentials.set_password(database, "ada", PASSWORD)
    with centre(address, first=STILL) as made:
        yield made, database
    database.close()


def test_a_password_cannot_be_guessed_quickly(quiet):
    visitor = Visitor(quiet[0])
    answers = [visitor.sign_in("ada", f"wrong horse {n}").status for n in range(8)]
    assert answers == [403] * 6 + [429] * 2
    assert visitor.sign_in("ada").status == 429  # the right one too: nothing is told


def test_nobody_is_kept_out_by_who_tries_their_name(quiet):
    made, database = quiet
    ada, stranger = Visitor(made), Visitor(made)
    assert ada.sign_in("ada").status == 303
    assert [stranger.sign_in("ada", "wrong").status for _ in range(6)] == [403] * 5 + [429]
    assert stranger.sign_in("ada").status == 429
    assert ada.sign_in("ada").status == 303
    for forged in ("x.y", "x", ".", f"x.{ada.cookies['fleet-known'].split('.')[1]}"):
        stranger.cookies["fleet-known"] = forged
        assert stranger.sign_in("ada").status == 429
    # Her browser may try as often as anybody, and no more; for another name it is a stranger.
    tries = [ada.sign_in("ada", "wrong").status for _ in range(7)]
    assert (tries[0], tries[-1]) == (403, 429)
    credentials.set_password(database, "bob", PASSWORD)
    assert ada.sign_in("bob").status == 303
    # A new password makes strangers of all.
    bob = dict(ada.cookies)
    credentials.set_password(database, "bob", PASSWORD + "!")
    for _ in range(6):
        stranger.sign_in("bob", "wrong")
    ada.cookies = bob
    assert ada.sign_in("bob", PASSWORD + "!").status == 429


def test_passwords_are_hashed_as_their_library_advises():
    """In a process of its own: the others of these tests hash cheaply."""
    asked = (
        "from argon2 import PasswordHasher, extract_parameters as of\n"
        "from bundles.fleet.access import credentials\n"
        "assert of(credentials._NOBODY) == of(PasswordHasher().hash('any'))"
    )
    subprocess.run([sys.executable, "-c", asked], check=True)


def test_a_flood_of_names_is_turned_away_and_who_is_known_comes_in(quiet):
    made, _ = quiet
    ada, stranger = Visitor(made), Visitor(made)
    assert ada.sign_in("ada").status == 303
    fields = {"form": stranger.form(), "password": "wrong"}
    sent = {"Cookie": f"fleet-visitor={stranger.cookies['fleet-visitor']}"} | FORM

    def one(number):
        return made.ask("POST", "/login", urlencode(fields | {"name": f"n{number}"}), sent)

    with ThreadPoolExecutor(150) as strangers:
        tried = [strangers.submit(one, number) for number in range(300)]
        assert ada.sign_in("ada").status == 303
        answers = [each.result() for each in tried]
    assert {status for status, *_ in answers} == {403, 429}
    assert sum(status == 403 for status, *_ in answers) < 60  # ada's first was one of them
    for status, headers, body in answers:
        if status == 429:
            assert 1 <= int(headers["retry-after"]) <= 60
            words = f"Too many tries. Try again in {headers['retry-after']} s."
            assert f'role="alert">{words}<' in body.decode()


def test_signing_in_again_ends_the_session_before_and_its_forms(served, name):
    ada = Visitor(served)
    ada.sign_in(name)
    before, form = dict(ada.cookies), ada.form("/")
    assert ada.sign_in(name).status == 303
    after = dict(ada.cookies)
    for what in ("fleet-session", "fleet-visitor"):
        assert before[what] != after[what]
    assert ada.ask("GET", "/")[0].status == 200
    assert ada.ask("POST", "/logout", {"form": form})[0].status == 403
    ada.cookies = before
    assert ada.ask("GET", "/")[0].status == 303


def test_a_new_password_ends_the_sessions_there_were(served, database, name):
    ada = Visitor(served)
    ada.sign_in(name)
    assert ada.ask("GET", "/")[0].status == 200
    credentials.set_password(database, name, "another horse battery")
    assert ada.ask("GET", "/")[0].status == 303


def test_a_session_that_is_over_is_over(served, database):
    ada = Visitor(served)
    ada.cookies["fleet-session"] = credentials.start_session(database, "ada", NOW_S)
    assert ada.ask("GET", "/")[0].status == 200
    ada.cookies["fleet-session"] = credentials.start_session(
        database, "ada", NOW_S - credentials.SESSION_S
    )
    assert ada.ask("GET", "/")[0].status == 303


@pytest.mark.parametrize(
    "forged",
    [
        {"form": ""},
        {"form": "0" * 64},
        {"headers": {"Origin": "https://evil.example"}},
        {"headers": {"Origin": "null"}},
        {"headers": {"Sec_Fetch_Site": "cross-site"}},
        {"headers": {"Sec_Fetch_Site": "same-site"}},
        {"cookies": {}},
    ],
)
def test_a_form_of_another_site_does_nothing(served, name, forged):
    ada = Visitor(served)
    ada.sign_in(name)
    fields = {"form": forged.get("form", ada.form("/"))}
    kept = ada.cookies
    ada.cookies = forged.get("cookies", kept)
    assert ada.ask("POST", "/logout", fields, **forged.get("headers", {}))[0].status == 403
    ada.cookies = kept
    assert ada.ask("GET", "/")[0].status == 200


def test_a_form_of_one_browser_is_of_no_use_in_another(served, name):
    """Or else an attacker could sign a victim in as the attacker."""
    attacker, victim = Visitor(served), Visitor(served)
    victim.form()
    fields = {"form": attacker.form(), "name": name, "password": PASSWORD}
    assert victim.ask("POST", "/login", fields)[0].status == 403


@pytest.mark.parametrize(
    ("length", "kind", "status"),
    [("9000", FORM["Content-Type"], 413), ("x", FORM["Content-Type"], 400),
     ("10", "multipart/form-data; boundary=x", 400), ("10", "text/plain", 400)],
)  # fmt: skip
def test_what_is_no_form_of_ours_is_refused(served, length, kind, status):
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=HANGS_S)
    with contextlib.closing(connection):
        connection.putrequest("POST", "/login")
        connection.putheader("Content-Length", length)
        connection.putheader("Content-Type", kind)
        connection.endheaders(b"x" * 10)
        assert connection.getresponse().status == status


def test_cookies_and_headers_are_as_strict_as_they_can_be(tmp_path):
    address = f"sqlite:///{tmp_path / 'fleet.db'}"
    database = open_database(address)
    credentials.set_password(database, "ada", PASSWORD)
    database.close()
    with centre(address, "--public-url", "https://fleet.example") as made:
        visitor = Visitor(made)
        answer = visitor.ask("GET", "/login")[0]
        (cookie,) = answer.headers.get_all("Set-Cookie")
        assert cookie.startswith("__Host-fleet-visitor=")
        for word in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"):
            assert word.lower() in cookie.lower()
        assert visitor.sign_in("ada").status == 303
        for path in ("/", "/login", "/nowhere", "/v1/overview", "/static/style.css", "/health"):
            headers = visitor.ask("GET", path)[0].headers
            policy = headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'")
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Strict-Transport-Security"]
            assert "server" not in headers


# --- a proxy's word ---


@pytest.fixture(scope="module")
def proxied(tmp_path_factory):
    """A centre that takes the word of a proxy on this machine."""
    address = f"sqlite:///{tmp_path_factory.mktemp('proxied') / 'fleet.db'}"
    with centre(address, "--sign-in", "header", "--allow", "@example.org") as made:
        yield made


def test_a_proxys_word_is_taken_once_and_of_those_allowed(proxied):
    visitor = Visitor(proxied)
    assert visitor.ask("GET", "/", X_Forwarded_User="ada@example.org")[0].status == 200
    assert visitor.ask("GET", "/", X_Forwarded_User="ada@evil.example")[0].status == 303
    assert visitor.ask("GET", "/", X_Forwarded_User="")[0].status == 303
    assert visitor.ask("GET", "/")[0].status == 303
    assert visitor.ask("GET", "/login")[0].status == 403
    connection = http.client.HTTPConnection("127.0.0.1", proxied.port, timeout=HANGS_S)
    with contextlib.closing(connection):  # one from outside, one that the proxy added
        connection.putrequest("GET", "/")
        connection.putheader("X-Forwarded-User", "ada@example.org")
        connection.putheader("X-Forwarded-User", "bob@example.org")
        connection.endheaders()
        assert connection.getresponse().status == 303


def test_a_trailer_is_no_header(proxied):
    head = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    chunked = b"Transfer-Encoding: chunked\r\nTrailer: X-Forwarded-User\r\n\r\n0\r\n"
    name = b"X-Forwarded-User: ada@example.org\r\n\r\n"
    for sent, status in ((head + chunked + name, b"303"), (head + name, b"200")):
        with socket.create_connection(("127.0.0.1", proxied.port), timeout=HANGS_S) as opened:
            opened.sendall(sent)
            assert opened.recv(12) == b"HTTP/1.1 " + status


def test_no_name_but_its_own_leads_to_a_page(proxied):
    visitor = Visitor(proxied)
    for path in ("/", "/login", "/login/", "/bundle/", "/logout"):
        answer, text = visitor.ask("GET", path, Host="evil.example")
        assert answer.status in (404, 405, 421)
        assert "Location" not in answer.headers
        assert "evil.example" not in text
    assert visitor.ask("GET", "/login/")[0].status == 404  # and by its own it leads nowhere else
    assert visitor.ask("GET", "/health", Host="any.name.of.it")[0].status == 200


def test_a_proxy_elsewhere_is_not_believed(tmp_path):
    address = f"sqlite:///{tmp_path / 'fleet.db'}"
    with centre(address, "--sign-in", "header", "--proxy", "192.0.2.1") as made:
        assert Visitor(made).ask("GET", "/", X_Forwarded_User="ada")[0].status == 303


def test_a_header_means_nothing_where_people_sign_in_with_passwords(served):
    assert Visitor(served).ask("GET", "/", X_Forwarded_User="ada")[0].status == 303


# --- an identity provider's word ---


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    """A provider, and a centre that trusts it."""
    place = tmp_path_factory.mktemp("oidc")
    (place / "secret").write_text(SECRET + "\n")
    address = f"sqlite:///{place / 'fleet.db'}"
    database = open_database(address)
    with provider() as idp, centre(
        address, "--sign-in", "oidc", "--oidc-issuer", idp.issuer, "--oidc-client", CLIENT,
        "--oidc-secret-file", str(place / "secret"), "--allow", "ada@example.org",
    ) as made:  # fmt: skip
        yield idp, made, database
    database.close()


@pytest.fixture
def idp(identity):
    identity[0].lies.clear()
    return identity[0]


def set_out(visitor):
    """Where the provider would send this browser back to, once somebody signed in there."""
    answer, _ = visitor.ask("GET", "/login")
    assert answer.status == 303
    return dict(parse_qsl(urlsplit(answer.headers["Location"]).query))


def come_back(visitor, address):
    parts = urlsplit(address)
    return visitor.ask("GET", f"{parts.path}?{parts.query}")


def test_who_the_provider_vouches_for_comes_in(identity, idp):
    _, made, _ = identity
    ada = Visitor(made)
    query = set_out(ada)
    assert query["client_id"] == CLIENT
    assert query["code_challenge_method"] == "S256"
    answer, _ = come_back(ada, idp.authorize(query))
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    assert "ada@example.org" in ada.ask("GET", "/")[1]
    answer, text = ada.ask("POST", "/logout", {"form": ada.form("/")})
    assert (answer.status, "Signed out" in text) == (200, True)
    assert ada.ask("GET", "/")[0].status == 303


LIES = {
    "another issuer": {"claims": {"iss": "https://evil.example"}},
    "for another client": {"claims": {"aud": "other"}},
    "an answer to another question": {"claims": {"nonce": "x"}},
    "over": {"claims": {"exp": 1_000_000_000}},
    "without an end": {"claims": {"exp": None}},
    "of nobody": {"claims": {"sub": None}},
    "somebody else": {"claims": {"email": "eve@example.org"}},
    "an address nobody checked": {"claims": {"email_verified": False}},
    "an address of no certain standing": {"claims": {"email_verified": "true"}},
    "not signed": {"header": {"alg": "none"}},
    "signed with the public key": {"header": {"alg": "HS256"}},
    "signed by another": {"key": ECKey.generate_key("P-256", {"kid": "k"})},
    "without an end of its own": {"endless": True},
    "packed": {"packed": True},
    "not packed as it says": {"encoding": "gzip"},
    "cut off": {"cut": True},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_token_that_is_wrong_in_one_thing_lets_nobody_in(identity, idp, lie):
    _, made, _ = identity
    visitor = Visitor(made)
    back = idp.authorize(set_out(visitor))
    idp.lies |= lie
    answer, text = come_back(visitor, back)
    assert answer.status == 403
    assert "Traceback" not in made.said
    assert visitor.ask("GET", "/")[0].status == 303
    assert SECRET not in text


def test_a_provider_that_describes_another_is_asked_for_nothing():
    with provider() as idp:
        idp.lies["discovered"] = "https://evil.example"
        desk = ProviderDesk(OidcProvider(idp.issuer, CLIENT, SECRET))
        for _ in range(3):
            with pytest.raises(ValueError, match=r"another issuer|a moment ago"):
                desk.discovered()
        assert len(idp.asked) == 1


def test_a_provider_is_asked_once_what_it_is_and_nothing_is_kept_of_who_sets_out(identity, idp):
    _, made, database = identity
    set_out(Visitor(made))
    with database.reading() as connection:
        before = connection.execute(select(func.count()).select_from(sessions)).scalar_one()
    idp.asked.clear()
    for _ in range(5):
        set_out(Visitor(made))
    assert idp.asked == []
    with database.reading() as connection:
        after = connection.execute(select(func.count()).select_from(sessions)).scalar_one()
    assert after == before


def test_a_slow_provider_holds_up_nobody_but_those_few_who_wait_for_it(tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    with contextlib.ExitStack() as stack:
        idp = stack.enter_context(provider())
        made = stack.enter_context(centre(
            f"sqlite:///{tmp_path / 'fleet.db'}", "--without-tokens", "--sign-in", "oidc",
            "--oidc-issuer", idp.issuer, "--oidc-client", CLIENT,
            "--oidc-secret-file", str(tmp_path / "secret"),
            first="from bundles.fleet.access import oidc; oidc.WITHIN_S = (100, 100)",
        ))  # fmt: skip
        idp.lies["until"] = threading.Event()
        visitors = stack.enter_context(ThreadPoolExecutor(60))
        stack.callback(idp.lies["until"].set)
        asking = [visitors.submit(Visitor(made).ask, "GET", "/login") for _ in range(60)]
        few = oidc.AT_ONCE + oidc.MOST_WAITING
        turned_away = list(itertools.islice(as_completed(asking), 60 - few))
        assert {job.result()[0].status for job in turned_away} == {429}
        assert made.ask("GET", "/health")[0] == 200
        assert made.send(report(1))[0] == 202
        assert sum(not job.done() for job in asking) == few
        idp.lies["until"].set()
        assert {job.result()[0].status for job in asking} == {429, 303}
        assert len(idp.asked) == 1


def test_an_answer_is_taken_once_and_by_the_browser_that_asked(identity, idp):
    _, made, _ = identity
    victim, attacker = Visitor(made), Visitor(made)
    set_out(victim)
    assert come_back(victim, idp.authorize(set_out(attacker)))[0].status == 403
    ada = Visitor(made)
    back = idp.authorize(set_out(ada))
    trip = dict(ada.cookies)
    assert come_back(ada, back)[0].status == 303
    again = Visitor(made)
    again.cookies = trip
    assert come_back(again, back)[0].status == 403
    assert come_back(Visitor(made), back)[0].status == 403


def test_a_browser_on_its_way_to_the_provider_is_nobody_yet(identity, idp):
    _, made, _ = identity
    visitor = Visitor(made)
    set_out(visitor)
    visitor.cookies["fleet-session"] = visitor.cookies["fleet-trip"]
    assert visitor.ask("GET", "/")[0].status == 303
    assert visitor.ask("GET", "/v1/overview")[0].status == 401


def test_nobody_signs_in_with_a_password_there(identity, idp):
    _, made, database = identity
    credentials.set_password(database, "bob", PASSWORD)
    visitor = Visitor(made)
    visitor.cookies["fleet-visitor"] = "x"
    from bundles.fleet.access.people import form_secret

    fields = {"form": form_secret("x"), "name": "bob", "password": PASSWORD}
    assert visitor.ask("POST", "/login", fields)[0].status == 403


# --- what is kept of secrets ---


def test_no_secret_is_kept_as_it_is(database, name):
    secrets = [
        credentials.add_token(database, "north", "machine", NOW_S),
        credentials.start_session(database, "ada", NOW_S),
        PASSWORD,
    ]
    with database.reading() as connection:
        kept = repr([connection.execute(select(t)).all() for t in (tokens, users, sessions)])
    assert not any(secret in kept for secret in secrets)
    assert "$argon2id$" in kept


def test_a_name_is_taken_once_and_is_a_name(database):
    from agent.errors import InputError

    credentials.add_token(database, "plant", "machine", NOW_S)
    for wrong in ("plant", "", "x" * 65, "a\nb", "<b>", "'; --"):
        with pytest.raises(InputError):
            credentials.add_token(database, wrong, "machine", NOW_S)
    for short in ("", "short", "x" * 1025):
        with pytest.raises(InputError):
            credentials.set_password(database, "ada", short)


def test_an_answer_for_programs_is_json_whatever_happened(served):
    for path in ("/v1/nowhere", "/v1/overview", "/v1/verdict?bundle=a"):
        answer, text = Visitor(served).ask("GET", path)
        assert answer.status in (401, 404)
        assert set(json.loads(text)["error"]) == {"code", "message"}
