"""Killed runs and launchers: what they end with after being resumed must be what they end with undisturbed."""

from random import Random
from signal import SIGHUP, SIGINT, SIGKILL, SIGTERM

from tests.campaign.case import Case, Command, Expect, Kill
from tests.campaign.good_files import CAPTIONER, CLASSIFIER, GAN

_EPOCHS = ("--trainer.max_epochs=3",)
_RUNS = {
    "fc_net": (*CLASSIFIER, *_EPOCHS),
    "gan": (*GAN, *_EPOCHS),
    "caption_lstm": (*CAPTIONER, "--data.num_train=80", *_EPOCHS),
}
_EVERY = "--last_checkpoint.every_n_train_steps"


def case(random: Random) -> Case:
    """Draws one."""
    topic = random.choice(["fc_net", "fc_net", "gan", "caption_lstm"])
    whole, run = _RUNS[topic], f"logs/{topic}/run"
    every = random.choice([None, 1, 2, 5])
    often = () if every is None else (f"{_EVERY}={every}",)
    killed, words = [], []
    for _ in range(random.choice([1, 1, 2, 3])):
        if random.random() < 0.4:
            step = random.randint(1, 17)
            killer = f"--trainer.callbacks=[{{class_path: tests.kill.KillAtStep, init_args: {{step: {step}}}}}]"
            killed.append(Command("train", (*whole, *often, killer), resumes=run, statuses=(0, -9)))
            words.append(f"step {step}")
        else:
            kill = Kill(random.choice([SIGKILL, SIGKILL, SIGTERM, SIGINT, SIGHUP]), random.uniform(0.3, 3.0))
            killed.append(Command("train", (*whole, *often, "--trainer.callbacks=null"), kill, run))
            words.append(f"{kill.signal.name} at {kill.seconds:.2f} s")
    last = Command("train", (*whole, *often, "--trainer.callbacks=null"), resumes=run)
    reference = (Command("train", (*whole, "--trainer.callbacks=null")),)
    label = f"{topic} killed: {', '.join(words)}; a checkpoint every {every} steps"
    return Case("nothing", label, (*killed, last), expect=Expect.SAME, reference=reference)
