"""Where there is no apt: the texts of VS Code's user interface, from its language packs on npm (MIT).

No pack is in English. But one is in a pseudo-language for testing, English with some letters exchanged for
others of the Latin script ("Øpëñ fïlë"), one for one: reading it backwards gives the English texts.
"""

import json
import re
import tarfile
import zlib
from pathlib import Path

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.common.files import whole
from skipln_fairseq.common.unpack import members

from .pairs import Pair
from .tools import CorpusUnavailable, call

__all__ = ["LANGUAGES", "fetch", "read_pairs", "undo_pseudo"]

PACKAGE = "@codingame/monaco-vscode-language-pack-{}@25.1.2"
PSEUDO = "qps-ploc"
LANGUAGES = ("cs", "de", "es", "fr", "it", "ja", "ko", "pl", "pt-br", "ru", "tr", "zh-hans", "zh-hant")
MEMBER = re.compile(r"/translations/.*\.i18n\.json(\.js)?$")
FROM_PSEUDO = str.maketrans("æþçðëïñøµÿÆßÇÐËÏ£ÑØ§ÜÝ", "abcdeinouyABCDEILNOSUY")

# Texts of the main file have no names. Neighbours belong together, so this many make one "page".
TEXTS_PER_PAGE = 40


def fetch(target_lang: str, cache: Path) -> list[Pair]:
    """The user interface's texts, English and ``target_lang``.

    Raises:
        CorpusUnavailable: no npm, or no network.
        UserError: there is no pack in ``target_lang``.
    """
    if target_lang not in LANGUAGES:
        raise UserError(
            f"--target-lang {target_lang}: VS Code's language packs are available in {', '.join(LANGUAGES)}"
        )
    packs = [_pack(lang, cache) for lang in (PSEUDO, target_lang)]
    return read_pairs(*packs)


def read_pairs(pseudo: dict[str, str], target: dict[str, str]) -> list[Pair]:
    """Pair the texts under the same key ("file#name"), with the pseudo-language turned into English."""
    pairs = []
    for key, text in pseudo.items():
        if key in target:
            page = key.rsplit("#", 1)[0]
            pairs.append(Pair(page, _plain(undo_pseudo(text)), _plain(target[key])))
    return pairs


def undo_pseudo(text: str) -> str:
    """English from the pseudo-language."""
    return text.translate(FROM_PSEUDO)


def _plain(text: str) -> str:
    """Without the marks of keyboard shortcuts in menus ("&&File"), on one line."""
    return " ".join(text.replace("&&", "").split())


def _pack(lang: str, cache: Path) -> dict[str, str]:
    """All texts of one language pack by "file#name", downloaded if ``cache`` does not hold it."""
    file = cache / f"vscode-{lang}.tgz"
    if not file.is_file():
        download = cache / "npm"
        download.mkdir(parents=True, exist_ok=True)
        name = PACKAGE.format(lang)
        printed = call(["npm", "pack", "--silent", "--fetch-retries=1", name], timeout=180, cwd=download)
        with whole(file) as beside:
            (download / printed.split()[-1]).rename(beside)
    try:
        return _read_pack(file)
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, KeyError) as error:
        raise CorpusUnavailable(f"{file} is no language pack in the form that is known here") from error


def _read_pack(file: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for member, stream in members(file, MEMBER.search):
        content = stream.read().decode("utf-8")
        name = member.split("/translations/")[1]
        found = _main_texts(content) if name.endswith(".js") else _extension_texts(content)
        texts |= {f"{name} {key}": text for key, text in found.items()}
    return texts


def _main_texts(content: str) -> dict[str, str]:
    """The main file is a JavaScript list, one text in a line; the same index means the same text."""
    start, end = content.index("["), content.rindex("]")
    array = json.loads(re.sub(r"(?m)^\s*undefined\b", "null", content[start : end + 1]))
    return {f"{i // TEXTS_PER_PAGE}#{i}": text for i, text in enumerate(array) if isinstance(text, str)}


def _extension_texts(content: str) -> dict[str, str]:
    """An extension's file is JSON: groups of texts by name."""
    groups = json.loads(content)["contents"]
    return {
        # A name can be the English text itself, with any character in it; only the last "#" separates.
        f"{group}#{name.replace('#', ' ')}": text
        for group, texts in groups.items()
        for name, text in texts.items()
        if isinstance(text, str)
    }
