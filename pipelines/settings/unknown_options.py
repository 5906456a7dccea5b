"""Explains an option that does not exist, and names the corresponding setting."""

from collections.abc import Mapping, Sequence

from common.messages.shortening import shorten
from pipelines.console.near_names import nearest, suggest
from pipelines.run.topics import topics
from pipelines.settings.classes import CLASS_KEYS, GROUPS, settings_of_class
from pipelines.settings.option_aliases import ALIASES, HINTS, normalized

_OPTIONAL = ("optimizer", "lr_scheduler")  # keys that a configuration may lack


def explain_unknown_option(wrong: str, options: Sequence[str], classes: Mapping[str, type]) -> str:
    """Returns the error message for a word of the command line that is not an option.

    Args:
        wrong: The word, such as "--lr" or "--lr=1".
        options: The options of the command, without dashes.
        classes: Class of each key that has one, such as "optimizer".
    """
    name, equals, value = wrong.partition("=")
    if not wrong.startswith("-"):
        if not equals:
            return f"{shorten(wrong)!r} belongs to no option; write every setting as --key value or --key=value."
        key = _hint(name, options, classes)[1] or name
        return f"{shorten(wrong)!r} belongs to no option; write it as --{key}={shorten(value)}."
    sentence, key = _hint(name.lstrip("-"), options, classes)
    return f"There is no option {shorten(name)}; {sentence}"


def explain_unknown_key(name: str, options: Sequence[str], classes: Mapping[str, type]) -> str | None:
    """Returns a hint for an unknown key of a configuration file, such as "lr"; None if no setting corresponds.

    Args:
        name: The key.
        options: The options of the command, without dashes.
        classes: Class of each key that has one, such as "optimizer".
    """
    sentence, key = _hint(name, options, classes)
    return sentence.replace("--", "") if key else None


def _hint(name: str, options: Sequence[str], classes: Mapping[str, type]) -> tuple[str, str]:
    """Returns a hint for an unknown name, and the key that it corresponds to or ""."""
    plain = normalized(name)
    settings = [f"{key}.{setting}" for key, owner in classes.items() for setting in settings_of_class(owner)]
    accepted = [*settings, *options]
    if same := next((key for key in accepted if key.replace(".", "_").lower() == plain.replace(".", "_")), None):
        return f"did you mean --{same}?", same
    if plain in ("output", "outdir", "output_file", "o", "save") and "out" in options:
        return "did you mean --out?", "out"
    if plain in ALIASES:
        key, meaning = ALIASES[plain]
        root, _, setting = key.partition(".")
        if key in accepted or (setting and root not in CLASS_KEYS):
            return f"{meaning} is --{key}.", key
        # The model's own, such as generator_lr and discriminator_lr; or a setting of another class by the same name.
        others = [other for other in settings if other.endswith((f".{setting}", f"_{setting}", f".{plain}"))]
        if others and setting:
            return f"{meaning} is {' and '.join(f'--{other}' for other in others)}.", others[0]
        if setting and root in classes:
            its = list(settings_of_class(classes[root]))
            return f"{meaning} is not a setting of {classes[root].__name__}; {suggest('', its)}", ""
        if setting and root in _OPTIONAL:
            return f"{meaning} is --{key}, once --{root} names a class, such as --{root} {CLASS_KEYS[root]}.", key
        return f"{meaning} is --{key}.", key
    if found := next((key for key in accepted if key.rpartition(".")[2] == plain), None):
        return f"did you mean --{found}?", found
    if plain in HINTS:
        return HINTS[plain], ""
    if plain in topics():
        return f"did you mean --config {plain}?", ""
    group, dot, setting = name.rpartition(".")
    if dot and group in GROUPS:
        names = [option.rpartition(".")[2] for option in options if option.startswith(f"{group}.")]
        near = nearest(setting, names)
        return f"did you mean --{group}.{near}?" if near else f"{group} has no setting {setting!r}; see --help.", ""
    near = nearest(name, accepted) or nearest(name, [key.rpartition(".")[2] for key in accepted])
    if near is None:
        return suggest(name, options, "--"), ""
    near = near if near in accepted else next(key for key in accepted if key.rpartition(".")[2] == near)
    return f"did you mean --{near}?", near
