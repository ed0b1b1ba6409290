"""The commands that join several parts, each as a Python function of the same words.

`evaluate`, `predict`, `localize` and `convert` live with what they do. `check` joins the doctor and the
page that shows what it found; the planner stands above the training loop, so what plans and then trains
must stand above both.
"""
