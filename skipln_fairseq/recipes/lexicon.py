"""The words of the English–German toy grammar, and how they are inflected."""

from dataclasses import dataclass

__all__ = [
    "ACCUSATIVE",
    "ADJECTIVES",
    "ADVERBS",
    "AUXILIARIES",
    "CONJUNCTIONS",
    "DATIVE",
    "DEFINITE",
    "EIN_ENDING",
    "FRAMES",
    "MIXED",
    "MODALS",
    "NOMINATIVE",
    "PERSONS",
    "PLURAL",
    "PREPOSITIONS",
    "PRONOUNS",
    "REPORTS",
    "STRONG_PLURAL",
    "VERBS",
    "WEAK",
    "Noun",
    "Verb",
]

NOMINATIVE, ACCUSATIVE, DATIVE = 0, 1, 2
PLURAL = "p"  # stands in the place of a gender: German plurals do not tell genders apart

# Endings by gender (m, f, n, plural), one for each case.
DEFINITE = {"m": "der den dem", "f": "die die der", "n": "das das dem", PLURAL: "die die den"}
EIN_ENDING = {"m": ("", "en", "em"), "f": ("e", "e", "er"), "n": ("", "", "em"), PLURAL: ("e", "e", "en")}
WEAK = {"m": ("e", "en", "en"), "f": ("e", "e", "en"), "n": ("e", "e", "en"), PLURAL: ("en", "en", "en")}
MIXED = {"m": ("er", "en", "en"), "f": ("e", "e", "en"), "n": ("es", "es", "en"), PLURAL: ("en", "en", "en")}
STRONG_PLURAL = ("e", "e", "en")


@dataclass(frozen=True)
class Noun:
    """English singular and plural; German gender, singular, singular outside the nominative, plural."""

    en: str
    en_plural: str
    gender: str
    de: str
    de_oblique: str
    de_plural: str

    def german(self, plural: bool, case: int) -> str:
        if not plural:
            return self.de if case == NOMINATIVE else self.de_oblique
        if case == DATIVE and self.de_plural[-1] not in "ns":
            return self.de_plural + "n"
        return self.de_plural


@dataclass(frozen=True)
class Verb:
    """English base, third person and past; German forms; ``frame``: what the verb governs (see FRAMES)."""

    en: str
    en_third: str
    en_past: str
    prefix: str  # separable, or empty
    infinitive: str  # without the prefix, as all other German forms
    third: str
    participle: str
    auxiliary: str  # of the perfect: haben or sein
    frame: str

    @property
    def first(self) -> str:
        return self.infinitive[:-1]


def _noun(line: str) -> Noun:
    en, en_plural, gender, de, de_plural = line.split()[:5]
    weak = line.endswith(" weak")  # weak masculines end in -(e)n everywhere but in the nominative singular
    return Noun(en, en_plural, gender, de, de_plural if weak else de, de_plural)


def _verb(line: str) -> Verb:
    forms = [form.replace("_", " ") for form in line.split()]
    forms[3] = forms[3].replace("-", "")  # no separable prefix
    return Verb(*forms)


PERSONS = [
    _noun(line)
    for line in (
        "teacher teachers m Lehrer Lehrer",
        "woman women f Frau Frauen",
        "child children n Kind Kinder",
        "man men m Mann Männer",
        "doctor doctors m Arzt Ärzte",
        "neighbour neighbours m Nachbar Nachbarn weak",
        "student students m Student Studenten weak",
        "girl girls n Mädchen Mädchen",
        "boy boys m Junge Jungen weak",
        "aunt aunts f Tante Tanten",
        "sister sisters f Schwester Schwestern",
        "brother brothers m Bruder Brüder",
        "guest guests m Gast Gäste",
        "queen queens f Königin Königinnen",
        "farmer farmers m Bauer Bauern weak",
        "dog dogs m Hund Hunde",
        "cat cats f Katze Katzen",
        "horse horses n Pferd Pferde",
    )
]
THINGS = [
    _noun(line)
    for line in (
        "book books n Buch Bücher",
        "letter letters m Brief Briefe",
        "lamp lamps f Lampe Lampen",
        "picture pictures n Bild Bilder",
        "bottle bottles f Flasche Flaschen",
        "table tables m Tisch Tische",
        "key keys m Schlüssel Schlüssel",
        "window windows n Fenster Fenster",
        "car cars n Auto Autos",
        "newspaper newspapers f Zeitung Zeitungen",
        "flower flowers f Blume Blumen",
        "coat coats m Mantel Mäntel",
        "box boxes f Kiste Kisten",
        "apple apples m Apfel Äpfel",
        "knife knives n Messer Messer",
        "map maps f Karte Karten",
    )
]
PLACES = [
    _noun(line)
    for line in (
        "house houses n Haus Häuser",
        "tree trees m Baum Bäume",
        "school schools f Schule Schulen",
        "church churches f Kirche Kirchen",
        "train trains m Zug Züge",
        "ship ships n Schiff Schiffe",
        "wall walls f Mauer Mauern",
        "castle castles n Schloss Schlösser",
    )
]
ADJECTIVES = [
    ("old", "alt"),
    ("young", "jung"),
    ("small", "klein"),
    ("big", "groß"),
    ("new", "neu"),
    ("beautiful", "schön"),
    ("strange", "seltsam"),
    ("red", "rot"),
    ("green", "grün"),
    ("heavy", "schwer"),
    ("cheap", "billig"),
    ("clean", "sauber"),
    ("ugly", "hässlich"),
    ("friendly", "freundlich"),
    ("tired", "müde"),
    ("famous", "berühmt"),
    ("poor", "arm"),
    ("rich", "reich"),
    ("quiet", "still"),
    ("black", "schwarz"),
]
# What a verb governs: for each object its case and the nouns that make sense there.
FRAMES = {
    "-": (),
    "person": ((ACCUSATIVE, PERSONS),),
    "thing": ((ACCUSATIVE, THINGS),),
    "any": ((ACCUSATIVE, PERSONS + THINGS + PLACES),),
    "to": ((DATIVE, PERSONS),),
    "give": ((DATIVE, PERSONS), (ACCUSATIVE, THINGS)),
}
VERBS = [
    _verb(line)
    for line in (
        "see sees saw - sehen sieht gesehen haben any",
        "find finds found - finden findet gefunden haben any",
        "paint paints painted - malen malt gemalt haben any",
        "forget forgets forgot - vergessen vergisst vergessen haben any",
        "buy buys bought - kaufen kauft gekauft haben thing",
        "carry carries carried - tragen trägt getragen haben thing",
        "need needs needed - brauchen braucht gebraucht haben thing",
        "repair repairs repaired - reparieren repariert reparieren haben thing",
        "bring_along brings_along brought_along mit bringen bringt mitgebracht haben thing",
        "put_away puts_away put_away weg räumen räumt weggeräumt haben thing",
        "look_at looks_at looked_at an sehen sieht angesehen haben any",
        "visit visits visited - besuchen besucht besucht haben person",
        "love loves loved - lieben liebt geliebt haben person",
        "hear hears heard - hören hört gehört haben person",
        "call calls called an rufen ruft angerufen haben person",
        "invite invites invited ein laden lädt eingeladen haben person",
        "pick_up picks_up picked_up ab holen holt abgeholt haben person",
        "help helps helped - helfen hilft geholfen haben to",
        "thank thanks thanked - danken dankt gedankt haben to",
        "answer answers answered - antworten antwortet geantwortet haben to",
        "follow follows followed - folgen folgt gefolgt sein to",
        "listen_to listens_to listened_to zu hören hört zugehört haben to",
        "give gives gave - geben gibt gegeben haben give",
        "show shows showed - zeigen zeigt gezeigt haben give",
        "sell sells sold - verkaufen verkauft verkauft haben give",
        "send sends sent zu schicken schickt zugeschickt haben give",
        "sleep sleeps slept - schlafen schläft geschlafen haben -",
        "work works worked - arbeiten arbeitet gearbeitet haben -",
        "sing sings sang - singen singt gesungen haben -",
        "arrive arrives arrived an kommen kommt angekommen sein -",
        "fall_asleep falls_asleep fell_asleep ein schlafen schläft eingeschlafen sein -",
        "get_up gets_up got_up auf stehen steht aufgestanden sein -",
    )
]
# English; German in first, third person and plural; English of the negation (None: it means something else).
MODALS = (
    ("can", "can", "kann", "kann", "können", "cannot", "cannot"),
    ("must", "must", "muss", "muss", "müssen", None, None),
    ("want to", "wants to", "will", "will", "wollen", "do not want to", "does not want to"),
    ("should", "should", "soll", "soll", "sollen", "should not", "should not"),
)
AUXILIARIES = {"haben": ("habe", "hat", "haben"), "sein": ("bin", "ist", "sind")}
PRONOUNS = {  # English subject and object; German nominative, accusative, dative
    "I": ("me", "ich", "mich", "mir"),
    "he": ("him", "er", "ihn", "ihm"),
    "she": ("her", "sie", "sie", "ihr"),
    "we": ("us", "wir", "uns", "uns"),
    "they": ("them", "sie", "sie", "ihnen"),
}
PREPOSITIONS = (
    ("with", "mit", DATIVE, PERSONS),
    ("without", "ohne", ACCUSATIVE, PERSONS),
    ("for", "für", ACCUSATIVE, PERSONS),
    ("behind", "hinter", DATIVE, PLACES),
    ("next to", "neben", DATIVE, PLACES),
    ("in front of", "vor", DATIVE, PLACES),
    ("under", "unter", DATIVE, PLACES),
)
ADVERBS = (
    ("today", "heute"),
    ("often", "oft"),
    ("sometimes", "manchmal"),
    ("in the evening", "am Abend"),
    ("on Monday", "am Montag"),
    ("unfortunately", "leider"),
)
CONJUNCTIONS = (("because", "weil"), ("although", "obwohl"), ("if", "wenn"))
REPORTS = (  # main clauses that take a clause with "dass"
    ("know", "knows", "weiß", "weiß", "wissen"),
    ("say", "says", "sage", "sagt", "sagen"),
    ("believe", "believes", "glaube", "glaubt", "glauben"),
)
