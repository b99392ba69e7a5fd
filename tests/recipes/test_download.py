"""The recipes' downloads: broken off, gone, or other files than they were."""

import hashlib
import http.server
import threading
from pathlib import Path

import pytest

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.recipes import download


@pytest.fixture
def server(tmp_path):
    """A server of files that knows ranges, and breaks off after ``limit`` bytes of an answer."""
    (tmp_path / "public").mkdir()
    state = {"limit": None, "ranges": [], "chunked": False, "tag": '"{}"'}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            file = tmp_path / "public" / self.path.lstrip("/")
            if not file.is_file():
                self.send_error(404)
                return
            content, tag = file.read_bytes(), state["tag"] and state["tag"].format(file.stat().st_mtime_ns)
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
            if self.headers.get("If-Range") != tag:
                start = 0
            state["ranges"].append(start)
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if tag:
                self.send_header("ETag", tag)
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
    assert [file.name for file in sorted((tmp_path / "d").iterdir())] == ["a.bin", "checksums.json"]
    assert said[0].endswith("(an address that has not been tried)")


def broken_off(server, tmp_path, tag='"{}"'):
    """A download of which a part came."""
    (tmp_path / "public" / "a.bin").write_bytes(b"old content")
    source = download.Source("a.bin", f"{server['url']}/a.bin")
    server |= {"limit": 3, "tag": tag}
    with pytest.raises(UserError, match="3 of 11 bytes came"):
        download.fetch(source, tmp_path / "d", None, print)
    server["limit"] = None
    return source


def test_a_complete_part_is_downloaded_anew(server, tmp_path):
    """As a kill leaves it between the last byte and the file's name: the server has no byte after it."""
    source = broken_off(server, tmp_path)
    (tmp_path / "d" / "a.bin.part").write_bytes(b"old content")
    assert download.fetch(source, tmp_path / "d", None, print).read_bytes() == b"old content"
    assert server["ranges"] == [0, 11, 0]


@pytest.mark.parametrize("tag", ['"{}"', 'W/"{}"', ""], ids=["a tag", "a weak tag", "no tag"])
def test_a_file_that_has_changed_meanwhile_is_downloaded_anew(server, tmp_path, tag):
    source = broken_off(server, tmp_path, tag)
    (tmp_path / "public" / "a.bin").write_bytes(b"NEW content!")
    assert download.fetch(source, tmp_path / "d", None, print).read_bytes() == b"NEW content!"


def test_a_record_of_checksums_that_was_cut_off_is_one_line(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "checksums.json").write_text('{"a": "sha')
    with pytest.raises(UserError, match=r"checksums\.json cannot be read: remove it"):
        download.fetch(download.Source("a", "http://nowhere/a"), tmp_path, None, print)


def test_an_answer_that_ends_within_a_chunk_is_one_line(server, tmp_path):
    (tmp_path / "public" / "a.bin").write_bytes(b"abcdef")
    server["chunked"] = True
    source = download.Source("a.bin", f"{server['url']}/a.bin")
    with pytest.raises(UserError, match=r"/a\.bin cannot be downloaded \(IncompleteRead"):
        download.fetch(source, tmp_path / "d", None, print)


def test_what_is_not_there_is_said_with_what_to_do(server, tmp_path):
    source = download.Source("b.bin", f"{server['url']}/b.bin")
    with pytest.raises(UserError, match=r"/b\.bin cannot be downloaded .* put b\.bin there as ") as error:
        download.fetch(source, tmp_path / "d", None, print)
    place = Path(str(error.value).rsplit(" as ", 1)[1])
    place.write_bytes(b"by hand")
    assert download.fetch(source, tmp_path / "d", None, print).read_bytes() == b"by hand"


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
