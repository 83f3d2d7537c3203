"""The algorithms. They use torch and know nothing of runs: no files, no sweeps, no launchers.

    method        Method, Views, Step, LossTerms: the base class of all methods, and what a loss receives and returns
    registry      METHODS, BASELINES, get_method
    names         the message for an unknown name; the methods of other packages (imports no torch)
    barlow_twins  simclr  byol  vicreg: one file each: settings, loss, module
    baselines     raw pixels and the untrained backbone, which a trained method has to beat
    backbones/    ResNets, vision transformers, and their registry BACKBONES
    layers/       the projector, and exponential moving averages of a network
    ops/          correlation sums, precision, and gathering over ranks

To add a method: write a file like `vicreg.py` and add it to `registry.py`. Another package adds a method with
an entry point in the group `twinbench.methods`.
"""
