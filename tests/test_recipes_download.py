"""The recipes' downloads: broken off, gone, or other files than they were."""

import hashlib
import http.server
import threading

import pytest

from examples.recipes import download
from skipln_fairseq.errors import UserError


@pytest.fixture
def server(tmp_path):
    """A server of files that knows ranges, and breaks off after ``limit`` bytes of an answer."""
    (tmp_path / "public").mkdir()
    state = {"limit": None, "ranges": [], "chunked": False}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            file = tmp_path / "public" / self.path.lstrip("/")
            if not file.is_file():
                self.send_error(404)
                return
            content = file.read_bytes()
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
            state["ranges"].append(start)
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if state["chunked"]:  # of which the second one never comes
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"3\r\nabc\r\n3\r\n")
                return
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:][: state["limit"]])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        state["url"] = f"http://127.0.0.1:{http_server.server_port}"
        yield state
        http_server.shutdown()


def test_a_download_that_broke_off_goes_on(server, tmp_path):
    content = bytes(range(256)) * 1000
    (tmp_path / "public" / "a.bin").write_bytes(content)
    source, said = download.Source("a.bin", f"{server['url']}/a.bin"), []
    server["limit"] = 100_000
    for _ in range(2):
        with pytest.raises(UserError, match=r"cannot be downloaded \(\d+ of 256000 bytes came\)"):
            download.fetch(source, tmp_path / "d", None, said.append)
    server["limit"] = None
    assert download.fetch(source, tmp_path / "d", None, said.append).read_bytes() == content
    assert server["ranges"] == [0, 100_000, 200_000]
    assert not (tmp_path / "d" / "a.bin.part").exists()
    assert said[0].endswith("(an address that has not been tried)")


def test_a_complete_part_is_downloaded_anew(server, tmp_path):
    """As a kill leaves it between the last byte and the file's name: the server has no byte after it."""
    (tmp_path / "public" / "a.bin").write_bytes(b"right")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.bin.part").write_bytes(b"wrong")
    source = download.Source("a.bin", f"{server['url']}/a.bin")
    assert download.fetch(source, tmp_path / "d", None, print).read_bytes() == b"right"
    assert server["ranges"] == [5, 0]


def test_an_answer_that_ends_within_a_chunk_is_one_line(server, tmp_path):
    (tmp_path / "public" / "a.bin").write_bytes(b"abcdef")
    server["chunked"] = True
    source = download.Source("a.bin", f"{server['url']}/a.bin")
    with pytest.raises(UserError, match=r"/a\.bin cannot be downloaded \(IncompleteRead"):
        download.fetch(source, tmp_path / "d", None, print)


def test_what_is_not_there_is_said_with_what_to_do(server, tmp_path):
    source = download.Source("b.bin", f"{server['url']}/b.bin")
    with pytest.raises(UserError, match=r"/b\.bin cannot be downloaded .* give --from FOLDER"):
        download.fetch(source, tmp_path / "d", None, print)


@pytest.mark.parametrize("published", [True, False])
def test_another_file_than_it_was_is_refused(tmp_path, published):
    (tmp_path / "a").write_bytes(b"right")
    checksum = f"md5:{hashlib.md5(b'right').hexdigest()}" if published else None
    source = download.Source("a", "http://nowhere/a", checksum)
    download.fetch(source, tmp_path / "d", tmp_path, print)
    (tmp_path / "a").write_bytes(b"wrong")
    remedy = (
        "published: get the right file$" if published else r"recorded in .*: .*, or remove its line there"
    )
    with pytest.raises(UserError, match=remedy):
        download.fetch(source, tmp_path / "d", tmp_path, print)
