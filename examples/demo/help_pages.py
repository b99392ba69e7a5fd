"""Reading LibreOffice's help pages: which paragraphs a page has, and which two say the same.

Both languages' pages are made from one master file, so they share their skeleton: the same paragraphs in the
same order, most of them with an id that the translation keeps. That id aligns two paragraphs with certainty.
"""

import re
from dataclasses import dataclass
from html.parser import HTMLParser

__all__ = ["Paragraph", "align", "read_page", "split_into_sentences"]

PARAGRAPH_TAGS = {"p", "h1", "h2", "h3", "h4", "h5", "h6"}
VOID_TAGS = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
CODE_CLASS = re.compile(r"code|example")  # program text, not language
TEXT_AREA = "DisplayArea"  # the page proper; before it stand menus, after it a footer


@dataclass(frozen=True)
class Paragraph:
    """``kind``: tag and class, the skeleton's unit. ``id``: empty for most embedded paragraphs."""

    kind: str
    id: str
    text: str


class _PageParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.paragraphs: list[Paragraph] = []
        self._in_text_area = False
        self._open: tuple[str, str, list[str]] | None = None  # kind, id, pieces of text
        self._open_tag = ""
        self._hidden_depth = 0  # > 0: inside an element that the page does not show

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "div" and attributes.get("id") == TEXT_AREA:
            self._in_text_area = True
        elif tag == "footer":
            self._close()
            self._in_text_area = False
        if not self._in_text_area or tag in VOID_TAGS:
            if tag == "br" and self._open:
                self._open[2].append(" ")
            return
        if self._hidden_depth or _is_hidden(attributes):
            self._hidden_depth += 1
        elif tag in PARAGRAPH_TAGS:
            self._close()
            self._open = (f"{tag}.{attributes.get('class', '')}", attributes.get("id", ""), [])
            self._open_tag = tag

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID_TAGS:
            return
        if self._hidden_depth:
            self._hidden_depth -= 1
        elif self._open and tag == self._open_tag:
            self._close()

    def handle_data(self, data: str) -> None:
        if self._open and not self._hidden_depth:
            self._open[2].append(data)

    def _close(self) -> None:
        if self._open:
            kind, paragraph_id, pieces = self._open
            self.paragraphs.append(Paragraph(kind, paragraph_id, " ".join("".join(pieces).split())))
        self._open = None


def _is_hidden(attributes: dict[str, str]) -> bool:
    """Text for one system or one program only (class MAC, WRITER, …); its default stays in sight.

    All alternatives carry ``hidden``, a script of the page picks one. The default's id begins so.
    """
    return "hidden" in attributes and not attributes.get("id", "").startswith("default")


def read_page(html: str) -> list[Paragraph]:
    """All paragraphs and headings of a help page in order, without menu and footer, on one line each."""
    parser = _PageParser()
    parser.feed(html)
    parser.close()
    return parser.paragraphs


def align(source: list[Paragraph], target: list[Paragraph]) -> list[tuple[str, str, bool]]:
    """Paragraphs that translate each other, as (source text, target text, whether they share an id).

    Paragraphs without an id are paired by position, and only if both pages have the same skeleton.
    Program text is left out.
    """
    same_skeleton = [(p.kind, p.id) for p in source] == [(p.kind, p.id) for p in target]
    if same_skeleton:
        pairs = list(zip(source, target, strict=True))
    else:
        # An id that a page uses twice says nothing about which of the two is meant.
        by_id = {p.id: p for p in target if p.id}
        once = [p for p in source if p.id and _count(source, p.id) == _count(target, p.id) == 1]
        pairs = [(p, by_id[p.id]) for p in once]
    return [(s.text, t.text, bool(s.id)) for s, t in pairs if not CODE_CLASS.search(s.kind)]


def _count(paragraphs: list[Paragraph], paragraph_id: str) -> int:
    return sum(p.id == paragraph_id for p in paragraphs)


def split_into_sentences(source: str, target: str) -> list[tuple[str, str]]:
    """The sentences of two paragraphs in pairs; the paragraphs as they are if the numbers differ."""
    sources, targets = _sentences(source), _sentences(target)
    if len(sources) != len(targets):
        return [(source, target)]
    return list(zip(sources, targets, strict=True))


# A full stop, question or exclamation mark after three letters at least: not after "e.g." or "z. B.".
SENTENCE_END = re.compile(r"(?<=[^\W\d_]{3}[.!?]) ")


def _sentences(text: str) -> list[str]:
    sentences: list[str] = []
    for piece in SENTENCE_END.split(text):
        if sentences and not piece[:1].isupper():
            sentences[-1] += f" {piece}"
        else:
            sentences.append(piece)
    return sentences
