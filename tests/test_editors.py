"""What an editor makes of our schema: a real yaml-language-server is asked as an editor asks it, over stdio.

`reconciler schema` is only worth what editors complete and check by it, and the server has its own ideas: it reads the
modeline of each document for itself, and of a union it shows what it takes for the nearest member.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from reconciler import catalogue, kinds
from reconciler.render.explain import entry

REPOSITORY = Path(__file__).parent.parent
SERVER = os.environ.get("RECONCILER_TEST_YAML_LANGUAGE_SERVER") or shutil.which("yaml-language-server")
SAMPLES = sorted((REPOSITORY / "manifests").glob("*/*.yaml"))
OFFERED = catalogue.load().for_profile("2026")
MODELINE = "# yaml-language-server: $schema=reconciler.schema.json\n"
DOCUMENTS = """\
apiVersion: bailian.reconciler/v1alpha1
kind: Stack
metadata: {name: tiny}
spec:
  endpoint: emulator
  profile: "2026"
  budget: {onceCny: 100, deleteShare: 10%}
---
apiVersion: bailian.reconciler/v1alpha1
kind: Dataset
metadata: {name: rows, labels: {team: one}}
spec:
  source: [data/*.jsonl]
  format: sft
  split: {validation: 0.1}
lifecycle: {observeOnly: true}
---
apiVersion: bailian.reconciler/v1alpha1
kind: FineTuneJob
metadata: {name: tuned}
spec:
  model: qwen3.5-9b
  trainingType: efficient_sft
  training: [rows]
  hyperParameters:
    n_epochs: 1
    learning_rate: 1e-4
    weight_decay: "0.1"
    lr_scheduler_type: COSINE
    not_in_the_catalogue: 7
lifecycle:
  adoption: IfExists
  keepLast: 3
---
apiVersion: bailian.reconciler/v1alpha1
kind: Deployment
metadata: {name: prod}
spec:
  model: {fineTuneJob: tuned}
  plan: mu
  deploySpec: MU1
  capacity: 4
  limits: {rpm: 60}
lifecycle: {deletionPolicy: Protect}
---
apiVersion: bailian.reconciler/v1alpha1
kind: HotwordTable
metadata: {name: meds}
spec:
  targetModel: paraformer-v2
  words:
    - {text: 吉非替尼, weight: 3, lang: zh}
"""


def modelined(text: str) -> str:
    return MODELINE + text.replace("---\n", f"---\n{MODELINE}")


class Said(NamedTuple):
    """A diagnostic; lines count from 0."""

    line: int
    message: str


class Editor:
    """The editor's side of the protocol: one request at a time, and a file is never changed once it is open."""

    def __init__(self, command: str, folder: Path) -> None:
        self.folder, self.numbers = folder, count(1)
        self.server = subprocess.Popen([command, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder)
        uri = folder.as_uri()
        folders = [{"uri": uri, "name": folder.name}]
        able = {"workspace": {"configuration": True, "workspaceFolders": True}, "textDocument": {"hover": {}}}
        self.ask("initialize", processId=os.getpid(), rootUri=uri, capabilities=able, workspaceFolders=folders)
        self.tell("initialized")

    def open(self, text: str, path: Path | None = None) -> str:
        """The uri of a new file, or of one that is there."""
        uri = (path or self.folder / f"{next(self.numbers)}.yaml").as_uri()
        self.tell("textDocument/didOpen", textDocument={"uri": uri, "languageId": "yaml", "version": 1, "text": text})
        return uri

    def diagnostics(self, text: str, path: Path | None = None) -> list[Said]:
        uri = self.open(text, path)
        while True:
            message = self._next()
            if message.get("method") == "textDocument/publishDiagnostics" and message["params"]["uri"] == uri:
                found = [(one["range"]["start"]["line"], one["message"]) for one in message["params"]["diagnostics"]]
                return sorted(Said(*one) for one in found)

    def completions(self, text: str) -> set[str]:
        """What is offered where the text has a `|`."""
        before, after = text.split("|")
        answer = self.ask("textDocument/completion", **self._place(self.open(before + after), before))
        return {item["label"] for item in answer["items"]}

    def hover(self, text: str, word: str) -> str:
        """What is shown over the last place of a word."""
        answer = self.ask("textDocument/hover", **self._place(self.open(text), text[: text.rindex(word) + 1]))
        return str(answer["contents"]["value"])

    def _place(self, uri: str, before: str) -> Mapping[str, Any]:
        *lines, last = before.split("\n")
        return {"textDocument": {"uri": uri}, "position": {"line": len(lines), "character": len(last)}}

    def ask(self, method: str, **params: Any) -> Any:
        number = next(self.numbers)
        self._send(id=number, method=method, params=params)
        while True:
            message = self._next()
            if message.get("id") == number and "method" not in message:
                return message["result"]

    def tell(self, method: str, **params: Any) -> None:
        self._send(method=method, params=params)

    def _next(self) -> dict[str, Any]:
        """The server's next message. What it asks of an editor is answered: it may look up nothing elsewhere."""
        assert self.server.stdout is not None
        size = 0
        while header := self.server.stdout.readline().strip():
            name, _, value = header.partition(b":")
            size = int(value) if name.lower() == b"content-length" else size
        assert size, "the server is gone"
        message: dict[str, Any] = json.loads(self.server.stdout.read(size))
        if "method" in message and "id" in message:
            items = message["params"]["items"] if message["method"] == "workspace/configuration" else []
            settings = {"yaml": {"schemaStore": {"enable": False}, "validate": True, "hover": True, "completion": True}}
            self._send(id=message["id"], result=[settings.get(item["section"], {}) for item in items] or None)
        return message

    def _send(self, **message: Any) -> None:
        assert self.server.stdin is not None
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.server.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self.server.stdin.flush()

    def close(self) -> None:
        self.server.kill()
        self.server.communicate()


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    """An editor in a folder that holds the schema as the command writes it."""
    if not SERVER:
        missing = "there is no yaml-language-server here: npm install yaml-language-server, and put it on the PATH"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    folder = tmp_path_factory.mktemp("manifests")
    written = subprocess.run([sys.executable, "-m", "reconciler", "schema"], check=True, capture_output=True).stdout
    (folder / "reconciler.schema.json").write_bytes(written)
    opened = Editor(SERVER, folder)
    yield opened
    opened.close()


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_editor_finds_nothing_wrong_with_a_sample_and_looks_at_each_document(editor: Editor, path: Path) -> None:
    """By the modeline and the schema that lie in the repository. Without a modeline a document is not looked at."""
    text = path.read_text(encoding="utf-8")
    assert editor.diagnostics(text, path) == []
    spoilt = re.sub(r"^(?=---\n)|\Z", "unheardOf: 1\n", text, flags=re.M)
    messages = [said.message for said in editor.diagnostics(spoilt, path.with_name(f"spoilt-{path.name}"))]
    assert messages == ["Property unheardOf is not allowed."] * len(re.findall("^kind:", text, re.M))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_editor_looks_at_each_document_that_init_writes(editor: Editor, tmp_path: Path, language: str) -> None:
    command = [sys.executable, "-m", "reconciler", "init", str(tmp_path / "new"), "--lang", language]
    subprocess.run(command, check=True, capture_output=True)
    for path in sorted((tmp_path / "new").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        assert editor.diagnostics(text, path) == []
        spoilt = text.replace("\nspec:", "\nspce:")
        found = editor.diagnostics(spoilt, path.with_name(f"spoilt-{path.name}"))
        assert sum("spce is not allowed" in said.message for said in found) == spoilt.count("\nspce:") > 0


def test_every_kind_stands_in_one_file(editor: Editor) -> None:
    """Also what only the catalogue knows: text for a number, either case of a word, a key that it has not."""
    assert editor.diagnostics(modelined(DOCUMENTS)) == []


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("  capacity: 4", "  capcity: 4", "Property capcity is not allowed."),
        ("  capacity: 4", "  capacity: four", 'Incorrect type. Expected "integer".'),
        ("  capacity: 4", "  capacity: 4000", "Value is above the exclusive maximum of 1000."),
        ("  capacity: 4", "  capacity:", 'Incorrect type. Expected "integer".'),
        ("  plan: mu", "  plan: mo", 'Value is not accepted. Valid values: "mu", "lora", "ptu", "cu".'),
        ("  limits: {rpm: 60}", "  limits: {rmp: 60}", "Property rmp is not allowed."),
        ("  limits: {rpm: 60}", "  deployedModel: mine", "Property deployedModel is not allowed."),
        ("    n_epochs: 1", "    n_epochs: 1000", "Value is above the maximum of 200."),
        ("  adoption: IfExists", "  adoption: ifExists", '"Never", "IfExists", "Required"'),
        ("  keepLast: 3", "  keepLast: three", 'Incorrect type. Expected "integer".'),
        ("lifecycle: {deletionPolicy: Protect}", "lifecycle: {deletePolicy: Protect}", "deletePolicy is not allowed."),
        ("kind: HotwordTable", "kind: HotWordTable", "Value must be"),
        ("    - {text: 吉非替尼, weight: 3,", "    - {text: 吉非替尼, weight: x,", 'Expected "integer".'),
        ("  endpoint: emulator", "  endpoint: paris", '"emulator", "beijing", "singapore"'),
        ("{onceCny: 100,", "{onceCny: a lot,", 'Incorrect type. Expected "number".'),
        ("deleteShare: 10%", "deleteShare: 10", 'Incorrect type. Expected "string".'),
    ],
)
def test_a_mistake_is_shown_once_and_in_its_line(editor: Editor, right: str, wrong: str, message: str) -> None:
    text = modelined(DOCUMENTS)
    assert text.count(right) == 1
    (said,) = editor.diagnostics(text.replace(right, wrong))
    assert said.line == text[: text.index(right)].count("\n")
    assert message in said.message


@pytest.mark.parametrize(
    ("right", "typing", "offered"),
    [
        ("  capacity: 4", "  |", {"capacity", "ptuCapacity", "suffix", "enableThinking", "maxContextLength", "smoke"}),
        ("  plan: mu", "  plan: |", {"mu", "lora", "ptu", "cu"}),
        ("limits: {rpm: 60}", "limits:\n    |", {"rpm", "tpm"}),
        ("  adoption: IfExists", "  adoption: |", {"Never", "IfExists", "Required"}),
        ("  keepLast: 3", "  |", {"keepLast", "deletionPolicy", "ignore", "observeOnly"}),
        ("    not_in_the_catalogue: 7", "    |", {"batch_size", "max_length", "lora_rank"}),
        ("    lr_scheduler_type: COSINE", "    lr_scheduler_type: |", {"linear", "cosine", "constant"}),
        ("  endpoint: emulator", "  endpoint: |", {"emulator", "beijing", "singapore"}),
    ],
)
def test_what_may_stand_there_is_offered(editor: Editor, right: str, typing: str, offered: set[str]) -> None:
    assert DOCUMENTS.count(right) == 1
    labels = editor.completions(modelined(DOCUMENTS).replace(right, typing))
    assert offered <= labels
    assert "deployedModel" not in labels, "it is chosen by the service"


def test_every_kind_is_offered_for_a_new_document_of_a_file(editor: Editor) -> None:
    begun = modelined(f"{DOCUMENTS}---\napiVersion: bailian.reconciler/v1alpha1\nkind: |\n")
    assert editor.completions(begun) == set(kinds.KINDS)


@pytest.mark.parametrize(
    "path",
    [
        *("Deployment.capacity", "Deployment.limits", "Deployment.lifecycle.deletionPolicy", "Stack.budget.onceCny"),
        *("FineTuneJob.hyperParameters.n_epochs", "HotwordTable.words.weight", "FineTuneJob.lifecycle.keepLast"),
    ],
)
def test_what_is_shown_over_a_field_is_what_explain_says_of_it(editor: Editor, path: str) -> None:
    about = entry(path.split("."), kinds.KINDS, OFFERED).about
    shown = editor.hover(modelined(DOCUMENTS), f"{path.rpartition('.')[2]}:")
    assert about in re.sub(r"\\([^\w\s])", r"\1", shown)
