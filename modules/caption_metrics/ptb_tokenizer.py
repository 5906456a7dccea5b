"""Penn Treebank tokenizer without punctuation, as coco-caption tokenizes captions.

coco-caption runs Stanford's tokenizer in Java (CoreNLP 3.4.1, `PTBTokenizer -preserveLines -lowerCase`) and drops the
punctuation marks of a list. This is one regular expression that reproduces that program's output:

    the dog's tail, isn't it?          the dog 's tail is n't it              clitics are words
    a 20-year-old's T-shirt            a 20-year-old 's t-shirt               hyphenated words stay one word
    Mr. Lee on Main St. at 5 p.m.      mr. lee on main st. at 5 p.m.          abbreviations keep their periods,
    Lee J. has a plan B.               lee j. has a plan b                    as do single letters within a sentence
    two dogs.One sleeps.               two dogs.one sleeps                    a period without a space joins words
    (red & £5) for 3.5mm!!             -lrb- red & # 5 -rrb- for 3.5 mm !!    brackets, currencies and !! stay

Sources: https://nlp.stanford.edu/software/tokenizer.shtml, https://github.com/tylin/coco-caption
"""

import re
import unicodedata

from common.vocabulary import needs_split_words, split_words

# Words that keep a period; those that keep it only with a capital letter; only before a number.
_ABBREVIATIONS = """
    adj adm adv al ala alex apr ariz assn assoc asst atty aug ave bancorp bhd bldg blvd brig bros calif capt cf cie cmdr
    co col colo comdr conn corp cos cpl ct dak dec dept det dr drs elec ens esq est etc ext feb fla fri ft ga gen gov
    govs hon inc ind insp intl invt jan jos jr jul jun kan kans ky lieut lt ltd maj mar md messrs mfg mich minn mlle mme
    mo mon mont mr mrs ms msgr mt mtg natl neb nev nov oct okla penn pfc ph ph.d plc pres prof profs pte pty pvt rd rep
    reps rev rt sen sens sep sept seq sfc sgt spc sq sr st ste supt supts sys tel tenn thu thurs treas tue tues univ va
    vs vt wed wis wisc wm wyo
"""
_CAPITALIZED = "Ark Az Del Ill La Mass Miss Ore Pa Tex Wash"
_NUMBERED = "no nos fig pp art"

# A single letter keeps its period unless it ends a sentence: if the caption ends or one of these words follows.
_STARTS = """
    A About According After An As At But He Her Here However If In It Last Many More Now Once One Other Our She Since So
    Some Such That The Their Then There These They This We What When While Yet You
"""

# Fractions, superscripts, subscripts, circled and Roman numerals: letters to Python's \w, but not part of a word here.
_NUMERALS = "²³¹¼-¾⁰⁴-⁹₀-₉⅐-ↂↅ-↉①-⒛⓪-⓿❶-➓"
# Characters without a token: controls, invisible ones such as the zero-width space, some signs, and emoji.
_SKIPPED = (
    r"\x00-\x1f\x7f\x81-\x9f\u200b-\u2012\u2024\u2025\u2027-\u202e\u203c\u203d\u2043\u2045-\u206f\u20a1-\u20a3"
    r"\u20a5-\u20ab\u20ad-\u20ff\u2150-\u2152\u215f-\u218f\ufe00-\ufe0f\ufeff\U00010000-\U0010ffff"
)
_SOFT_HYPHEN = "\xad"  # joins what it separates

_L = rf"[^\W\d_{_NUMERALS}]"  # a letter
_N = rf"[^\W_{_NUMERALS}]"  # a letter or digit
_END = rf"(?!{_N})"
_WHOLE = rf"(?!-?{_N})"


def _either(words: str) -> str:
    return "(?i:" + "|".join(map(re.escape, words.split())) + ")"


# The first pattern that matches is the next token; a character that matches none, such as an emoji, is skipped.
_PATTERNS = (
    r"(?!(?i:cannot|gonna|wanna|gotta|gimme|lemme)(?!\S))[A-Za-z]+(?!\S)",  # most words, first for speed
    rf"(?i:can(?=not{_WHOLE})|(?:gon|wan)(?=na{_WHOLE})|got(?=ta{_WHOLE})|(?:gim|lem)(?=me{_WHOLE}))",  # can not
    r"''",
    rf"(?i:n['’]t)(?!{_L})|{_L}+(?=(?i:n['’]t)(?!{_L}))",  # is n't
    rf"(?i:'(?:till?|em|cause|n'|n{_END}))|(?i:'t)(?=(?i:is|was))|'[2-9]0s{_END}|'\d\d(?!\S)",  # 'em, 't is
    rf"(?i:['’](?:s|m|d|ll|re|ve)){_END}",  # dog 's
    rf"(?i:ma'am|ne'er|[oe]'er|ol'){_END}|[CDLNOcdlno]['’]{_L}+|[JYjy]['’](?={_L})",  # o'clock, y' all
    rf"(?:{_L}\.)+(?:-{_N}+)+|(?:{_L}\.){{2,}}{_END}",  # U.S.-based, p.m.
    rf"{_L}\.{_END}(?!\s*$|\s+(?:{'|'.join(_STARTS.split())})(?:\s|$))",  # John F. Lee
    rf"{_either(_ABBREVIATIONS)}\.{_END}|{_either(_NUMBERED)}\.(?=\s*\d)",  # Mr., no. 5
    rf"(?:{'|'.join(f'{word[0]}(?i:{word[1:]})' for word in _CAPITALIZED.split())})\.{_END}",
    r"(?:https?://|www\.)[^\s\"<>]*[^\s\"<>.,!?)]|[\w.]+@\w+(?:\.\w+)*",
    r"[A-Z]+&[A-Z]+|[A-Z]+\$",  # AT&T, US$
    rf"{_N}+(?:-{_N}+)*\.(?=[,;:])",  # dogs.,
    rf"{_L}{_N}*(?:[.!?]{_L}{_N}*)+(?:-{_N}+)*",  # dogs.One
    rf"(?<=\d\s)\d+/\d+(?=-)|\d+(?:[.,]\d+)+(?:-{_L}{_N}*)+",  # 2 1/2, 2.5-inch
    r"[-+]?\d*(?:[.,:]\d+)+|[-+]\d+",  # 1,000 and 5:30 and -5
    rf"{_N}+(?:[-‐‑_/]{_N}+)*",  # words and numbers: 20-year-old, and/or
    rf"[#@]{_L}+|</?{_L}[^<>]*>|>?[:;=]'?-?[()DPpOo]{_END}",  # #dog, :-)
    rf"[!?]{{2,}}|\*{{2,}}|_{{2,}}|\#{{2,}}|@{{2,}}|[^\s{_SKIPPED}]",
)
_TOKEN = re.compile(rf"\s*({'|'.join(_PATTERNS)})")  # with the space before it, so that no pattern is tried there

_DROPPED = frozenset(["''", *"\"'’‘`“”«»‹›.?!,:;-–—―…"])
_WRITTEN = str.maketrans(
    {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
    | {"£": "#", "€": "$", "¤": "$", "₠": "$", "\x80": "$", "¢": "cents", "’": "'"}
    | {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
)


def tokenize_caption(text: str) -> list[str]:
    """Splits a caption as `ptb_tokenize`; words of scripts that it would cut up or not separate, by `split_words`.

    Such are letters with marks, as in Hindi, and scripts without spaces between words, as Chinese, for which
    coco-caption's tokens depend on how a caption is typed.
    """
    return split_words(text) if needs_split_words(text) else ptb_tokenize(unicodedata.normalize("NFC", text))


def ptb_tokenize(text: str) -> list[str]:
    """Splits a caption into lower-case tokens without punctuation marks."""
    tokens = [token for token in _TOKEN.findall(text.replace(_SOFT_HYPHEN, "").rstrip()) if token not in _DROPPED]
    return " ".join(tokens).lower().translate(_WRITTEN).split()
