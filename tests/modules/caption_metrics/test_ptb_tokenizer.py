"""The tokens of made-up texts that Stanford's tokenizer, as coco-caption runs it, printed for them.

The program is stanford-corenlp-3.4.1.jar of pycocoevalcap 1.2, run as `java -cp stanford-corenlp-3.4.1.jar
edu.stanford.nlp.process.PTBTokenizer -preserveLines -lowerCase FILE` on UTF-8; punctuation of its list is left out.

Each text stood before a line that begins with "The", as captions stand in a file: what follows decides whether a single
letter keeps its point.
"""

import pytest

from modules.caption_metrics.ptb_tokenizer import ptb_tokenize, tokenize_caption

PRINTED = [
    ("A man rides a brown horse along the beach.", "a man rides a brown horse along the beach"),
    ("Two dogs, a cat and a parrot sit on the sofa .", "two dogs a cat and a parrot sit on the sofa"),
    (
        "The dog's tail isn't visible; it's behind the sofa's arm!",
        "the dog 's tail is n't visible it 's behind the sofa 's arm",
    ),
    ("The players' bench and James' hat", "the players bench and james hat"),
    ("They can't, won't and shan't: I'd've said so", "they ca n't wo n't and sha n't i 'd 've said so"),
    ("DON'T WALK signs at Main St. and 5th Ave.", "do n't walk signs at main st. and 5th ave."),
    ("don’t touch the woman’s “new” hat", "do n't touch the woman 's new hat"),
    ("you cannot miss it, he's gonna win; gimme a wanna-be", "you can not miss it he 's gon na win gim me a wanna-be"),
    ("'Tis a rock 'n' roll band from the '80s and '90s", "'t is a rock 'n' roll band from the '80s and '90s"),
    (
        "rock'n'roll, ma'am! y'all meet at O'Brien's at 5 o'clock",
        "rock 'n' roll ma'am y' all meet at o'brien 's at 5 o'clock",
    ),
    ("a black-and-white photo of a 20-year-old T-shirt", "a black-and-white photo of a 20-year-old t-shirt"),
    ("He sleeps - she reads -- they wait --- nobody talks", "he sleeps she reads they wait nobody talks"),
    ("a street–level view — with trees", "a street level view with trees"),
    (
        "10,000 people, 3.5 miles, 5:30pm, a 2.5-inch lens and 6ft of snow",
        "10,000 people 3.5 miles 5:30 pm a 2.5-inch lens and 6ft of snow",
    ),
    (
        'a 5\' 8" man with a 12" pizza and 50% less cheese, $4.99 or £3 or €4 or 99¢',
        "a 5 8 man with a 12 pizza and 50 % less cheese $ 4.99 or # 3 or $ 4 or 99 cents",
    ),
    ("3.5mm film, 4x4 trucks and 3D glasses", "3.5 mm film 4x4 trucks and 3d glasses"),
    ("Boeing 747-400, an F-16 and a B-52 at gate No. 7", "boeing 747-400 an f-16 and a b-52 at gate no. 7"),
    ("no. Not number 5.", "no not number 5"),
    (
        "1/2 a pizza, 2 1/2 cups and/or 3/4 of a pie on 12/25/2014",
        "1/2 a pizza 2 1/2 cups and/or 3/4 of a pie on 12/25/2014",
    ),
    ("It is 10 a.m. or 5 p.m. in the U.S. and the U.K.", "it is 10 a.m. or 5 p.m. in the u.s. and the u.k."),
    (
        "Mr. Lee, Mrs. Ray and Dr. King vs. Capt. Hook, Jr., Inc., etc.",
        "mr. lee mrs. ray and dr. king vs. capt. hook jr. inc. etc.",
    ),
    ("John F. Kennedy, J.K. Rowling and R. Mutt", "john f. kennedy j.k. rowling and r. mutt"),
    ("Profs. Lee and Ray of Calif. on a Thurs. night", "profs. lee and ray of calif. on a thurs. night"),
    ("Plan B.", "plan b"),
    ("This is plan C. The other is D. as in dog.", "this is plan c the other is d. as in dog"),
    ("The Miss. river is a near miss.", "the miss. river is a near miss"),
    ("A boy runs.A girl sits.Nobody falls", "a boy runs.a girl sits.nobody falls"),
    ("Stop!Look?listen", "stop!look?listen"),
    ("a dog.3 cats", "a dog .3 cats"),
    ("A boat.. a lake... a house.... and a tree…", "a boat a lake a house and a tree"),
    ("wait…what", "wait what"),
    ("a cup., a plate.; a fork.: red", "a cup. a plate. a fork. red"),
    ("A sign (in French) [sic] {with} marks", "a sign -lrb- in french -rrb- -lsb- sic -rsb- -lcb- with -rcb- marks"),
    ("Great!! Really?! Yes! Ok?", "great !! really ?! yes ok"),
    ("\"Hello\", he said 'with' ``old'' quotes and a ` tick", "hello he said with old quotes and a tick"),
    ("R&B at AT&T, salt & pepper, black&white", "r&b at at&t salt & pepper black & white"),
    (
        "#1 #sunset @home 50%-off x+y=z a*b a_b c:\\d | ~ ^",
        "# 1 #sunset @home 50 % off x + y = z a * b a_b c \\ d | ~ ^",
    ),
    ("smile :) wink ;-) sad :( XD", "smile :-rrb- wink ;--rrb- sad :-lrb- xd"),
    (
        "see www.site.org or http://site.org/a?b=c, mail me@site.org",
        "see www.site.org or http://site.org/a?b=c mail me@site.org",
    ),
    ("café naïve über façade Zürich", "café naïve über façade zürich"),
    ("東京 tower and Красная square 🎉 party ½ off", "東京 tower and красная square party 1/2 off"),
    ("-5 degrees, +3 more, .5 liter", "-5 degrees +3 more .5 liter"),
    ("w/ a hat and w/o shoes", "w / a hat and w/o shoes"),
    ("x-ray of a he/she/it thing", "x-ray of a he/she/it thing"),
    ("a \" lonely quote and an ' apostrophe", "a lonely quote and an apostrophe"),
    ("US$ 5 or A$5", "us$ 5 or a$ 5"),
    # Fractions and numerals are no parts of words, invisible characters no tokens, and soft hyphens nothing at all.
    ("A ½-full glass, a half-½ cup, ½½ and 2-½ pints", "a 1/2 full glass a half 1/2 cup 1/2 1/2 and 2 1/2 pints"),
    (
        "1½ cups, 1-½-inch hose, ¾of a pie, ½th and (½)",
        "1 1/2 cups 1 1/2 inch hose 3/4 of a pie 1/2 th and -lrb- 1/2 -rrb-",
    ),
    ("2⅓ cups of ⅔-fat milk, ⅕-full", "2 1/3 cups of 2/3 fat milk ⅕ full"),
    ("5 m² of CO₂, 10³ dogs, step① and ①step", "5 m ² of co ₂ 10 ³ dogs step ① and ① step"),
    ("King Henry Ⅷ, part Ⅲ-b", "king henry part b"),
    ("they don't½ and it's½", "they do n't 1/2 and it 's 1/2"),
    ("zero\u200bwidth, a \u200b dog\u200b, the cat\u200b's tail", "zero width a dog the cat 's tail"),
    ("black\u200b-\u200bwhite\u200b.", "black white"),
    ("\ufeffA dog\u200e and a\u2060cat", "a dog and a cat"),
    ("a zero\u200cwidth joiner\u200d", "a zero width joiner"),
    ("I \u2764\ufe0f dogs\U0001f415 \u263a\ufe0e", "i ❤ dogs ☺"),
    ("co\xadop and half\xad-full, do\xadn't", "coop and half-full do n't"),
    ("a T\u2011shirt, a 20\u2010year\u2010old and a \u2010 dash", "a t\u2011shirt a 20\u2010year\u2010old and a dash"),
    ("₹500 or ¤5 or ₠6", "500 or $ 5 or $ 6"),
    ("bell\x07 and\x7f more", "bell and more"),
    ("", ""),
    ("   ", ""),
    (".", ""),
    ("!", ""),
    ("tab\tand  double   spaces ", "tab and double spaces"),
]


@pytest.mark.parametrize(("text", "tokens"), PRINTED)
def test_tokens_are_those_of_the_java_program(text: str, tokens: str) -> None:
    assert ptb_tokenize(text) == tokens.split()


@pytest.mark.parametrize("end", ["", ".", " .", "!", "?", "\n", " \t "])
def test_the_end_of_a_caption_does_not_matter(end: str) -> None:
    assert ptb_tokenize("A dog on a sofa" + end) == ["a", "dog", "on", "a", "sofa"]


def test_case_does_not_matter_to_plain_words() -> None:
    text = "two men don't play with a well-known dog's ball, at night"
    assert ptb_tokenize(text.upper()) == ptb_tokenize(text)


def test_scripts_that_the_java_program_cuts_up_or_leaves_whole() -> None:
    assert tokenize_caption("一只狗在跑。") == tokenize_caption("一 只 狗 在 跑") == ["一", "只", "狗", "在", "跑"]
    assert tokenize_caption("हिन्दी में।") == ["हिन्दी", "में"]
    assert tokenize_caption("Cafe\u0301's dog") == tokenize_caption("café's dog") == ["café", "'s", "dog"]
    assert tokenize_caption("می\u200cروند") == ["می\u200cروند"]  # a joiner within a word
    astronaut = "A \U0001f469\u200d\U0001f680 isn't here"  # the joiner of an emoji changes no other word
    assert tokenize_caption(astronaut) == ptb_tokenize(astronaut) == ["a", "is", "n't", "here"]
    for text, tokens in PRINTED:
        assert tokenize_caption(text) == tokens.split() or "東" in text or "\u200c" in text


def test_tokens_stay_as_they_are() -> None:
    """What a model learned from tokens it says in tokens."""
    for _, tokens in PRINTED:
        words = [word for word in tokens.split() if word.isalpha()]
        assert ptb_tokenize(" ".join(words)) == words
