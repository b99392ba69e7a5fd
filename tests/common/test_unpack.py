"""Hostile archives: whatever they hold, one line says so, soon and without filling the memory."""

import bz2
import gzip
import io
import tarfile
import time
import tracemalloc

import numpy as np
import pytest
import yaml

from examples.demo import vscode
from examples.demo.tools import CorpusUnavailable
from skipln_fairseq.common.errors import UserError
from skipln_fairseq.images.data.idx import read_idx
from skipln_fairseq.recipes import corpora
from skipln_fairseq.recipes.recipe import read_recipe
from tests.support.recipe_files import KNOWN, archive, plain

MEGABYTE = 1 << 20


@pytest.fixture(autouse=True)
def bounded():
    """Each of these ends within seconds, and within a memory that no user misses."""
    tracemalloc.start()
    start = time.monotonic()
    yield
    took, peak = time.monotonic() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert took < 20
    assert peak < 250 * MEGABYTE


def refused(folder, path):
    with pytest.raises(UserError) as error:
        for _ in corpora.read(path, lambda name: folder / name):
            pass
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 500
    assert path.split("/")[0] in message
    return message


def pack(file, *infos, mode="w:gz"):
    with tarfile.open(file, mode) as tar:
        for info in infos:
            tar.addfile(info)


def odd(kind, target="", name="a/x"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


ODD_MEMBERS = {
    "a link": odd(tarfile.SYMTYPE, "/etc/passwd"),
    "a link to itself": odd(tarfile.SYMTYPE, "x"),
    "a hard link": odd(tarfile.LNKTYPE, "../../etc/passwd"),
    "a hard link to itself": odd(tarfile.LNKTYPE, "a/x"),
    "a folder": odd(tarfile.DIRTYPE),
    "a fifo": odd(tarfile.FIFOTYPE),
    "a device": odd(tarfile.CHRTYPE),
    "a disk": odd(tarfile.BLKTYPE),
}


@pytest.mark.parametrize("member", ODD_MEMBERS.values(), ids=ODD_MEMBERS)
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_only_plain_files_of_an_archive_are_read(tmp_path, member, mode):
    pack(tmp_path / "a.tgz", member, mode=mode)
    assert "a/x is no plain file in it" in refused(tmp_path, "a.tgz/a/x")


def test_a_sparse_file_of_terabytes_is_not_read(tmp_path):
    """512 bytes that say: no data, and zeros up to the ten terabytes."""
    header = bytearray(tarfile.TarInfo("a/x").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[483:495] = b"\x80" + (10 << 40).to_bytes(11, "big")
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header))[0]
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(1024))
    assert "a/x is no plain file in it" in refused(tmp_path, "a.tar/a/x")


def bomb(megabytes, block=bytes(MEGABYTE), head=b""):
    """These bytes, again and again, packed to a thousandth: for a tenth of a second here, a terabyte elsewhere."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(megabytes):
            file.write(block)
    return packed.getvalue()


ONE_LINE, LINES = b"x" * MEGABYTE, (b"x" * 4095 + b"\n") * (MEGABYTE // 4096)


def test_a_bomb_of_one_line_ends_at_a_line_too_long(tmp_path):
    (tmp_path / "train.en.gz").write_bytes(bomb(300, ONE_LINE))
    assert "line 1 has more than 1048576 characters" in refused(tmp_path, "train.en.gz")
    (tmp_path / "train.en").write_bytes(ONE_LINE * 3)
    assert "line 1 has more than 1048576 characters" in refused(tmp_path, "train.en")
    archive(tmp_path / "a.tgz", {"x": b"first\n" + ONE_LINE * 3})
    assert "line 2 has more than 1048576 characters" in refused(tmp_path, "a.tgz/x")


def test_a_bomb_of_lines_ends_at_a_hundred_times_its_size(tmp_path):
    (tmp_path / "train.en.gz").write_bytes(bomb(250, LINES))
    assert "unpacks to more than 100 times its size" in refused(tmp_path, "train.en.gz")


def huge(kind, size=8 << 30):
    info = tarfile.TarInfo("a/y")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_bomb_before_the_file_that_is_asked_for_ends_soon(tmp_path, kind):
    """A huge file to pass over, and a name of gigabytes, which would come into memory."""
    (tmp_path / "a.tgz").write_bytes(bomb(250, head=huge(kind)))
    assert "unpacks to more than 100 times its size" in refused(tmp_path, "a.tgz/a/x")


def test_a_bomb_within_an_archive_ends_soon(tmp_path):
    archive(tmp_path / "a.tar", {"x.gz": bomb(250, LINES)})
    assert "unpacks to more than 100 times its size" in refused(tmp_path, "a.tar/x.gz")


def test_a_million_names_do_not_stay_in_memory(tmp_path):
    header = odd(tarfile.REGTYPE, name="a/y").tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "a.tgz").write_bytes(bomb(20, header * 2048))
    tracemalloc.reset_peak()
    assert "holds no a/x" in refused(tmp_path, "a.tgz/a/x")
    assert tracemalloc.get_traced_memory()[1] < 10 * MEGABYTE


@pytest.mark.parametrize("seg", ["<seg>", "<seg", "<seg >", "<", "&#" + "1" * 300 + ";"])
def test_unclosed_segments_take_no_longer_than_their_length(tmp_path, seg):
    (tmp_path / "test.sgm").write_text(f"<seg>{seg * 40_000}")
    assert "line 1" in (message := refused(tmp_path, "test.sgm")) or "is open at its end" in message


def test_a_test_set_without_end_is_refused(tmp_path):
    (tmp_path / "test.sgm.gz").write_bytes(bomb(60))
    assert "more than 16777216 characters" in refused(tmp_path, "test.sgm.gz")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<doc>\n<seg>a</seg>\n<seg>b\n<seg>c</seg>", "line 4: <seg> where a <seg> is open"),
        ("<seg>a</seg>\n</SEG>", "line 2: </SEG> where a <seg> is not open"),
        ("<seg>a</seg>\n<seg id='2'>b", "a <seg> is open at its end"),
        (f"<seg>&#{'1' * 5000};</seg>", "limit"),
    ],
)
def test_segments_that_would_shift_the_pairs_are_refused(tmp_path, text, message):
    (tmp_path / "test.xml").write_text(text)
    assert message in refused(tmp_path, "test.xml")


def test_segments_are_read_over_lines_and_without_content(tmp_path):
    text = '<DOC><seg id="1"> a &amp;\n b </seg><Seg id="2"/><seg></seg><segment>no</segment><seg\nid="3">c</SEG >'
    (tmp_path / "test.sgm").write_text(text)
    assert list(corpora.read("test.sgm", lambda name: tmp_path / name)) == ["a & b", "", "", "c"]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_archives_packed_or_not_are_read_whatever_their_name(tmp_path, mode):
    lines = [f"line {number}" for number in range(1000)]
    with tarfile.open(tmp_path / "a.tgz", mode) as tar:
        for name in ("./first", "./second.gz"):
            content = gzip.compress(plain(lines)) if name.endswith(".gz") else plain(lines)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    for path in ("a.tgz/first", "a.tgz/second.gz"):
        assert list(corpora.read(path, lambda name: tmp_path / name)) == lines


@pytest.mark.parametrize("size", [0, 1, 600, 3000])
def test_archives_that_are_cut_short_are_refused(tmp_path, size):
    archive(tmp_path / "whole.tar", {"x": np.random.default_rng(0).bytes(5000).hex().encode()})
    (tmp_path / "a.tgz").write_bytes((tmp_path / "whole.tar").read_bytes()[:size])
    refused(tmp_path, "a.tgz/x")
    (tmp_path / "b.tgz").write_bytes(bz2.compress(b"x" * 100))
    refused(tmp_path, "b.tgz/x")


def test_lines_that_no_file_has_are_refused(tmp_path):
    (tmp_path / "a").write_text("1\n")
    assert "a" in refused(tmp_path, f"a#{10**30}-")


@pytest.mark.parametrize("name", ["../a", "/a", "..", ".", "a/b"])
def test_a_recipes_file_lies_in_its_folder(tmp_path, name):
    content = yaml.safe_load((KNOWN / "own-data.yaml").read_text())
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**content, "files": [{"name": name}]}))
    with pytest.raises(UserError, match="valid is a file's name, without a folder"):
        read_recipe(tmp_path / "recipe.yaml")


def test_the_demos_packs_are_read_with_the_same_care(tmp_path):
    file = tmp_path / "vscode-de.tgz"
    pack(file, odd(tarfile.SYMTYPE, "x", "package/translations/main.i18n.json"))
    with pytest.raises(CorpusUnavailable):
        vscode._pack("de", tmp_path)
    file.write_bytes(gzip.compress(b"x")[:-4])
    with pytest.raises(CorpusUnavailable):
        vscode._pack("de", tmp_path)


def test_images_that_are_a_bomb_are_refused(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(bomb(250))
    with pytest.raises(UserError, match="unpacks to more than 100 times its size"):
        read_idx(tmp_path, "train")
