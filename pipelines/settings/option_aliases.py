"""Options of other programs (`--lr`, `--epochs`) and the settings they correspond to."""

_ALIASES_OF = {
    # key of the setting, and its name in a message: options of other programs
    ("optimizer.lr", "the learning rate"): ("lr learning_rate base_lr eta lr0 init_lr max_lr"),
    ("optimizer.weight_decay", "the weight decay"): ("wd weight_decay decay"),
    ("optimizer.momentum", "the momentum"): ("momentum mom"),
    ("optimizer", "the optimizer"): ("optim opt optimiser optimizer_name"),
    ("lr_scheduler", "the schedule"): ("scheduler schedule sched lr_schedule lr_policy lrs"),
    ("trainer.max_epochs", "the number of epochs"): (
        "epochs epoch num_epochs n_epochs nepochs max_epoch num_train_epochs nb_epochs e ep max_epochs"
    ),
    ("trainer.max_steps", "the number of steps"): ("steps num_steps iterations iters max_iter max_iters"),
    ("data.batch_size", "the batch size"): ("bs b batch batchsize batch_size train_batch_size mini_batch"),
    ("data.num_workers", "the number of worker processes"): ("workers num_workers n_workers nw j"),
    ("data.root", "the folder of the data"): (
        "data_dir data_path data_root data_folder dataroot datadir dataset_dir dataset_path root root_dir datapath"
    ),
    ("data", "the data set"): ("dataset data_set dataset_name ds"),
    ("data.flip", "mirroring at random"): ("hflip horizontal_flip"),
    ("data.subset", "the number of training images"): ("num_train n_train num_samples max_samples limit"),
    ("data.val_fraction", "the fraction of validation images"): ("val_split validation_split val_size val_ratio"),
    ("model", "the model"): ("arch network net a model_name architecture"),
    ("model.reg", "the strength of the L2 penalty"): ("reg l2 regularization reg_strength lambda lam"),
    ("model.dropout", "the probability of dropping a unit"): ("dropout drop dropout_rate p"),
    ("model.pretrained", "the pretrained weights"): ("pretrained weights"),
    ("trainer.devices", "the number of GPUs or processes"): (
        "gpus gpu num_gpus n_gpu ngpus gpu_ids num_devices devices nproc_per_node num_processes"
    ),
    ("trainer.accelerator", "the type of device"): ("device accelerator cuda cpu mps tpu use_cuda no_cuda"),
    ("trainer.num_nodes", "the number of machines"): ("nodes num_nodes nnodes"),
    ("trainer.strategy", "the distributed strategy"): ("ddp distributed strategy dp fsdp deepspeed"),
    ("trainer.precision", "the precision"): ("precision amp fp16 bf16 half mixed_precision use_amp"),
    ("trainer.gradient_clip_val", "gradient clipping"): (
        "clip clip_grad grad_clip gradient_clip clip_norm max_grad_norm clip_grad_norm gradient_clip_val"
    ),
    ("trainer.accumulate_grad_batches", "gradient accumulation"): (
        "accumulate accum grad_accum accum_steps gradient_accumulation_steps accumulation_steps"
    ),
    ("trainer.log_every_n_steps", "the steps between two rows of metrics"): ("log_interval log_every print_freq"),
    ("trainer.check_val_every_n_epoch", "the epochs between two validations"): ("val_every eval_every val_interval"),
    ("trainer.fast_dev_run", "a quick test with one batch"): ("debug dry_run smoke_test test_run dev"),
    ("trainer.deterministic", "determinism"): ("deterministic reproducible"),
    ("trainer.profiler", "the profiler"): ("profile profiler"),
    ("seed_everything", "the seed"): ("seed random_seed manual_seed random_state rng_seed s"),
    ("ckpt_path", "the checkpoint to resume from"): (
        "resume checkpoint_path ckpt load restore resume_from from_checkpoint load_from resume_from_checkpoint r"
    ),
    ("checkpoint.monitor", "the metric of the best checkpoint"): ("monitor metric"),
    ("checkpoint.save_top_k", "the number of kept checkpoints"): ("save_top_k keep"),
    ("wandb.mode", "W&B, which is online, offline or disabled,"): (
        "wandb use_wandb no_wandb offline track wandb_mode wandb_offline"
    ),
    ("wandb.project", "the W&B project"): ("project wandb_project project_name"),
    ("wandb.entity", "the W&B entity"): ("entity wandb_entity team"),
    ("wandb.name", "the name on W&B"): ("wandb_name wandb_run_name"),
    ("wandb.group", "the group on W&B"): ("group wandb_group run_group"),
    ("wandb.tags", "the list of tags on W&B"): ("tag tags wandb_tags"),
    ("wandb.notes", "the description on W&B"): ("notes wandb_notes"),
    ("wandb.log_model", "uploading checkpoints to W&B"): ("log_model wandb_log_model"),
    ("config", "the topic or file"): ("topic cfg conf config_file yaml task experiment"),
    ("print_config", "all settings"): ("print_cfg show_config list_config"),
}
_HINTS_FOR = {
    # what to do where no setting corresponds: options of other programs
    (
        "a run is written to logs/TOPIC/RUN in the working folder; start the command in the folder that should contain "
        "logs/."
    ): (
        "output output_dir out outdir out_dir save_dir save_path log_dir logdir logs exp_dir results_dir "
        "result_dir checkpoint_dir work_dir workdir save o default_root_dir"
    ),
    ("a run's folder gets the name in the variable WANDB_RUN_ID, and its W&B page that of --wandb.name."): (
        "name run_name exp_name experiment_name run_id run"
    ),
    (
        "early stopping is --trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val/loss "
        "--trainer.callbacks.patience=3."
    ): ("patience early_stopping early_stop earlystopping"),
    ("the version is in pyproject.toml, and `pip show lightning-231n` prints it."): ("version v"),
    ("training is the command fit."): ("train do_train"),
    ("testing is the command test."): ("test do_test eval evaluate do_eval test_only eval_only"),
    ("the output of a run has no verbosity levels; redirect it, or leave the option out."): ("verbose quiet q silent"),
}

ALIASES = {name: setting for setting, names in _ALIASES_OF.items() for name in names.split()}
"""Option with underscores → key of the corresponding setting, and its name in a message."""

HINTS = {name: hint for hint, names in _HINTS_FOR.items() for name in names.split()}
"""Option with underscores → what to do instead, where no setting corresponds."""


def normalized(name: str) -> str:
    """Returns a name in the form in which names are compared: lower case, underscores, no leading dashes."""
    return name.strip("-").lower().replace("-", "_")
