"""A small English–German grammar that writes sentence pairs: the corpus for tests, and where there is no network.

It is a toy in its vocabulary, not in its grammar. To translate it, a model must learn gender and number
agreement, three cases (by verb and by preposition), weak, mixed and strong adjective endings, the verb in
second place (also after a fronted adverbial or clause) and at the end of a subordinate clause, separable
prefixes, the perfect tense's and the modal verbs' brackets, and negation by *nicht* or *kein*.

Every English sentence has exactly one German counterpart, so a model can reach 100 BLEU.
"""

import random
from dataclasses import dataclass

from ..common.errors import UserError
from .lexicon import (
    ADJECTIVES,
    ADVERBS,
    AUXILIARIES,
    CONJUNCTIONS,
    DEFINITE,
    EIN_ENDING,
    FRAMES,
    MIXED,
    MODALS,
    NOMINATIVE,
    PERSONS,
    PLURAL,
    PREPOSITIONS,
    PRONOUNS,
    REPORTS,
    STRONG_PLURAL,
    VERBS,
    WEAK,
    Noun,
    Verb,
)

__all__ = ["generate"]


@dataclass(frozen=True)
class Phrase:
    """A noun phrase or pronoun in both languages. ``negatable``: *kein* can stand for *nicht* + this."""

    en: str
    de: str
    person: int = 1  # which of a verb's German forms it asks for: 0 = ich, 1 = er/sie/es, 2 = plural
    pronoun: bool = False
    negatable: bool = False


def _noun_phrase(rng: random.Random, nouns: list[Noun], case: int, negate: bool = False) -> Phrase:
    """Article, adjective and noun. With ``negate`` an indefinite phrase becomes one with *kein*."""
    noun = rng.choice(nouns)
    plural = rng.random() < 0.35
    determiner = rng.choice(("the", "the", "a", "my"))
    english_adjective, german_adjective = rng.choice(ADJECTIVES) if rng.random() < 0.45 else ("", "")
    gender = PLURAL if plural else noun.gender

    if determiner == "the":
        article, endings = DEFINITE[gender].split()[case], WEAK[gender]
    elif determiner == "a" and plural and not negate:
        article, endings = "", STRONG_PLURAL
    else:
        stem = "mein" if determiner == "my" else "kein" if negate else "ein"
        article, endings = stem + EIN_ENDING[gender][case], MIXED[gender]
    if german_adjective:
        german_adjective = german_adjective.removesuffix("e") + endings[case]

    english_noun = noun.en_plural if plural else noun.en
    english_article = determiner
    if determiner == "a":
        starts_with_vowel = (english_adjective or english_noun)[0] in "aeiou"
        english_article = "" if plural else "an" if starts_with_vowel else "a"
    return Phrase(
        en=" ".join(filter(None, (english_article, english_adjective, english_noun))),
        de=" ".join(filter(None, (article, german_adjective, noun.german(plural, case)))),
        person=2 if plural else 1,
        negatable=determiner == "a",
    )


def _subject(rng: random.Random) -> Phrase:
    if rng.random() < 0.3:
        english = rng.choice(list(PRONOUNS))
        person = {"I": 0, "we": 2, "they": 2}.get(english, 1)
        return Phrase(english, PRONOUNS[english][1], person, pronoun=True)
    return _noun_phrase(rng, PERSONS, NOMINATIVE)


def _objects(rng: random.Random, verb: Verb, subject: Phrase, negate: bool) -> list[Phrase]:
    slots = FRAMES[verb.frame]
    objects = []
    for i, (case, nouns) in enumerate(slots):
        last = i == len(slots) - 1
        # An accusative pronoun would have to change places with a dative noun: only persons get pronouns.
        if nouns is PERSONS and rng.random() < 0.25:
            choices = [p for p in PRONOUNS if not (p in ("I", "we") and subject.en in ("I", "we"))]
            english = rng.choice(choices)
            objects.append(Phrase(PRONOUNS[english][0], PRONOUNS[english][1 + case], pronoun=True))
        else:
            objects.append(_noun_phrase(rng, nouns, case, negate and last))
    return objects


@dataclass(frozen=True)
class Clause:
    """The parts of one clause; :meth:`german` and :meth:`english` put them in order."""

    subject: Phrase
    english_verb: str
    finite: str
    tail: str  # what closes the verb bracket: prefix, participle or infinitive
    prefixed: bool  # the tail is a separable prefix and joins the finite verb at the end of a clause
    objects: list[Phrase]
    adverb: tuple[str, str] | None
    nicht: bool
    place: Phrase | None

    def english(self, front_adverb: bool = False) -> str:
        adverb = self.adverb[0] if self.adverb else ""
        parts = [self.subject.en, self.english_verb, *(o.en for o in self.objects)]
        parts.append(self.place.en if self.place else "")
        parts = [adverb, *parts] if front_adverb else [*parts, adverb]
        return " ".join(filter(None, parts))

    def german(self, order: str) -> str:
        """``order``: "second" (subject first), "inverted" (something stands before the verb), "final"."""
        middle = [o.de for o in self.objects if o.pronoun]
        if self.adverb and order != "inverted adverb":
            middle.append(self.adverb[1])
        middle += [o.de for o in self.objects if not o.pronoun]
        middle.append("nicht" if self.nicht else "")
        middle.append(self.place.de if self.place else "")
        if order == "final":
            end = self.tail + self.finite if self.prefixed else f"{self.tail} {self.finite}"
            parts = [self.subject.de, *middle, end.strip()]
        elif order == "second":
            parts = [self.subject.de, self.finite, *middle, self.tail]
        else:
            front = self.adverb[1] if order == "inverted adverb" else ""
            parts = [front, self.finite, self.subject.de, *middle, self.tail]
        return " ".join(filter(None, parts))


def _clause(rng: random.Random) -> Clause:
    verb = rng.choice(VERBS)
    subject = _subject(rng)
    negate = rng.random() < 0.25
    tense = rng.choice(("present", "present", "past", "modal"))
    modal = rng.choice([m for m in MODALS if m[5] or not negate])
    objects = _objects(rng, verb, subject, negate)
    third = subject.person == 1
    do_not = "does not" if third else "do not"

    if tense == "present":
        english = f"{do_not} {verb.en}" if negate else verb.en_third if third else verb.en
        finite = (verb.first, verb.third, verb.infinitive)[subject.person]
        tail = verb.prefix
    elif tense == "past":
        english = f"did not {verb.en}" if negate else verb.en_past
        finite = AUXILIARIES[verb.auxiliary][subject.person]
        tail = verb.participle
    else:
        english = f"{modal[5 + third] if negate else modal[third]} {verb.en}"
        finite = modal[2 + subject.person]
        tail = verb.prefix + verb.infinitive

    place = None
    if rng.random() < 0.3:
        preposition, praeposition, case, nouns = rng.choice(PREPOSITIONS)
        where = _noun_phrase(rng, nouns, case)
        place = Phrase(f"{preposition} {where.en}", f"{praeposition} {where.de}")
    return Clause(
        subject=subject,
        english_verb=english,
        finite=finite,
        tail=tail,
        prefixed=tense == "present" and bool(verb.prefix),
        objects=objects,
        adverb=rng.choice(ADVERBS) if rng.random() < 0.4 else None,
        nicht=negate and not (objects and objects[-1].negatable),
        place=place,
    )


def _sentence(rng: random.Random) -> tuple[str, str]:
    clause = _clause(rng)
    shape = rng.random()
    if shape < 0.55:
        if clause.adverb and rng.random() < 0.6:
            english, german = clause.english(front_adverb=True), clause.german("inverted adverb")
        else:
            english, german = clause.english(), clause.german("second")
    elif shape < 0.7:
        who, report = _subject(rng), rng.choice(REPORTS)
        english = f"{who.en} {report[who.person == 1]} that {clause.english()}"
        german = f"{who.de} {report[2 + who.person]}, dass {clause.german('final')}"
    else:
        other = _clause(rng)
        conjunction, konjunktion = rng.choice(CONJUNCTIONS)
        if shape < 0.85:
            english = f"{clause.english()} {conjunction} {other.english()}"
            german = f"{clause.german('second')}, {konjunktion} {other.german('final')}"
        else:
            english = f"{conjunction} {other.english()}, {clause.english()}"
            german = f"{konjunktion} {other.german('final')}, {clause.german('inverted')}"
    return english[0].upper() + english[1:] + ".", german[0].upper() + german[1:] + "."


def generate(count: int, seed: int) -> list[tuple[str, str]]:
    """``count`` different (English, German) sentence pairs, the same ones for the same ``seed``.

    Sentences are plain text: capitalised, with their full stop, not tokenised. No English sentence comes
    twice, so any split of the list keeps test sentences out of the training part.

    Raises:
        UserError: ``count`` is not positive.
    """
    if count < 1:
        raise UserError(f"cannot generate {count} sentence pairs: give a number of at least 1")
    rng = random.Random(seed)
    pairs: dict[str, str] = {}
    while len(pairs) < count:  # the grammar has many millions of sentences, so this does not run dry
        english, german = _sentence(rng)
        pairs.setdefault(english, german)
    return list(pairs.items())
