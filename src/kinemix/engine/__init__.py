"""Training and testing runs.

::

    train            the loop            run              a run under way: its parts, saving, resuming
    settle           before a run        run_directory    what a run leaves behind, and its lock
    schedule         learning rates      training_state   checkpoints with what it takes to go on
    optim, freeze    who learns how fast, and who does not
    weight_average   the mean of the weights
    objective        logits and labels to a loss
    launch           devices, processes  logbook, progress, unreadable, interrupt
    measure          a finished run, tested
    trial            one run and its tests, done once    campaign    many trials, several at once
    each_split       all splits of a dataset             ablation    a paper's table (ablation_plan, ablation_report)
    sweep            a search over options (sweep_space, sweep_report)
    recipes, recipe_header, recipe_list, recipe_check    the papers' rows as config files
"""
