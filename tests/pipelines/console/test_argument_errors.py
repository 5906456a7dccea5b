"""One sentence for every mistake in settings: what is written, where, and what is accepted, in the user's notation."""

from pathlib import Path
from typing import Any, ClassVar

import pytest

from common.errors import UserError
from pipelines.run.cli import TopicCLI
from pipelines.train import resolve


class Parsed(Exception):
    """The command line was parsed without an error."""


class ParsingOnly(TopicCLI):
    """The command line of `pipelines.train`, stopped before it instantiates any class."""

    built: ClassVar[dict[str, Any]] = {}  # shared: building the parser takes two thirds of the time

    def setup_parser(self, *arguments: Any) -> None:
        if not self.built:
            before = set(vars(self))
            super().setup_parser(*arguments)
            self.built.update({name: value for name, value in vars(self).items() if name not in before})
        vars(self).update(self.built)

    def before_instantiate_classes(self) -> None:
        raise Parsed


def sentence(*arguments: str) -> str:
    """Returns what is wrong with the arguments of `fit`."""
    with pytest.raises(UserError) as caught:
        ParsingOnly(*resolve(["fit", *arguments]))
    said = str(caught.value)
    assert len(said) < 450 and "\n" not in said and "Namespace" not in said and "NestedArg" not in said
    return said


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("--lr", "the learning rate is --optimizer.lr."),
        ("--learning-rate", "the learning rate is --optimizer.lr."),
        ("--LR", "the learning rate is --optimizer.lr."),
        ("--epochs", "the number of epochs is --trainer.max_epochs."),
        ("--batch-size", "the batch size is --data.batch_size."),
        ("--batch_size", "the batch size is --data.batch_size."),
        ("--gpus", "the number of GPUs or processes is --trainer.devices."),
        ("--seed", "the seed is --seed_everything."),
        ("--wd", "the weight decay is --optimizer.weight_decay."),
        ("--num-workers", "the number of worker processes is --data.num_workers."),
        ("--momentum", "the momentum is --optimizer.momentum."),
        ("--data-dir", "the folder of the data is --data.root."),
        ("--device", "the type of device is --trainer.accelerator."),
        ("--resume", "the checkpoint to resume from is --ckpt_path."),
        ("--reg", "the strength of the L2 penalty is --model.reg."),
        ("--amp", "the precision is --trainer.precision."),
        (
            "--output",
            "a run is written to logs/TOPIC/RUN in the working folder; start the command in the folder that should "
            "contain logs/.",
        ),
        ("--no-wandb", "W&B, which is online, offline or disabled, is --wandb.mode."),
        ("--optimizer-lr", "did you mean --optimizer.lr?"),
        ("--weight_scale", "did you mean --model.weight_scale?"),
        ("--limit_val_batches", "did you mean --trainer.limit_val_batches?"),
        ("--svm", "did you mean --config svm?"),
        ("--print-config", "did you mean --print_config?"),
        ("--trainer.foo", "trainer has no setting 'foo'; see --help."),
    ],
)
def test_options_of_other_programs_name_the_setting_that_is_meant(option: str, meant: str) -> None:
    assert sentence("--config", "softmax", option, "1") == f"There is no option {option}; {meant}"


def test_what_is_meant_depends_on_the_classes() -> None:
    said = sentence("--config", "gan", "--lr", "1")
    assert said.endswith("the learning rate is --model.generator_lr and --model.discriminator_lr.")
    said = sentence("--config", "softmax", "--optimizer", "Adam", "--momentum", "0.9")
    assert said.startswith(
        "There is no option --momentum; the momentum is not a setting of Adam; use one of lr, betas,"
    )
    said = sentence("--config", "knn", "--lr", "1")
    assert said.endswith(
        "the learning rate is --optimizer.lr, once --optimizer names a class, such as --optimizer SGD."
    )
    said = sentence("--config", "softmax", "lr=0.1")
    assert said == "'lr=0.1' belongs to no option; write it as --optimizer.lr=0.1."


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--config convnet --model.channels 64", "--model.channels is '64'; it must be a list of integers, such as"),
        ("--config convnet --model.channels [a]", "--model.channels is '[a]'; it must be a list of integers, such as"),
        ("--config softmax --optimizer.lr abc", "--optimizer.lr is 'abc'; it must be a number."),
        ("--config softmax --optimizer.lr 0,1", "--optimizer.lr is '0,1'; it must be a number, such as 0.1."),
        ("--config softmax --data.batch_size 1e2", "--data.batch_size is '1e2'; it must be an integer, such as 100."),
        ("--config softmax --data.flip maybe", "--data.flip is 'maybe'; it must be true or false or 'alternate'."),
        ("--config softmax --trainer.max_epochs yes", "--trainer.max_epochs is 'yes'; it must be an integer."),
        ("--config softmax --trainer.precision 17", "--trainer.precision is '17'; it must be one of '64', '32', '16',"),
        (
            "--config softmax --trainer.max_epochs",
            "--trainer.max_epochs has no value; write --trainer.max_epochs VA",
        ),
        ("--config softmax --model.reg", "--model.reg has no value; write --model.reg VALUE."),
        ("--config softmax --model.reg {a:1,a:2} ", "--model.reg is '{a:1,a:2}'; it must be a number."),
        ("--config softmax --trainer fast", "--trainer is 'fast'; give its settings one by one, such as --trainer.max"),
        ("--config softmax --lr_scheduler StepLR", "StepLR needs step_size; set --lr_scheduler.step_size."),
        (
            "--config softmax --lr_scheduler ReduceLROnPlateau",
            "ReduceLROnPlateau needs monitor; set --lr_scheduler.m",
        ),
        (
            "--config softmax --trainer.callbacks EarlyStopping",
            "EarlyStopping needs monitor; set --trainer.callback",
        ),
        (
            "--config softmax --trainer.callbacks+=EarlyStoping",
            "There is no class 'EarlyStoping' for trainer.callb",
        ),
        ("--config softmax --data cifar10", "There is no class 'cifar10' for data; did you mean CIFAR10?"),
        ("--config softmax --model nowhere.Net", "There is no module 'nowhere' for model nowhere.Net; it must be"),
        (
            "--config softmax --model json.JSONDecoder",
            "json.JSONDecoder is not a LightningModule; derive it from LightningModule, or",
        ),
        ("--config softmax --model Classifier", "Classifier does not define loss; define it, or use a subclass that"),
        ("--config softmax --data.class_path ImageDataModule", "ImageDataModule does not define read; define it, or "),
        (
            "--config softmax --optimizer Adam --optimizer.betas 3",
            "--optimizer.betas is '3'; it must be a list of 2",
        ),
        ("--config softmax --seed_everything=-3", "--seed_everything is -3; it must be in [0, 4294967295]."),
        ("--config softmax --data.batch_size null", "--data.batch_size is null; it must be an integer."),
        ("--config softmax --model.reg null", "--model.reg is null; it must be a number."),
        ("--config softmax --optimizer.lr null", "--optimizer.lr is null; it must be a number."),
        ("--config gan --model.latent_size null", "--model.latent_size is null; it must be an integer."),
        ("--config caption_lstm --model.width null", "--model.width is null; it must be an integer."),
        ("--config fast_convnet --model.lr null", "--model.lr is null; it must be a number."),
        (
            "--config softmax --trainer.accumulate_grad_batches 0",
            "--trainer.accumulate_grad_batches is 0; it must",
        ),
        ("--config softmax --optimizer.lr .inf", "--optimizer.lr is inf; it must be a finite number."),
        ("--config softmax --model.reg 1e999", "--model.reg is inf; it must be a finite number."),
        (
            "--config softmax --data.batch_size 99999999999999999999",
            "--data.batch_size is 99999999999999999999; it",
        ),
    ],
)
def test_a_wrong_value_is_named_with_what_is_accepted(arguments: str, said: str) -> None:
    assert sentence(*arguments.split()).startswith(said)


def test_a_value_that_is_a_mapping_with_a_key_twice() -> None:
    said = sentence("--config", "softmax", "--model.reg", "{a: 1, a: 2}")
    assert said == "--model.reg has the key 'a' twice, both in line 1; keep one of them."


def test_a_value_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    """Such as a folder with a Latin-1 name: jsonargparse reports it for the class of the data."""
    folder = f"{tmp_path}/b\udcfccher"
    said = sentence("--config", "softmax", "--data.root", folder)
    assert said.startswith("--data.root is '") and said.endswith(
        "which is not UTF-8 text; correct it, or rename the file or folder."
    )


FILE = """\
model: modules.SoftmaxRegression
data:
  class_path: datamodules.Digits
  init_args:
    batch_size: 32
trainer:
  max_epochs: 1
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "",
            "trainer:\n  min_epochs: 1\n",
            "mine.yaml has the key 'trainer' twice, in lines 1 and 8; keep one of them.",
        ),
        (
            "32",
            "32\n    batch_size: 64",
            "mine.yaml has the key 'batch_size' twice, in lines 5 and 6; keep one of them.",
        ),
        ("32", "abc", "--data.batch_size is 'abc' (mine.yaml, line 5); it must be an integer."),
        ("32", "1:30", "--data.batch_size is '1:30' (mine.yaml, line 5); it must be an integer."),
        ("32", "null", "--data.batch_size is null (mine.yaml, line 5); it must be an integer."),
        ("32", "~", "--data.batch_size is ~, which is null in YAML (mine.yaml, line 5); it must be an integer."),
        ("32", "9" * 20_000, "mine.yaml has a number of 20,000 digits in line 5; correct it."),
        ("32", "x" * 20_000, f"--data.batch_size is '{'x' * 59}…' (mine.yaml, line 5); it must be an integer."),
        ("batch_size: 32", "preprocessing: no", "--data.preprocessing is 'no' (mine.yaml, line 5); it must be one of"),
        (
            "  max_epochs: 1",
            " - 1",
            "mine.yaml, line 6: trainer is '[1]'; it must have settings by name, or be left out.",
        ),
        ("\n  max_epochs: 1", " -.inf", "mine.yaml, line 6: trainer is '-inf'; it must have settings by name,"),
        ("\n  max_epochs: 1", " null", "mine.yaml, line 6: trainer is null; it must have settings by name,"),
        ("modules.SoftmaxRegression", "3", "mine.yaml, line 1: model is '3'; it must be the name of a class, such as"),
        (
            "datamodules.Digits",
            "",
            "mine.yaml, line 3: the class_path of data is null; it must be the name of a class.",
        ),
        ("init_args", "init_arg", "mine.yaml, line 5: data has 'init_arg' beside class_path; its settings belong in"),
        ("\n    batch_size: 32", " 3", "mine.yaml, line 4: the init_args of data are '3'; give settings by name, or"),
        ("batch_size", "1", "mine.yaml, line 5: the name of a setting is 1; it must be text."),
        ("model:", "1:", "mine.yaml, line 1: the name of a setting is 1; it must be text, such as model."),
        ("model:", "config: {}\nmodel:", "mine.yaml, line 1: a file can't name another one as 'config'; give --config"),
        ("model:", 'config: "\\0"\nmodel:', "mine.yaml, line 1: a file can't name another one as 'config'; give"),
        (
            "max_epochs",
            "max_epoch",
            "The configuration has an unknown key 'trainer.max_epoch' (mine.yaml, line 7); did",
        ),
        (FILE, "", "mine.yaml is empty; give a YAML file with settings, such as the config.yaml of a run."),
        (FILE, "fast\n", "mine.yaml is 'fast'; it must have settings by name, such as model: LinearSVM."),
    ],
)
def test_a_mistake_in_a_file_names_key_and_line(
    old: str, new: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(new + FILE if not old else FILE.replace(old, new, 1))
    assert sentence("--config", "mine.yaml").startswith(said)


@pytest.mark.parametrize(
    ("written", "value"), [("010", 10), ("1_000", 1000), ("'32'", 32), ("0x20", 32), ("!!int 32", 32)]
)
def test_numbers_in_a_file_are_what_they_are_on_the_command_line(
    written: str, value: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(FILE.replace("32", written))

    class Values(ParsingOnly):
        def before_instantiate_classes(self) -> None:
            raise Parsed(self.config["fit.data.init_args.batch_size"])

    with pytest.raises(Parsed) as parsed:
        Values(*resolve(["fit", "--config", "mine.yaml"]))
    assert parsed.value.args == (value,)


@pytest.mark.parametrize("word", ["softmax", "mine.yaml"])
def test_a_first_word_is_the_topic_or_file(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(FILE)
    assert resolve(["fit", word, "--model.reg", "1"]) == resolve(["fit", "--config", word, "--model.reg", "1"])
    with pytest.raises(Parsed):
        ParsingOnly(*resolve(["fit", word, "--model.reg", "1"]))


def test_home_and_variables_are_expanded_in_every_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell expands them within a word such as --data.root=~/data, and nobody in a file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "scratch" / "data").mkdir(parents=True)
    monkeypatch.setenv("SCRATCH", f"{tmp_path}/scratch")
    (tmp_path / "my file.yaml").write_text(
        FILE.replace("batch_size: 32", "root: ~/data\n    images: [~/a.png, $SCRATCH/b, c]")
        + "  profiler: {class_path: SimpleProfiler, init_args: {dirpath: '~/profiles'}}\n"
    )

    class Values(ParsingOnly):
        def before_instantiate_classes(self) -> None:
            raise Parsed(self.config["fit"])

    with pytest.raises(Parsed) as parsed:
        Values(*resolve(["fit", "--config=~/my file.yaml", "--data.root=${SCRATCH}/data"]))
    (config,) = parsed.value.args
    assert config["data.init_args.root"] == f"{tmp_path}/scratch/data"
    assert config["data.init_args.images"] == [f"{tmp_path}/a.png", f"{tmp_path}/scratch/b", "c"]
    assert config["trainer.profiler.init_args.dirpath"] == f"{tmp_path}/profiles"
    said = sentence("--config=~/my file.yaml", "--data.root=$NOWHERE/data")
    assert said == "$NOWHERE/data begins with the variable NOWHERE, which is not set; set it, or write the path out."


def test_a_mistyped_folder_of_the_data_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = sentence("--config", "softmax", "--data.root", "dtaa")
    assert said == "--data.root is 'dtaa', but there is no such folder; correct it, or make the folder."
    Path("mine.yaml").write_text(FILE.replace("batch_size: 32", "root: dtaa"))
    assert sentence("--config", "mine.yaml").startswith("--data.root is 'dtaa' (mine.yaml, line 5), but there is no")
    assert not Path("dtaa").exists()
    with pytest.raises(Parsed):  # the default folder is made
        ParsingOnly(*resolve(["fit", "--config", "softmax"]))
