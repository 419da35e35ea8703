"""Certificates for a far end that speaks TLS, made on the spot: nothing that could expire lies in the repository."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

_CONFIG = """
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[host]
basicConstraints = CA:false
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {host}
[ca]
default_ca = here
[here]
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
unique_subject = no
default_md = sha256
policy = anyone
[anyone]
commonName = supplied
"""


class Authority:
    """Somebody who signs certificates, trusted by whoever names `file`."""

    def __init__(self, folder: Path) -> None:
        """Where there is no `openssl`, a test that needs it is skipped, and fails in CI."""
        if shutil.which("openssl") is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)("the openssl command is not on this machine")
        self.folder, self.file = folder, folder / "ca.pem"
        folder.mkdir()
        (folder / "index.txt").touch()
        self._request("ca", "-x509", "-extensions", "authority", "-days", "2", "-out", str(self.file))

    def signed(self, host: str, *, expired: bool = False, by_itself: bool = False) -> ssl.SSLContext:
        """What a server needs to prove that it is `host`, such as `IP:127.0.0.1`, by a new certificate."""
        out = self.folder / "host.pem"
        if by_itself:
            self._request("host", "-x509", "-extensions", "host", "-days", "2", "-out", str(out), host=host)
        else:
            years = ("20200101000000Z", "20210101000000Z") if expired else ("20200101000000Z", "20480101000000Z")
            asked = self.folder / "host.csr"
            self._request("host", "-out", str(asked), host=host)
            dates = ("-startdate", years[0], "-enddate", years[1])
            signer = ("-cert", str(self.file), "-keyfile", str(self.folder / "ca.key"), "-extensions", "host")
            self._openssl("ca", "-batch", "-notext", "-in", str(asked), "-out", str(out), *signer, *dates)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(out, self.folder / "host.key")
        return context

    def _request(self, name: str, *arguments: str, host: str = "DNS:nobody") -> None:
        config = _CONFIG.format(name=name, host=host, folder=self.folder)
        (self.folder / "openssl.cnf").write_text(config)
        key = ("-newkey", "rsa:2048", "-nodes", "-keyout", str(self.folder / f"{name}.key"))
        self._openssl("req", "-new", *key, *arguments)

    def _openssl(self, command: str, *arguments: str) -> None:
        config = ("-config", str(self.folder / "openssl.cnf"))
        done = subprocess.run(["openssl", command, *config, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
