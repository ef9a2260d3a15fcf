"""An identity provider in a few lines: real sockets, real signatures, and lies on request."""

import base64
import contextlib
import gzip
import hashlib
import http.server
import json
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

CLIENT, SECRET = "fleet", "a secret of the client"


@dataclass
class Provider:
    """Signs for whoever asks; ``lies`` replace claims, headers of the token, or the key."""

    port: int = 0
    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "k"}))
    lies: dict = field(default_factory=dict)
    codes: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)

    @property
    def issuer(self):
        return f"http://127.0.0.1:{self.port}"

    def authorize(self, query):
        """Somebody has signed in there: the address to send their browser back to."""
        code = f"code-{len(self.codes)}"
        self.codes[code] = query
        return f"{query['redirect_uri']}?code={code}&state={query['state']}"

    def discovery(self):
        return {
            "issuer": self.lies.get("discovered", self.issuer),
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
        }

    def token(self, form, authorization):
        """The ID token for a code; once, and only for who knows secret and verifier."""
        known = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        query = self.codes.pop(form["code"])
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        assert authorization == f"Basic {known.replace('%20', '+')}" or "Basic" in authorization
        assert challenge == query["code_challenge"]
        assert form["redirect_uri"] == query["redirect_uri"]
        claims = {
            "iss": self.issuer, "aud": CLIENT, "sub": "1234", "email": "ada@example.org",
            "email_verified": True, "nonce": query["nonce"], "iat": int(time.time()),
            "exp": int(time.time()) + 300,
        } | self.lies.get("claims", {})  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": "ES256", "kid": "k"} | self.lies.get("header", {})
        return {"id_token": self._signed(header, claims), "token_type": "Bearer"}

    def _signed(self, header, claims):
        if header["alg"] == "none":
            parts = [json.dumps(x).encode() for x in (header, claims)]
            encoded = [base64.urlsafe_b64encode(x).rstrip(b"=").decode() for x in parts]
            return ".".join([*encoded, ""])
        key = self.lies.get("key", self.key)
        if header["alg"] == "HS256":  # the public key as a shared secret
            key = OctKey.import_key(json.dumps(self.key.as_dict(private=False)))
        return jwt.encode(header, claims, key, algorithms=[header["alg"]])


@contextlib.contextmanager
def provider():
    """A provider at work."""
    made = Provider()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path = urlsplit(self.path).path
            made.asked.append(path)
            if path == "/keys":
                self._answer({"keys": [made.key.as_dict(private=False)]})
            else:
                self._answer(made.discovery())

        def do_POST(self):
            made.asked.append(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self._answer(made.token(form, self.headers["Authorization"]))

        def _answer(self, body):
            if until := made.lies.get("until"):
                until.wait(100)
            content = json.dumps(body).encode()
            if made.lies.get("endless"):
                content = b"[" * (1 << 20)
            length = len(content) + (9 if made.lies.get("cut") else 0)
            encoding = made.lies.get("encoding")
            if made.lies.get("packed"):
                content, encoding = gzip.compress(content), "gzip"
                length = len(content)
            self.send_response(200)
            if encoding:
                self.send_header("Content-Encoding", encoding)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
