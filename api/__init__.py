"""The HTTP half of arcadapt: ARC tasks and settings in, jobs and their results out.

Imports `jobs` and the light half of `arc_engine`, never `worker`; neither torch nor transformers is loaded here.
"""
