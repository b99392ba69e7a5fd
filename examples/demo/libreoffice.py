"""The corpus of real text: LibreOffice's help, English and one of thirty other languages (MPL-2.0).

Debian and Ubuntu package it by language; apt fetches the packages without root, about 5 MB for a pair.
"""

from pathlib import Path

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.common.files import whole

from .help_pages import align, read_page, split_into_sentences
from .pairs import Pair
from .tools import CorpusUnavailable, call

__all__ = ["fetch", "read_pairs"]

PACKAGE = "libreoffice-help-"
ENGLISH = "en-us"
NOT_TRANSLATIONS = {"common", "en-us", "en-gb"}


def fetch(target_lang: str, cache: Path) -> list[Pair]:
    """The help's paragraphs and their sentences, English and ``target_lang`` ("de", "pt-br", …).

    What was downloaded to ``cache`` before is used again.

    Raises:
        CorpusUnavailable: no apt, no network, or a distribution without these packages.
        UserError: there is no help in ``target_lang``.
    """
    folders = [cache / f"libreoffice-{lang}" for lang in (ENGLISH, target_lang)]
    if not all(folder.is_dir() for folder in folders):
        _download(target_lang, cache, folders)
    return read_pairs(*(_text_folder(folder) for folder in folders))


def read_pairs(source: Path, target: Path) -> list[Pair]:
    """All pairs of the pages under two ``help/LANGUAGE/text`` folders.

    A paragraph of several sentences also gives its sentences, if both sides have as many. Those and the
    paragraphs without an id are not ``certain``.
    """
    pairs = []
    for file in sorted(source.rglob("*.html")):
        page = file.relative_to(source)
        if not (target / page).is_file():
            continue
        source_page, target_page = (read_page((side / page).read_text("utf-8")) for side in (source, target))
        for source_text, target_text, same_id in align(source_page, target_page):
            pairs.append(Pair(str(page), source_text, target_text, certain=same_id))
            sentences = split_into_sentences(source_text, target_text)
            if len(sentences) > 1:
                pairs += [Pair(str(page), *sentence, certain=False) for sentence in sentences]
    return pairs


def _download(target_lang: str, cache: Path, folders: list[Path]) -> None:
    # Own package lists: a fresh image has none, and only root may refresh the system's.
    apt = cache / "apt"
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    options = [
        f"Dir::State={apt.resolve() / 'state'}",
        f"Dir::Cache={apt.resolve() / 'cache'}",
        "Dir::State::status=/var/lib/dpkg/status",
        "APT::Sandbox::User=root",  # a root user's apt would otherwise try to work as another user
        "Acquire::Languages=none",
        "Acquire::Retries=1",
        "Acquire::http::Timeout=20",
        "Acquire::https::Timeout=20",
        "APT::Update::Error-Mode=any",  # without it a missing network is only a warning
    ]
    options = [word for option in options for word in ("-o", option)]
    call(["apt-get", *options, "update"], timeout=300)
    names = call(["apt-cache", *options, "pkgnames", PACKAGE], timeout=60).split()
    languages = {name.removeprefix(PACKAGE) for name in names} - NOT_TRANSLATIONS
    if not languages:
        raise CorpusUnavailable(f"apt knows no {PACKAGE}* packages")
    if target_lang not in languages:
        raise UserError(
            f"--target-lang {target_lang}: LibreOffice's help is available in {', '.join(sorted(languages))}"
        )

    for lang, folder in zip((ENGLISH, target_lang), folders, strict=True):
        if folder.is_dir():
            continue
        call(["apt-get", *options, "download", PACKAGE + lang], timeout=300, cwd=apt)
        packages = sorted(apt.glob(f"{PACKAGE}{lang}_*.deb"), key=lambda file: file.stat().st_mtime)
        with whole(folder) as unpacked:  # a folder of this name is complete
            call(["dpkg-deb", "-x", str(packages[-1]), str(unpacked)], timeout=300)


def _text_folder(unpacked: Path) -> Path:
    """``…/help/de/text``; the folder's spelling of a language ("en-US") differs from the package's."""
    found = [folder for folder in unpacked.glob("usr/share/libreoffice/help/*/text") if folder.is_dir()]
    if len(found) != 1:
        raise CorpusUnavailable(f"{unpacked} holds no help pages in the form that is known here")
    return found[0]
