"""A model hub on this machine, which speaks as much of the hub's protocol as adapters need, and notes it."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeHub(ThreadingHTTPServer):
    """Repositories by name, each a list of commits: (commit, files)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, name: str, files: dict[str, bytes]) -> str:
        commits = self.repositories.setdefault(name, [])
        commit = hashlib.sha1(f"{name} {len(commits)}".encode()).hexdigest()
        commits.append((commit, files))
        return commit

    def at(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.repositories.get(name, [])
        if revision == "main":
            return commits[-1] if commits else None
        return next((one for one in commits if one[0] == revision), None)


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def log_message(self, *_: Any) -> None: ...

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _say(self, status: int, content: Any = b"", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.server.asked.append(path)
        parts = path.split("/")
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if name not in self.server.repositories and name not in self.server.private:
            self._say(404, X_Error_Code="RepoNotFound")
            return
        revision = parts[5] if parts[0] == "api" and len(parts) > 5 else parts[3] if parts[0] != "api" else "main"
        found = self.server.at(name, revision) or (("", {}) if not self.server.repositories.get(name) else None)
        if found is None:
            self._say(404, X_Error_Code="RevisionNotFound")
            return
        commit, files = found
        if parts[:2] == ["api", "models"] and (len(parts) <= 6 and "tree" not in parts):
            siblings = [{"rfilename": file, "size": len(content)} for file, content in files.items()]
            self._say(200, {"id": name, "sha": commit, "private": self.server.private.get(name, False),
                            "siblings": siblings})  # fmt: skip
        elif parts[0] == "api":  # the tree of a revision
            tree = [{"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for file, content in files.items()]  # fmt: skip
            self._say(200, tree)
        elif (content := files.get("/".join(parts[4:]))) is None:
            self._say(404, X_Error_Code="EntryNotFound")
        else:
            self._say(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=commit)

    def do_POST(self) -> None:
        path, body = self.path.partition("?")[0].strip("/"), self._body()
        self.server.asked.append(path)
        parts = path.split("/")
        if path == "api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization')}/{asked['name']}" if asked.get("organization") else asked["name"]
            self.server.private[name] = asked.get("private") or asked.get("visibility") == "private"
            self._say(200, {"url": f"{self.server.address}/{name}", "id": name})
        elif path == "api/validate-yaml":
            self._say(200, {"errors": [], "warnings": []})
        elif parts[4] == "preupload":
            files = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                     for one in json.loads(body)["files"]]  # fmt: skip
            self._say(200, {"files": files})
        else:  # a commit
            name = "/".join(parts[2:4])
            before = self.server.at(name, "main")
            there = dict(before[1]) if before else {}
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    there[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    del there[line["value"]["path"]]
            commit = self.server.commit(name, there)
            self._say(200, {"commitUrl": f"{self.server.address}/{name}/commit/{commit}", "commitOid": commit,
                            "hookOutput": "", "success": True})  # fmt: skip


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()
