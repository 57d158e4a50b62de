# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A client of kvasir-lsp-server that prints what an editor would show.

lsp_client.py SERVER STEP...   with the steps
  open FILE           opens the file as file:///FILE's name and prints its diagnostics
  hover TEXT          hovers over the first place of TEXT
  complete TEXT       asks for completions behind the first place of TEXT, and prints their labels
  define TEXT         prints where the value at the first place of TEXT is defined
  replace OLD NEW     replaces the first OLD and prints the diagnostics

Lines and columns are printed as editors count them, from 1.
"""
import json
import subprocess
import sys

ANSWER_WITHIN = 60


class Client:
    def __init__(self, server):
        self.server = subprocess.Popen([server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.uri, self.text, self.version, self.last_id = None, "", 0, 0
        answer = self.request("initialize", {"processId": None, "rootUri": None, "capabilities": {}})
        sync = answer["capabilities"]["textDocumentSync"]
        assert sync["change"] == 1, sync  # whole texts
        self.notify("initialized", {})

    def send(self, message):
        data = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.server.stdin.write(b"Content-Length: %d\r\n\r\n" % len(data) + data)
        self.server.stdin.flush()

    def receive(self):
        length = None
        while (line := self.server.stdout.readline().strip()):
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        assert length is not None, "the server ended"
        return json.loads(self.server.stdout.read(length))

    def notify(self, method, params):
        self.send({"method": method, "params": params})

    def request(self, method, params):
        self.last_id += 1
        self.send({"id": self.last_id, "method": method, "params": params})
        while (message := self.receive()).get("id") != self.last_id:
            pass
        assert "error" not in message, message
        return message["result"]

    def diagnostics(self):
        while (message := self.receive()).get("method") != "textDocument/publishDiagnostics":
            pass
        assert message["params"]["uri"] == self.uri, message
        found = message["params"]["diagnostics"]
        for one in found:
            start = one["range"]["start"]
            print(f"{start['line'] + 1}:{start['character'] + 1}: {one['message']}")
        print(f"{len(found)} diagnostics")

    def place(self, text, behind=False):
        offset = self.text.index(text) + (len(text) if behind else 0)
        before = self.text[:offset]
        return {"line": before.count("\n"), "character": offset - (before.rfind("\n") + 1)}

    def at(self, text, behind=False):
        return {"textDocument": {"uri": self.uri}, "position": self.place(text, behind)}

    def open(self, path):
        with open(path) as file:
            self.text = file.read()
        self.uri = "file:///" + path.replace("\\", "/").rsplit("/", 1)[-1]
        document = {"uri": self.uri, "languageId": "mlir", "version": self.version, "text": self.text}
        self.notify("textDocument/didOpen", {"textDocument": document})
        self.diagnostics()

    def hover(self, text):
        result = self.request("textDocument/hover", self.at(text))
        print(result["contents"]["value"] if result else "nothing")
        if result and "range" in result:
            start = result["range"]["start"]
            print(f"hover at {start['line'] + 1}:{start['character'] + 1}")

    def complete(self, text):
        for item in self.request("textDocument/completion", self.at(text, behind=True))["items"]:
            print("completion", item["label"])

    def define(self, text):
        for place in self.request("textDocument/definition", self.at(text)):
            start = place["range"]["start"]
            print(f"defined at {start['line'] + 1}:{start['character'] + 1}")

    def replace(self, old, new):
        assert old in self.text, old
        self.text = self.text.replace(old, new, 1)
        self.version += 1
        document = {"uri": self.uri, "version": self.version}
        self.notify("textDocument/didChange", {"textDocument": document, "contentChanges": [{"text": self.text}]})
        self.diagnostics()

    def quit(self):
        self.request("shutdown", None)
        self.notify("exit", None)
        print("exit code", self.server.wait(ANSWER_WITHIN))


STEPS = {"open": 1, "hover": 1, "complete": 1, "define": 1, "replace": 2}


def main(server, *words):
    client = Client(server)
    words = list(words)
    while words:
        step = words.pop(0)
        arguments = [words.pop(0) for _ in range(STEPS[step])]
        getattr(client, step)(*arguments)
    client.quit()


if __name__ == "__main__":
    main(*sys.argv[1:])
