"""Training and testing runs.

::

    train            the loop            run              a run under way
    settle           before a run        run_directory    what a run leaves behind, and its lock
    schedule         learning rates      checkpoints      when to save what, and the way back
    training_state   what it takes to go on, on disk
    step_guard       nothing is learned from what is broken: bad_batch writes it down
    optim, freeze    who learns how fast, and who does not
    weight_average   the mean of the weights
    objective        logits and labels to a loss
    watch            what is told about a run: progress (the bar), memory, logbook, tracking (what follows the log),
                     profiling and bottleneck (where the time goes)
    launch           devices, and who has started the processes
    processes        what they do together           portions    micro-batches as they share them
    validation, unreadable, interrupt
    measure          a finished run, tested
    trial            one run and its tests, done once    campaign    many trials, several at once
    each_split       all splits of a dataset             ablation    a paper's table (ablation_plan, ablation_report)
    sweep            a search over options (sweep_space, sweep_report)
    recipes, recipe_header, recipe_list, recipe_check    the papers' rows as config files
"""
