"""From trained models to the numbers and maps that figures are drawn from.

`study.analyse` goes over a plan's trials whose weights are kept, and `measures` holds what is measured. What
is found is a `results.figure_data.FigureData`, from which `report.figures` draws without torch.
"""
