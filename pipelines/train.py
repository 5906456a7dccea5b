"""Trains, validates, tests or predicts with any topic.

python -m pipelines.train fit --config svm --model.reg 1e-4 --data.batch_size 512
python -m pipelines.train fit --ckpt_path logs/svm/RUN            # continue where the run stopped
python -m pipelines.train test --ckpt_path logs/svm/RUN           # the best checkpoint on the test images
python -m pipelines.train predict --ckpt_path logs/svm/RUN --images photos/ --out predictions.csv
python -m pipelines.train test --ckpt_path wandb:ENTITY/PROJECT/model-RUN:best    # an artifact of W&B
"""

import sys

from common.errors import UserError
from common.user_paths import user_path
from pipelines.artifacts.names import is_artifact
from pipelines.console.errors import user_errors
from pipelines.console.near_names import nearest
from pipelines.console.resources import allow_many_files
from pipelines.run.allocator import keep_freed_memory
from pipelines.run.run_folder import RunFolder, find_checkpoint, topic_of
from pipelines.run.topics import find_config, is_config, topic_list, topics

SUBCOMMANDS = {
    "fit": "train, and keep the best and the last checkpoint",
    "validate": "evaluate a checkpoint on the validation images",
    "test": "evaluate a checkpoint on the test images",
    "predict": "classify or caption image files with a checkpoint",
}

# What other programs call the commands.
MEANT = {"train": "fit", "training": "fit", "val": "validate", "eval": "test", "evaluate": "test", "infer": "predict"}


def usage() -> str:
    """Returns the help text that needs no topic."""
    lines = ["usage: python -m pipelines.train COMMAND [--config TOPIC|FILE] [--ckpt_path RUN|FILE] [--KEY VALUE ...]"]
    lines += ["", "commands:", *(f"  {name:<10} {text}" for name, text in SUBCOMMANDS.items())]
    lines += ["", *topic_list()]
    lines += ["", "All settings of a topic: python -m pipelines.train fit --config TOPIC --print_config"]
    lines += ["What each setting means:  python -m pipelines.train fit --config TOPIC --help, or --data.help CIFAR10"]
    return "\n".join(lines)


def resolve(arguments: list[str]) -> tuple[list[str], str]:
    """Resolves topics to files, and a checkpoint without --config to the configuration of its run.

    Returns:
        Arguments for LightningCLI, and the topic.

    Raises:
        ValueError: If the command, topic or checkpoint is unknown, or neither a topic nor a checkpoint is given.
    """
    if arguments[0].startswith("--"):  # as a sweep with `program: pipelines/train.py` starts it
        arguments = ["fit", *arguments]
    command = arguments[0]
    if command not in SUBCOMMANDS:
        raise UserError(f"There is no command {command!r}; {_similar(command)}")
    given = name_first(_with_null(_split_equals(arguments[1:])))
    topic: str | None = None
    resolved = [command]
    run = None
    for index, argument in enumerate(given):
        option = given[index - 1] if index else ""
        if argument in ("--config", "-c", "--ckpt_path") and given[index + 1 : index + 2] in ([], [""]):
            raise UserError(f"{argument} has no value; give it a {'run' if 'ckpt' in argument else 'topic or a file'}.")
        if option in ("--config", "-c"):
            config = find_config(argument)
            if topic is None:  # the first names the topic; others, such as a sweep's values, change its settings
                topic = topic_of(config)
            argument = str(config)
        elif option == "--ckpt_path":
            checkpoint = find_checkpoint(argument, command)
            run = RunFolder.of_checkpoint(checkpoint)
            argument = str(checkpoint)
        resolved.append(argument)
    if any(_asks_for_help(argument) for argument in given):
        return _name_classes(resolved), topic or ""
    if command != "fit" and "--ckpt_path" not in given and "--print_config" not in given:
        raise UserError(f"{command} needs a trained model; set --ckpt_path to a checkpoint or a run's folder.")
    if "--config" not in given and "-c" not in given:
        if run is None:
            raise UserError(
                f"There is nothing to run; set --config to a topic ({', '.join(topics())}) or a YAML file, or set "
                "--ckpt_path to a run's folder."
            )
        resolved[1:1] = ["--config", str(run.config)]  # first, so that settings on the command line change it
        topic = run.topic
    assert topic is not None
    return resolved, topic


def _asks_for_help(argument: str) -> bool:
    """Returns whether a word is -h, --help or the help of a class, such as --model.help."""
    name = argument.partition("=")[0]
    return name in ("-h", "--help") or (name.startswith("--") and name.endswith(".help"))


def _name_classes(arguments: list[str]) -> list[str]:
    """Returns arguments in which each `--model.help` without a class has that of the configuration.

    Raises:
        ValueError: If there is none.
    """
    named = list(arguments)
    for index, argument in reversed(list(enumerate(arguments))):
        value = arguments[index + 1 : index + 2]
        if argument.endswith(".help") and argument.startswith("--") and (not value or value[0].startswith("-")):
            from pipelines.settings.written_settings import WrittenSettings

            given = WrittenSettings(arguments).find(argument[2:-5])
            if given is None:
                raise UserError(f"{argument} needs a class; write {argument} CLASS, or give --config TOPIC.")
            named.insert(index + 1, given.value)
    return named


def _print_topic_help(resolved: list[str], topic: str) -> bool:
    """Prints the help of a configuration if it is asked for; returns whether it was."""
    if not {"-h", "--help"} & {*resolved} or "--config" not in resolved:
        return False
    from pipelines.settings.topic_help import topic_help

    print(topic_help(resolved[0], resolved[1:], topic))
    return True


def name_first(arguments: list[str]) -> list[str]:
    """Returns arguments of `fit` in which a first word without an option has one: a run has --ckpt_path, else --config.

    `fit softmax` is `fit --config softmax`, and `test logs/softmax/RUN` is `test --ckpt_path logs/softmax/RUN`.
    """
    if not arguments or not arguments[0] or arguments[0].startswith("-"):
        return arguments
    word = arguments[0]
    if is_artifact(word) or user_path(word).is_dir() or word.endswith(".ckpt"):
        return ["--ckpt_path", *arguments] if "--ckpt_path" not in arguments else arguments
    return ["--config", *arguments] if is_config(word) or not {"--config", "-c"} & {*arguments} else arguments


def _similar(command: str) -> str:
    """Returns the command that a wrong one means, or all commands."""
    meant = MEANT.get(command.lower()) or nearest(command, list(SUBCOMMANDS))
    if meant is None and is_config(command):
        return f"did you mean fit --config {command}?"
    return f"did you mean {meant}?" if meant else f"use one of {', '.join(SUBCOMMANDS)}."


def _split_equals(arguments: list[str]) -> list[str]:
    """Splits `--config=x` and `--ckpt_path=x` into two words; keeps other arguments."""
    split: list[str] = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        split += [name, value] if equals and name in ("--config", "-c", "--ckpt_path") else [argument]
    return split


def _with_null(arguments: list[str]) -> list[str]:
    """Returns arguments with null for the word None, which W&B's macro ${args} makes of it."""
    words: list[str] = []
    for word in arguments:
        option, equals, value = word.partition("=")
        if word == "None" and words and words[-1].startswith("--") and "=" not in words[-1]:
            word = "null"
        elif option.startswith("--") and equals and value == "None":
            word = f"{option}=null"
        words.append(word)
    return words


def main(arguments: list[str] | None = None) -> None:
    """Runs a command line; exit status 1 if `predict` could not read some images, 2 after a user's mistake."""
    arguments = sys.argv[1:] if arguments is None else arguments
    with user_errors():
        if not arguments or arguments[0] in ("--help", "-h"):
            print(usage())
            return
        resolved, topic = resolve(arguments)
        if _print_topic_help(resolved, topic):
            return
        allow_many_files()
        keep_freed_memory()
        from pipelines.run.cli import run  # imports torch and Lightning: four seconds

        cli = run(resolved, topic)
        if resolved[0] == "predict" and cli.trainer.is_global_zero and cli.predict_options.predictions.num_unreadable:
            sys.exit(1)


if __name__ == "__main__":
    main()
